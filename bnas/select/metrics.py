"""What is known of one layer, its costs and its errors -> how much it matters that its input stays real."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from bnas.cost.plan import PlannedLayer
from bnas.cost.totals import Cost
from bnas.errors import SpecError
from bnas.space.values import Precision

MILLION = 10**6
GAMMA = 0.02  # weight of small cost beside error in `hybrid`


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


class NotMeasured(SpecError):
    """A metric reads what was not measured; whoever can measure it does, and asks again."""


class Evidence(NamedTuple):
    """What a metric sees of one layer.

    A metric says what it needs by reading it: the loss changes cost several passes for each layer, and are measured
    only for a metric that reads `losses`.
    """

    errors: LayerErrors
    ops_saved: float  # by a binary input, beside binary weights
    share: float  # the layer's MACs, over those of the layer with the most
    gamma: float = GAMMA

    @property
    def losses(self) -> LossChanges:
        """How the loss changes.

        Raises:
            NotMeasured: that is not known yet.
        """
        if self.errors.losses is None:
            raise NotMeasured(
                "metric: it reads how the loss changes, which was not measured; measure it, or take product"
            )
        return self.errors.losses


class LayerScore(NamedTuple):
    """How much it matters that a layer's input stays real."""

    value: float  # what a knapsack adds up
    metric: float  # what partition and greedy order layers by: the highest stay real


def hybrid(seen: Evidence) -> LayerScore:
    """Return E + gamma / NF, with NF as a share of the largest layer's: large errors and cheap layers stay real.

    Source: Prabhu et al., Hybrid Binary Networks, 2018 (arXiv:1804.03867), section 3. The paper gives no gamma and no
    unit of NF; both are ours. No experiment is behind our 0.02: it is small beside an error for the layers that cost
    most (0.02 for the largest), and 0.2 for one of a tenth of its MACs. Set it where the order of layers matters.
    """
    metric = seen.errors.plain + seen.gamma / seen.share
    return LayerScore(metric, metric)


def product(seen: Evidence) -> LayerScore:
    """Return E for each million ops that a binary input saves; a knapsack adds up E."""
    return LayerScore(seen.errors.plain, MILLION * seen.errors.plain / seen.ops_saved)


def sensitivity(seen: Evidence) -> LayerScore:
    """Return what a binary input costs in loss, for each million ops that it saves; a knapsack adds up the losses.

    That is loss(weights and input binary) - loss(weights binary), the layer alone being so: its weights become binary
    either way, so that what they lose decides nothing.
    """
    return LayerScore(seen.losses.input, MILLION * seen.losses.input / seen.ops_saved)


Metric = Callable[[Evidence], LayerScore]

METRICS: dict[str, Metric] = {"product": product, "hybrid": hybrid, "sensitivity": sensitivity}

# What the columns of tables are, for people.
ERROR_MEANT = "what a layer loses where its input x becomes signs, the mean of (x - sign(x))^2 on the images"
PRECISION_MEANT = {"real": "real", "weight": "binary weights, real input", "binary": "binary"}
_METRIC_MEANT = {
    "product": "error for each million ops that a binary input saves; the highest are worth a real input most",
    "hybrid": f"error + gamma / share of the largest layer's MACs (gamma {GAMMA} unless told); the highest stay real",
    "sensitivity": "what a binary input adds to the loss, for each million ops that it saves; the highest stay real",
}


def metric_meant(metric: str) -> str:
    """Return what the column of a metric is, for people."""
    return _METRIC_MEANT.get(metric, "a metric of your own; the highest stay real")
