"""Layers with a metric, and limits -> whose inputs stay real: by partition as in the paper, greedily, by a knapsack."""

from collections.abc import Callable, Collection, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from math import gcd

from bnas.cost.budget import SUMS
from bnas.cost.totals import BOPS_PER_OP
from bnas.errors import BudgetError
from bnas.select.problem import Choice, Problem, Verdict


def partition(problem: Problem) -> Verdict:
    """Keep the inputs of the highest cluster of fewest clusters that fits the limits.

    For N = 2, 3, ... clusters of the metrics by k-means, the cluster of the highest mean is taken as soon as it keeps
    the limits; the paper's limit is K / P <= R, K of P layers. K-means is exact: its clusters follow one another on
    the line, so the best cuts are found by dynamic programming. Where no cluster fits, no input stays real.

    Raises:
        BudgetError: no cluster fits, and neither does a network with every input binary.
    Source: Prabhu et al., Hybrid Binary Networks, 2018 (arXiv:1804.03867), algorithm 1.
    """
    ordered = sorted(problem.choices, key=lambda choice: choice.score.metric)
    names = [choice.name for choice in ordered]
    sizes = top_cluster_sizes([choice.score.metric for choice in ordered])
    for clusters, size in enumerate(sizes, min(2, len(names))):
        kept = frozenset(names[-size:])
        if problem.admits(kept):
            where = {name: "in" if name in kept else "below" for name in names}
            return Verdict(kept, {name: f"{place} the highest of {clusters} clusters" for name, place in where.items()})
    if not problem.admits(()):
        raise BudgetError(f"budget {problem.budget}: no cluster of layers fits it; choose the method knapsack")
    return Verdict(frozenset(), dict.fromkeys(names, "even the highest cluster is too much"))


def top_cluster_sizes(values: Sequence[float]) -> Iterator[int]:
    """Yield how many values the highest cluster has, for 2, 3, ... len(values) clusters of least squared error.

    A single value is a cluster of its own.

    Args:
        values: in rising order.
    """
    count = len(values)
    if count < 2:
        yield from [1] * count
        return
    mean = sum(values) / count
    centred = [value - mean for value in values]  # else the squares lose the digits that matter
    sums = list(accumulate(centred, initial=0.0))
    squares = list(accumulate((value * value for value in centred), initial=0.0))

    def spread(start: int, end: int) -> float:
        """Return the squared error of one cluster from start to before end."""
        return squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / (end - start)

    least = [0.0] + [spread(0, end) for end in range(1, count + 1)]  # error of the first `end` values in one cluster
    for clusters in range(2, count + 1):
        before, start = least, 0
        least = [0.0] * (count + 1)
        for end in range(clusters, count + 1):
            least[end], start = min((before[cut] + spread(cut, end), cut) for cut in range(clusters - 1, end))
        yield count - start


Method = Callable[[Problem], Verdict | Collection[str]]


def greedy(problem: Problem) -> Verdict:
    """Go through the layers from the highest metric down, and keep an input real where that fits the limits.

    A limit that real inputs help to keep, as one on BOPs, is met on the way: a layer that brings the network nearer
    to it is taken whatever its value.

    Raises:
        BudgetError: the limits are not met in the end.
    """
    kept: frozenset[str] = frozenset()
    outside, why = problem.excess(kept), dict[str, str]()
    ordered = sorted(problem.choices, key=lambda choice: -choice.score.metric)
    for rank, choice in enumerate(ordered, 1):
        wider = kept | {choice.name}
        excess = problem.excess(wider)
        is_taken = excess < outside or (excess == outside and choice.score.value > 0)
        refused = "does not fit beside those before" if excess > outside else _worthless(choice)
        why[choice.name] = f"rank {rank} of {len(ordered)}, {'taken' if is_taken else refused}"
        if is_taken:
            kept, outside = wider, excess
    if outside:
        raise BudgetError(f"budget {problem.budget}: greedy finds no choice that keeps it; choose the method knapsack")
    return Verdict(kept, why)


def knapsack(problem: Problem) -> Verdict:
    """Keep the inputs real that together have the highest value within the limits: an exact 0-1 knapsack.

    Raises:
        BudgetError: no choice keeps all limits together.
    """
    kept = _worth_most(problem)
    worth = sum(choice.score.value for choice in problem.choices if choice.name in kept)

    def why(choice: Choice) -> str:
        if choice.name in kept:
            return f"in the best set: worth {choice.score.value:.3g} of its {worth:.3g}"
        if choice.score.value <= 0:
            return _worthless(choice)
        value = f"{choice.score.value:.3g}"
        return f"not in the best set: worth {value}, but sets with it that fit are worth no more than {worth:.3g}"

    return Verdict(kept, {choice.name: why(choice) for choice in problem.choices})


def _worthless(choice: Choice) -> str:
    return f"worth nothing ({choice.score.value:.3g})"


def _worth_most(problem: Problem) -> frozenset[str]:
    if not problem.choices:
        return frozenset()
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    values = np.array([choice.score.value for choice in problem.choices])
    largest = np.abs(values).max() or 1.0
    rows, limits = _rows(problem)
    while True:
        found = milp(
            -values / largest,
            integrality=np.ones(len(values)),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(np.array(rows), -np.inf, limits),
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None:
            raise BudgetError(f"budget {problem.budget}: no choice of layers keeps all limits together; raise one")
        taken = found.x > 0.5
        kept = frozenset(choice.name for choice, take in zip(problem.choices, taken, strict=True) if take)
        if problem.admits(kept):
            return kept
        # The solver allows a rounding error over a limit, we do not: forbid this one choice and solve again.
        rows.append(np.where(taken, 1.0, -1.0).tolist())
        limits.append(taken.sum() - 1.0)


def _rows(problem: Problem) -> tuple[list[list[float]], list[float]]:
    """Return the limits as `row . x <= limit`, x being 1 for a layer that keeps its real input.

    What choices add to a quantity are whole multiples of some step, so that the totals within a limit and those over it
    are at least a step apart. The row's limit is put half way between, where a rounding error decides nothing.
    """
    rows, limits = [[1.0] * len(problem.choices)], [problem.most + 0.5]
    none = problem.cost(())
    for name, limit in problem.budget.limits:
        assert name in SUMS
        pairs = [(getattr(choice.kept, name), getattr(choice.binary, name)) for choice in problem.choices]
        more = [_in_parts(kept) - _in_parts(binary) for kept, binary in pairs]
        step = gcd(*more) or 1
        room = (Fraction(limit.at_most) * BOPS_PER_OP - _in_parts(getattr(none, name))) // step
        largest = max(map(abs, more)) or 1
        rows.append([part / largest for part in more])
        limits.append((room + 0.5) * step / largest)
    return rows, limits


def _in_parts(amount: float) -> int:
    """Return a quantity in units of a single binary operation, of which every cost is a whole number."""
    return round(amount * BOPS_PER_OP)


METHODS: dict[str, Method] = {"knapsack": knapsack, "greedy": greedy, "partition": partition}
