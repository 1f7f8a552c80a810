"""Errors, costs and limits -> the precision of every layer: a pure function, which can be checked by hand."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Real
from typing import TypeVar

from bnas.cost.totals import Cost, total
from bnas.errors import SpecError
from bnas.lookup import find
from bnas.select.methods import METHODS, Method
from bnas.select.metrics import GAMMA, METRICS, Evidence, LayerFacts, LayerScore, Metric
from bnas.select.problem import Choice, Problem, Ratio, Verdict, budget_of, verdict_of
from bnas.select.rules import DEFAULT_RULES, RULES, Fixed, Rules, fixed_layers, match
from bnas.select.selection import DEFAULT_BINARIZERS, Decision, Decisions, Selection
from bnas.space.arch import Binarizers

T = TypeVar("T")

_ANY = Cost(1, 1, 1, 1)  # of a network that is not known yet
NO_SCORE = LayerScore(0.0, 0.0)  # of a layer that was not measured, and is decided on by hand

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
        ratio: the share K / P of the layers that may keep real inputs; `Ratio` says what P counts.
        keep: patterns of the layers that keep real inputs, in place of a method; a published choice is one. A budget
            and a ratio hold for it too.
        metric, method: an entry of `METRICS` and `METHODS`, `pkg.mod:attr`, or a function like them.
        gamma: of the metric `hybrid`.
    Raises:
        SpecError: no budget, ratio or choice; or one of them is not well formed; or a layer that a rule makes binary is
            to be kept; or a method or metric of one's own gives something else than it should.
        NotMeasured: a metric reads what was not measured.
        BudgetError: nothing fits the budget; says the floor. Or what is to be kept does not; says the values.
        LookupFailed: a pattern, metric or method is not known.
    """
    if keep is None and not budget and ratio is None:
        raise SpecError("selection: needs a limit; give a budget as ops=25%, a ratio as 0.3, or the layers to keep")
    fixed = _fixed(layers, rules)
    free = [layer for layer in layers if layer.name not in fixed]
    scores: dict[str, LayerScore] = {}
    if keep is None or all(layer.errors for layer in free):
        scores = _scores(free, _found(metric, METRICS, what="metric"), gamma)
    problem = _problem(layers, rest, fixed, scores, budget, ratio)
    verdict = _by_method(problem, method, metric=_name(metric)) if keep is None else _by_hand(layers, fixed, keep)
    problem.insist(verdict.kept)
    decided = {
        layer.name: Fixed("weight" if layer.name in verdict.kept else "binary", verdict.why[layer.name])
        for layer in free
    }
    chosen = {layer.name: _decision(layer, (fixed | decided)[layer.name]) for layer in layers}
    return Selection(
        tuple(layers), rest, Decisions(binarizers=binarizers, layers=chosen),
        free=frozenset(layer.name for layer in free), scores=scores, metric=_name(metric),
    )  # fmt: skip


def check_asked(*, budget: BudgetItems | None, ratio: float | None, metric: str | Metric, method: str | Method) -> None:
    """Raise what `decide` would raise of these for any model.

    Raises:
        SpecError, LookupFailed: as in `decide`.
    """
    budget_of(budget or (), _ANY)
    if ratio is not None:
        Ratio(ratio, 1)
    _found(metric, METRICS, what="metric"), _found(method, METHODS, what="method")


def check_decidable(
    layers: Sequence[LayerFacts],
    rest: Cost,
    *,
    budget: BudgetItems | None = None,
    ratio: float | None = None,
    keep: Collection[str] | None = None,
    rules: Rules = DEFAULT_RULES,
) -> None:
    """Raise what `decide` would raise of these layers whatever is measured of them.

    Raises:
        SpecError, BudgetError, LookupFailed: as in `decide`.
    """
    fixed = _fixed(layers, rules)
    problem = _problem(layers, rest, fixed, {}, budget, ratio)
    if keep is not None:
        problem.insist(_by_hand(layers, fixed, keep).kept)


def _fixed(layers: Sequence[LayerFacts], rules: Rules) -> dict[str, Fixed]:
    """Return the layers that have no choice.

    Raises:
        SpecError: none is left, as some are frozen.
    """
    fixed = fixed_layers(layers, rules)
    frozen = [name for name, held in fixed.items() if held.why == RULES["frozen"]]
    if frozen and len(fixed) == len(layers):
        raise SpecError(
            f"selection: no layer has a choice, as {len(frozen)} are frozen (requires_grad=False), such as "
            f"{frozen[-1]!r}; call requires_grad_(True), or say --frozen free, which trains them"
        )
    return fixed


