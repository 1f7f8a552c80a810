"""A model -> its layers, what each would cost in one bit; and the model with the chosen ones replaced."""

from bnas.select.conversion.convert import ConvertedModel, convert
from bnas.select.conversion.observe import argument, at_rest
from bnas.select.conversion.survey import Survey, survey

__all__ = ["ConvertedModel", "Survey", "argument", "at_rest", "convert", "survey"]
