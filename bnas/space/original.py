"""The float model that a selection is about, as a description: its name, its weights, its input."""

from typing import Any

from pydantic import PositiveInt, SerializerFunctionWrapHandler, model_serializer

from bnas.spec import Spec
from bnas.trust import Named


class Original(Spec):
    """The float model that decisions are about.

    Args:
        model: a known name, `file.py:attr` or `pkg.mod:attr`.
        weights: a file of trained weights; none where the model has them itself.
        input: channels, height, width.
        normalise: how it wants its images: `imagenet`, `unit`, `bytes`, or MEAN/STD; None: normalised by mean and
            deviation of the training images.
    """

    model: Named
    weights: str | None = None
    input: tuple[PositiveInt, PositiveInt, PositiveInt]
    classes: PositiveInt
    normalise: str | None = None

    @model_serializer(mode="wrap")
    def _only_what_was_said(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was not said: descriptions from before, and their ids, do not have it."""
        said: dict[str, Any] = whole(self)
        return said if self.normalise is not None else {k: v for k, v in said.items() if k != "normalise"}
