"""The float model that a selection is about, as a description: its name, its weights, its input."""

from typing import Any

from pydantic import PositiveInt, SerializerFunctionWrapHandler, model_serializer

from bnas.spec import Spec, without_usual
from bnas.trust import Named


class Original(Spec):
    """The float model that decisions are about."""

    model: Named
    """A known name, `file.py:attr` or `pkg.mod:attr`."""
    weights: str | None = None
    """A file of trained weights; none where the model has them itself."""
    input: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Channels, height and width of an image."""
    classes: PositiveInt
    """How many classes it tells apart."""
    normalise: str | None = None
    """How it wants images: `imagenet`, `unit`, `bytes`, MEAN/STD; none: by moments of the training images."""

    @model_serializer(mode="wrap")
    def _only_what_was_said(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was not said: descriptions from before, and their ids, do not have it."""
        return without_usual(whole(self), {"normalise": None})
