"""What was decided: the precision of each layer, as `selection.yaml` holds it and a person may edit it."""

from bnas.space.arch import Binarizers, Precision
from bnas.space.original import Original
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


class Decisions(Spec):
    """What becomes of the layers, by module path. A layer that is not named stays as it is.

    `original` is there where the model was named, as on the command line; it makes the decisions a whole description.
    """

    original: Original | None = None
    binarizers: Binarizers = DEFAULT_BINARIZERS
    layers: dict[str, Decision]