def _problem(
    layers: Sequence[LayerFacts],
    rest: Cost,
    fixed: Mapping[str, Fixed],
    scores: Mapping[str, LayerScore],
    budget: BudgetItems | None,
    ratio: float | None,
) -> Problem:
    """Return the question: the layers with a choice, what all else costs, and the limits."""
    free = [layer for layer in layers if layer.name not in fixed]
    real = total([rest, *(layer.cost for layer in layers)])
    others = [layer.costs[fixed[layer.name].precision] for layer in layers if layer.name in fixed]
    counted = len(free) + sum(held.counts for held in fixed.values())
    return Problem(
        [Choice(x.name, scores.get(x.name, NO_SCORE), x.costs["weight"], x.costs["binary"]) for x in free],
        total([rest, *others]),
        budget=budget_of(budget or (), real),
        ratio=None if ratio is None else Ratio(ratio, counted),
    )


def _scores(free: Sequence[LayerFacts], metric: Metric, gamma: float) -> dict[str, LayerScore]:
    """Return the score of each layer with a choice.

    Raises:
        SpecError: a layer was not measured, or its score is no number.
    """
    most = max((layer.macs for layer in free), default=0)
    scores: dict[str, LayerScore] = {}
    for layer in free:
        if layer.errors is None:
            raise SpecError(f"layer {layer.name!r}: its errors were not measured; measure them, or name what to keep")
        saved = layer.costs["weight"].ops - layer.costs["binary"].ops
        score = metric(Evidence(layer.errors, saved, layer.macs / most, gamma))
        if not isinstance(score, LayerScore):
            raise SpecError(f"metric {_name(metric)}: must return a LayerScore, but returned a {type(score).__name__}")
        if not all(isinstance(number, Real) and math.isfinite(number) for number in score):
            raise SpecError(f"layer {layer.name!r}: its metric must be a finite number, but is {score.metric}")
        scores[layer.name] = score
    return scores


def _by_hand(layers: Sequence[LayerFacts], fixed: Mapping[str, Fixed], keep: Collection[str]) -> Verdict:
    """Return real inputs for the layers that the patterns match, as far as they have a choice or count in the ratio.

    Raises:
        SpecError: a layer is to be kept by its name, but is binary by a rule.
    """
    names = [layer.name for layer in layers]
    patterns = (keep,) if isinstance(keep, str) else keep
    if bound := next((name for name in patterns if name in fixed and fixed[name].precision == "binary"), None):
        raise SpecError(
            f"--keep: layer {bound!r} cannot keep a real input, as it is binary by a rule ({fixed[bound].why}); leave "
            "one of the two out"
        )
    matched = {name for pattern in patterns for name in match(pattern, names)}
    real = {name for name, rule in fixed.items() if rule.counts and rule.precision != "binary"}
    kept = frozenset(name for name in matched if name not in fixed or name in real)
    return Verdict(kept, {name: "kept by hand" if name in kept else "not kept" for name in names})


def _by_method(problem: Problem, method: str | Method, *, metric: str) -> Verdict:
    """Return what a method chooses; where it does not say why, the ranks of the layers are what is known."""
    answer = _found(method, METHODS, what="method")(problem)
    if not isinstance(answer, Verdict | Collection) or isinstance(answer, str):
        raise SpecError(
            f"method {_name(method)}: must return a Verdict or the names to keep, but returned a "
            f"{type(answer).__name__}"
        )
    verdict = verdict_of(answer)
    if unknown := verdict.kept - problem.names:
        raise SpecError(
            f"method {_name(method)}: keeps {min(map(str, unknown))!r}, which is no layer with a choice; return "
            "names of problem.choices"
        )
    ordered = sorted(problem.choices, key=lambda choice: -choice.score.metric)
    ranks = {choice.name: f"rank {rank} of {len(ordered)}" for rank, choice in enumerate(ordered, 1)}
    how = f"{metric}, {_name(method)}"
    return Verdict(verdict.kept, {name: f"{how}: {verdict.why.get(name, rank)}" for name, rank in ranks.items()})


def _found(given: str | T, table: Mapping[str, T], *, what: str) -> T:
    return find(given, table, what=what) if isinstance(given, str) else given


def _name(given: str | Metric | Method) -> str:
    return given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)


def _decision(layer: LayerFacts, fixed: Fixed) -> Decision:
    return Decision(precision=fixed.precision, norm=layer.needs_norm).because(fixed.why)
