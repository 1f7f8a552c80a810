"""A model -> its layers, what each would cost in one bit; and the model with the chosen ones replaced."""

from bnas.conversion.observe import argument, at_rest
from bnas.conversion.replace import convert
from bnas.conversion.spec import ConvertedModel
from bnas.conversion.survey import Survey, survey

__all__ = ["ConvertedModel", "Survey", "argument", "at_rest", "convert", "survey"]
