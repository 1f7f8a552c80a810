"""Scored candidates -> those that are worth training alone: good for what they cost, and unlike each other."""

from collections.abc import Iterable, Sequence

from bnas.searcher.candidate import Candidate, paid
from bnas.space.space import Genes, SearchSpace

APART = 0.25  # share of the open dimensions in which finalists differ at least, where enough candidates do


def finalists(candidates: Iterable[Candidate], space: SearchSpace, *, top: int) -> list[Candidate]:
    """Return the best candidate of all, and the best of ever dearer shares of them, the best first.

    Of two it is the best, and the best of the dearer half; of three the best, that of the dearer two thirds, and that
    of the dearest third. For where many widths are offered shared weights rate dear networks no higher than cheap ones,
    though they learn more once they are alone, and half of a budget is left unused (docs/results.md). Networks that
    differ in one gene reach the same accuracy, so each next one is unlike all before it. Where too few are so far
    apart, less has to do.
    """
    ranked = paid(candidates)
    by_ops = sorted(candidate.cost.ops for candidate in ranked)
    open_ = [place for place, dimension in enumerate(space.dimensions) if len(dimension.choices) > 1]
    chosen: list[Candidate] = []
    for rung in range(min(top, len(ranked))):
        least = by_ops[rung * len(by_ops) // top]
        dear = [candidate for candidate in ranked if candidate.cost.ops >= least]
        chosen.append(_unlike(chosen, dear, open_) or next(c for c in ranked if c not in chosen))
    return sorted(chosen, key=ranked.index)


def _unlike(chosen: Sequence[Candidate], ranked: Sequence[Candidate], open_: Sequence[int]) -> Candidate | None:
    """Return the best that differs enough from all chosen ones, or less where none does; None if all are chosen."""
    for apart in range(max(1, round(APART * len(open_))), 0, -1):
        for candidate in ranked:
            if all(_distance(candidate.genes, other.genes, open_) >= apart for other in chosen):
                return candidate
    return None


def _distance(one: Genes, other: Genes, places: Iterable[int]) -> int:
    """Return in how many dimensions two networks differ."""
    return sum(one[place] != other[place] for place in places)
