"""A space and a quantity -> its cheapest and its dearest network, by the best way to each state after each stage."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from bnas.cost.budget import PEAK
from bnas.cost.totals import Cost
from bnas.searcher.ways import Same, State, Ways, ways_of
from bnas.space.arch import Architecture
from bnas.space.choices import StageChoices
from bnas.space.space import Genes, SearchSpace
from bnas.space.values import OURS, sides

MOST_TRIED = 2048  # states times shapes of a stage; one that offers more is tried at some of its widths and groups
Best = dict[State, tuple[float, Genes]]  # the best way to each state: its price, and the genes so far


def cheapest(space: SearchSpace, quantity: str) -> Architecture:
    """Return the architecture of least `quantity` (one that a budget may limit).

    Exact, unless a stage offers thousands of shapes: then the best of some that are spread over its choices.
    """
    return _found(Same(space), quantity, 1)


def dearest(space: SearchSpace, quantity: str) -> Architecture:
    """Return the architecture of most `quantity`, found as the cheapest is."""
    return _found(Same(space), quantity, -1)


@lru_cache(maxsize=64)
def _found(same: Same, quantity: str, sign: int) -> Architecture:
    return same.space.architecture(_Extreme(same.space, quantity, sign=sign).genes())


class _Extreme:
    """Finds the genotype of least sign * quantity."""

    def __init__(self, space: SearchSpace, quantity: str, *, sign: int) -> None:
        self._space, self._quantity, self._sign = space, quantity, sign
        self._join: Callable[[Iterable[float]], float] = (max if sign > 0 else min) if quantity == PEAK else sum
        self._ways: Ways = ways_of(space)

    def genes(self) -> Genes:
        """Return it."""
        best = Best()
        for genes in itertools.product(*map(_places, (*self._space.stem.choices, *self._space.whole.values()))):
            part, state = self._ways.stem(genes)
            _keep(best, state, self._price(part), genes)
        for stage in range(len(self._space.stages)):
            best = self._after(stage, best)
        ends = [
            (self._join((price, self._price(self._ways.head(state)))), genes) for state, (price, genes) in best.items()
        ]
        return min(ends)[1]

    def _after(self, stage: int, best: Best) -> Best:
        """Return the best way to each state after a stage."""
        choices, after = self._space.stages[stage], Best()
        shapes = list(self._shapes(choices, states=len(best)))
        if 0 in choices.depth:  # its stride is not there either, so that what comes later may cost more
            nothing = (choices.depth.index(0), *[0] * (len(choices.keys) - 1 + max(choices.depth)))
            for state, (price, genes) in best.items():
                _keep(after, state, price, (*genes, *nothing))
        there = [depth for depth in choices.depth if depth]
        if not there:
            return after
        depth = there[self._end(there)]
        place = choices.depth.index(depth)
        for state, (price, genes) in best.items():
            for shape_genes in shapes:
                shape = self._ways.shape(stage, shape_genes, state)
                order = self._ways.order(choices.groups[shape_genes[1]], depth, state.whole)
                first, unmixed, mixed = map(self._best_of, (shape.first, shape.unmixed, shape.mixed))
                blocks = [first, *(mixed if is_mixed else unmixed for is_mixed in order)]
                whole = self._join((price, *(paid for paid, _ in blocks)))
                precisions = [gene for _, gene in blocks] + [0] * (max(choices.depth) - depth)
                _keep(after, shape.after, whole, (*genes, place, *shape_genes, *precisions))
        return after

    def _shapes(self, choices: StageChoices, *, states: int) -> Iterator[Genes]:
        """Yield the shapes that may be best: what is counted of our blocks rises with experts and kernel."""
        areas = [math.prod(sides(kernel)) for kernel in choices.kernel]
        free: list[Sequence[Any]] = [areas if key == "kernel" else getattr(choices, key) for key in choices.keys[1:]]
        tried = [_places(values) for values in free]
        if self._quantity != "latency_ms" and choices.block == (OURS,):
            tried[2:4] = [self._end(choices.experts)], [self._end(areas)]
        while states * math.prod(map(len, tried)) > MOST_TRIED and max(map(len, tried)) > 2:
            longest = max(range(len(tried)), key=lambda number: len(tried[number]))
            tried[longest] = _spread(free[longest], -(-len(tried[longest]) // 2))
        yield from itertools.product(*tried)

    def _price(self, part: Cost) -> float:
        return self._sign * float(getattr(part, self._quantity))

    def _best_of(self, parts: Sequence[Cost]) -> tuple[float, int]:
        """Return the least price and its place; nothing of nothing."""
        return min(((self._price(part), place) for place, part in enumerate(parts)), default=(0.0, 0))

    def _end(self, values: Sequence[int]) -> int:
        return (min if self._sign > 0 else max)(_places(values), key=lambda place: values[place])


def _keep(best: Best, state: State, price: float, genes: Genes) -> None:
    if state not in best or price < best[state][0]:
        best[state] = price, genes


def _places(values: Sequence[Any]) -> list[int]:
    return list(range(len(values)))


def _spread(values: Sequence[Any], most: int) -> list[int]:
    """Return the places of some values, the least and the greatest among them, at even distances in their order."""
    ordered = sorted(_places(values), key=lambda place: values[place])
    most = max(2, most)
    return sorted({ordered[round(number * (len(ordered) - 1) / (most - 1))] for number in range(most)})
