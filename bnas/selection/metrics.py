"""The error and the cost of a layer -> how much it matters that its input stays real."""

from collections.abc import Callable
from typing import NamedTuple

from bnas.errors import SpecError
from bnas.selection.layer import LayerErrors

MILLION = 10**6
GAMMA = 0.02  # weight of small cost beside error in `hybrid`


class Evidence(NamedTuple):
    """What a metric sees of one layer."""

    errors: LayerErrors
    ops_saved: float  # by a binary input, beside binary weights
    share: float  # the layer's MACs, over those of the layer with the most
    gamma: float = GAMMA


class Score(NamedTuple):
    """How much it matters that a layer's input stays real."""

    value: float  # what a knapsack adds up
    metric: float  # what partition and greedy order layers by: the highest stay real


def hybrid(seen: Evidence) -> Score:
    """Return E + gamma / NF, with NF as a share of the largest layer's: large errors and cheap layers stay real.

    Source: Prabhu et al., Hybrid Binary Networks, 2018 (arXiv:1804.03867), section 3. The paper gives no gamma and no
    unit of NF; both are ours. With 0.02 a layer of a tenth of the largest one's MACs gains 0.2, which is as much as
    the errors of usual layers differ.
    """
    metric = seen.errors.plain + seen.gamma / seen.share
    return Score(metric, metric)


def product(seen: Evidence) -> Score:
    """Return E for each million ops that a binary input saves; a knapsack adds up E."""
    return Score(seen.errors.plain, MILLION * seen.errors.plain / seen.ops_saved)


def sensitivity(seen: Evidence) -> Score:
    """Return the change of the loss for each million ops that a binary input saves; a knapsack adds up the changes.

    Raises:
        SpecError: it was not measured.
    """
    change = seen.errors.loss_change
    if change is None:
        raise SpecError("metric sensitivity: the change of the loss was not measured; measure it, or choose product")
    return Score(change, MILLION * change / seen.ops_saved)


Metric = Callable[[Evidence], Score]

METRICS: dict[str, Metric] = {"product": product, "hybrid": hybrid, "sensitivity": sensitivity}
