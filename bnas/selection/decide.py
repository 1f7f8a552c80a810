"""Errors, costs and limits -> the precision of every layer: a pure function, which can be checked by hand."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from bnas.arch import Binarizers, Precision
from bnas.cost import Cost, total
from bnas.errors import SpecError
from bnas.lookup import find
from bnas.selection.decisions import DEFAULT_BINARIZERS, Decision, Decisions
from bnas.selection.layer import LayerFacts
from bnas.selection.methods import METHODS, Method
from bnas.selection.metrics import GAMMA, METRICS, Evidence, Metric, Score
from bnas.selection.problem import Choice, Problem, budget_of
from bnas.selection.rules import DEFAULT_RULES, Fixed, Rules, fixed_layers, match
from bnas.selection.selection import Selection

BudgetItems = Iterable[str] | Mapping[str, str | int | float]


def decide(
    layers: Sequence[LayerFacts],
    rest: Cost,
    *,
    budget: BudgetItems | None = None,
    ratio: float | None = None,
    keep: Collection[str] | None = None,
    metric: str | Metric = "product",
    method: str | Method = "knapsack",
    gamma: float = GAMMA,
    rules: Rules = DEFAULT_RULES,
    binarizers: Binarizers = DEFAULT_BINARIZERS,
) -> Selection:
    """Decide which layers keep real inputs; all weights become binary but for those that the rules keep.

    Args:
        layers: in the order in which they run.
        rest: the cost of everything beside them.
        budget: upper limits, as `["ops=3M"]`, or `["ops=25%"]` of the real network.
        ratio: how many of the layers with a choice may keep real inputs, as a share of them.
        keep: patterns of the layers that keep real inputs, in place of metric and method; a published choice is one.
        metric, method: an entry of `METRICS` and `METHODS`, `pkg.mod:attr`, or a function like them.
        gamma: of the metric `hybrid`.
    Raises:
        SpecError: no budget, ratio or choice; or one of them is not well formed.
        BudgetError: nothing fits the budget; says the floor.
        LookupFailed: a pattern, metric or method is not known.
    """
    fixed = fixed_layers(layers, rules)
    free = [layer for layer in layers if layer.name not in fixed]
    scores: dict[str, Score] = {}
    if keep is None or all(layer.errors for layer in free):
        scores = _scores(free, find(metric, METRICS, what="metric") if isinstance(metric, str) else metric, gamma)
    name = metric if isinstance(metric, str) else "metric"
    if keep is not None:
        decided = _by_hand(free, keep, [layer.name for layer in layers])
    elif budget or ratio is not None:
        problem = _problem(layers, rest, fixed, scores, budget, ratio)
        kept = (find(method, METHODS, what="method") if isinstance(method, str) else method)(problem)
        decided = _ranked(kept, scores, name)
    else:
        raise SpecError("selection: needs a limit; give a budget as ops=25%, a ratio as 0.3, or the layers to keep")
    chosen = {layer.name: _decision(layer, *(fixed | decided)[layer.name]) for layer in layers}
    return Selection(
        tuple(layers), rest, Decisions(binarizers=binarizers, layers=chosen),
        free=frozenset(layer.name for layer in free), scores=scores, metric=name,
    )  # fmt: skip


def _problem(
    layers: Sequence[LayerFacts],
    rest: Cost,
    fixed: Mapping[str, Fixed],
    scores: Mapping[str, Score],
    budget: BudgetItems | None,
    ratio: float | None,
) -> Problem:
    """Return the question: the layers with a choice, what all else costs, and the limits."""
    free = [layer for layer in layers if layer.name not in fixed]
    real = total([rest, *(layer.cost for layer in layers)])
    others = [layer.costs[fixed[layer.name].precision] for layer in layers if layer.name in fixed]
    return Problem(
        [Choice(layer.name, scores[layer.name], layer.costs["weight"], layer.costs["binary"]) for layer in free],
        total([rest, *others]),
        budget=budget_of(budget or (), real),
        most=_most(ratio, len(free)),
    )


def _scores(free: Sequence[LayerFacts], metric: Metric, gamma: float) -> dict[str, Score]:
    """Return the score of each layer with a choice.

    Raises:
        SpecError: a layer was not measured, or its score is no number.
    """
    most = max((layer.macs for layer in free), default=0)
    scores: dict[str, Score] = {}
    for layer in free:
        if layer.errors is None:
            raise SpecError(f"layer {layer.name!r}: its errors were not measured; measure them, or name what to keep")
        saved = layer.costs["weight"].ops - layer.costs["binary"].ops
        score = metric(Evidence(layer.errors, saved, layer.macs / most, gamma))
        if not math.isfinite(score.value) or not math.isfinite(score.metric):
            raise SpecError(f"layer {layer.name!r}: its metric must be a finite number, but is {score.metric}")
        scores[layer.name] = score
    return scores


def _most(ratio: float | None, count: int) -> int | None:
    if ratio is None:
        return None
    if not 0 <= ratio <= 1:
        raise SpecError(f"ratio: must be between 0 and 1, but got {ratio}; 0.3 lets three of ten inputs stay real")
    return math.floor(ratio * count + 1e-9)  # 0.7 * 10 is a little less than 7


def _by_hand(free: Sequence[LayerFacts], keep: Collection[str], names: Collection[str]) -> dict[str, Fixed]:
    """Return real inputs for the layers that the patterns match, binary ones for the others."""
    matched = {name for pattern in keep for name in match(pattern, names)}
    return {
        layer.name: Fixed("weight", "kept by hand") if layer.name in matched else Fixed("binary", "not kept")
        for layer in free
    }


def _ranked(kept: Collection[str], scores: Mapping[str, Score], metric: str) -> dict[str, Fixed]:
    ordered = sorted(scores, key=lambda name: -scores[name].metric)
    return {
        name: Fixed("weight" if name in kept else "binary", f"{metric}: rank {rank} of {len(ordered)}")
        for rank, name in enumerate(ordered, 1)
    }


def _decision(layer: LayerFacts, precision: Precision, why: str) -> Decision:
    return Decision(precision=precision, norm=layer.needs_norm, why=why)
