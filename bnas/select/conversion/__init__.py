"""A model -> its layers, what each would cost in one bit; and the model with the chosen ones replaced."""

from bnas.select.conversion.convert import ConvertedModel, convert
from bnas.select.conversion.observe import answer_of, argument, at_rest, before_sign, copies
from bnas.select.conversion.suitable import Signs, channel_dim
from bnas.select.conversion.survey import Survey, check_kept, survey

__all__ = [
    "ConvertedModel",
    "Signs",
    "Survey",
    "answer_of",
    "argument",
    "at_rest",
    "before_sign",
    "channel_dim",
    "check_kept",
    "convert",
    "copies",
    "survey",
]
