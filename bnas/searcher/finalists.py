"""Scored candidates -> those that are worth training alone: good, and unlike each other."""

from collections.abc import Iterable

from bnas.searcher.candidate import Candidate, paid
from bnas.space.space import Genes, SearchSpace

APART = 0.25  # share of the open dimensions in which finalists differ at least, where enough candidates do


def finalists(candidates: Iterable[Candidate], space: SearchSpace, *, top: int) -> list[Candidate]:
    """Return the best candidate, and then each next one that is unlike all before it, the best first.

    Networks that differ in one gene reach the same accuracy, so training several of them tells little. Where too few
    are so far apart, less has to do.
    """
    ranked = paid(candidates)
    open_ = [place for place, dimension in enumerate(space.dimensions) if len(dimension.choices) > 1]
    chosen: list[Candidate] = []
    for apart in range(round(APART * len(open_)), -1, -1):
        for candidate in ranked:
            if len(chosen) == top:
                return sorted(chosen, key=ranked.index)
            if candidate.id not in {c.id for c in chosen} and all(
                _distance(candidate.genes, other.genes, open_) >= apart for other in chosen
            ):
                chosen.append(candidate)
    return sorted(chosen, key=ranked.index)


def _distance(one: Genes, other: Genes, places: Iterable[int]) -> int:
    """Return in how many dimensions two networks differ."""
    return sum(one[place] != other[place] for place in places)
