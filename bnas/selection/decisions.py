"""What was decided: the precision of each layer, as `selection.yaml` holds it and a person may edit it."""

from pydantic import PositiveInt

from bnas.arch import Binarizers, Precision
from bnas.spec import Flag, Spec

DEFAULT_BINARIZERS = Binarizers()


class Decision(Spec):
    """What becomes of one layer.

    Args:
        norm: where its input is binary, a batch norm stands before the sign; false where the model has one there.
        why: for people.
    """

    precision: Precision
    norm: Flag = True
    why: str = ""


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


class Decisions(Spec):
    """What becomes of the layers, by module path. A layer that is not named stays as it is.

    `original` is there where the model was named, as on the command line; it makes the decisions a whole description.
    """

    original: Original | None = None
    binarizers: Binarizers = DEFAULT_BINARIZERS
    layers: dict[str, Decision]
