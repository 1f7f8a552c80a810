"""The partition of the paper: cluster the layers by their metric, and keep the inputs of the highest cluster real."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from bnas.errors import BudgetError
from bnas.select.problem import Problem
from bnas.select.verdict import Verdict


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
    for clusters, size in enumerate(top_cluster_sizes([choice.score.metric for choice in ordered]), 2):
        kept = frozenset(names[-size:])
        if problem.admits(kept):
            where = {name: "in" if name in kept else "below" for name in names}
            return Verdict(kept, {name: f"{place} the highest of {clusters} clusters" for name, place in where.items()})
    if not problem.admits(()):
        raise BudgetError(f"budget {problem.budget}: no cluster of layers fits it; choose the method knapsack")
    return Verdict(frozenset(), dict.fromkeys(names, "even the highest cluster is too much"))


def top_cluster_sizes(values: Sequence[float]) -> Iterator[int]:
    """Yield how many values the highest cluster has, for 2, 3, ... len(values) clusters of least squared error.

    Args:
        values: in rising order.
    """
    count = len(values)
    if not count:
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
