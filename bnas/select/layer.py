"""What is known of one layer before its precision is decided: its cost at each precision, and what binarizing loses."""

from collections.abc import Mapping
from typing import NamedTuple

from bnas.cost.plan import PlannedLayer
from bnas.cost.totals import Cost
from bnas.space.arch import Precision


class LossChanges(NamedTuple):
    """How the loss of the whole network changes when one layer alone does."""

    binary: float  # its weights and its input are binary, as a conversion makes them, and nothing is trained
    input: float  # from binary weights to a binary input beside them, both at the scale that fits the real output


class LayerErrors(NamedTuple):
    """What binarizing one layer loses, measured on some images.

    x is the layer's input as it stands before the sign, W its weights.
    """

    plain: float  # ||x - sign(x)||^2 / n, over n values
    scale_invariant: float  # ||x - s sign(x)||^2 / ||x||^2 at the best s
    weights: Mapping[str, float]  # by weight binarizer: ||W - W~||^2 / ||W||^2, at the best scale for each filter
    losses: LossChanges | None = None  # None: not measured
    constant_signs: float = 0.0  # share of x's channels whose sign is the same everywhere; 1: no bit tells anything


class LayerFacts(NamedTuple):
    """One layer of a model, by its module path.

    `costs` holds one entry for each precision that the layer can have, the first for the one that it has now. With an
    `obstacle` there is only that.
    """

    planned: PlannedLayer  # as the model has it now; the first call, where there are several
    costs: Mapping[Precision, Cost]  # of all its calls, with the batch norm that a binary input may need
    obstacle: str = ""  # why its precision cannot be changed
    needs_norm: bool = True  # a binary input must be normalised first, as the model does not
    is_frozen: bool = False  # its weights are not trained
    sees_input: bool = False  # its input is the model's own
    gives_output: bool = False  # its output is the model's own
    errors: LayerErrors | None = None

    @property
    def name(self) -> str:
        """The module path."""
        return self.planned.name

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image, the same at every precision."""
        return self.cost.macs

    @property
    def precision(self) -> Precision:
        """The precision that it has now."""
        return next(iter(self.costs))

    @property
    def cost(self) -> Cost:
        """What it costs now."""
        return self.costs[self.precision]
