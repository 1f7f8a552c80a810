"""The float model that a selection is about, as a description: its name, its weights, its input."""

from pydantic import PositiveInt

from bnas.spec import Spec


class Original(Spec):
    """The float model that decisions are about.

    Args:
        model: a known name, `file.py:attr` or `pkg.mod:attr`.
        weights: a file of trained weights; none where the model has them itself.
        input: channels, height, width.
    """

    model: str
    weights: str | None = None
    input: tuple[PositiveInt, PositiveInt, PositiveInt]
    classes: PositiveInt
