"""The error and the cost of a layer -> how much it matters that its input stays real."""

from collections.abc import Callable
from typing import NamedTuple

from bnas.errors import SpecError
from bnas.select.layer import LayerErrors, LossChanges

MILLION = 10**6
GAMMA = 0.02  # weight of small cost beside error in `hybrid`


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
