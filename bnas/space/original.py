"""The float model that a selection is about, as a description: its name, its weights, its input."""

from typing import ClassVar

from pydantic import PositiveInt

from bnas.spec import Spec
from bnas.trust import Named


class Original(Spec):
    """The float model that decisions are about."""

    later: ClassVar = {"normalise": None}

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
