"""A space and a budget -> even draws from what fits, by counting: nothing is moved inside, little is drawn in vain.

Every network has a chance in `space.sample`. A draw here has the same chances among the networks that fit, and no other
is drawn. So that none is drawn until it fits by luck, the chances to go on to one that fits are added up from the end
of the networks: by state (channels and size), and by how much of each limit is left. What is left is kept in cells, of
what a part takes beyond the least that leads on from its state, and what a part takes is rounded down to whole cells.
So all that fits is counted, and a little that does not, which is looked at when it is drawn, and left out. The draws
are exact whatever the number of cells; with more of them fewer are in vain.

Not exact are draws from a space of so many shapes that counting them would take minutes. They are drawn from
some sub-spaces, each of which offers some of the choices, those of the cheapest networks among them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnas.cost.budget import NO_LIMIT, PEAK, Budget, Limit
from bnas.searcher.by_metric import MetricSpace
from bnas.searcher.extremes import cheapest, dearest
from bnas.searcher.parts import Amounts, Part, amounts, count, in_units, layers, precisions
from bnas.searcher.ways import Same, State, ways_of
from bnas.space.arch import Shared, StageSpec
from bnas.space.choices import StageChoices
from bnas.space.space import Genes, SearchSpace

_TRIES = 500  # draws until one is inside; where the cells are coarse beside the budget, some are not
_MOST_PARTS = 200_000  # of a space that is counted whole
_MOST_PARTS_SOME = 20_000  # of each sub-space of one that is not
_SUB_SPACES = 8
_MOST_CELLS = 2**14  # of all limits together
_MOST_CELLS_EACH = 2**12
_WORK = 10**9  # parts times cells that are added up, at most
End = Callable[[Iterable[int]], int]  # min or max


class _Ways(NamedTuple):
    """The ways on from a state, as arrays of one entry a way."""

    parts: Sequence[Part]
    takes: NDArray[np.intp]  # cells of each limit, [ways, limits]
    chance: NDArray[np.float64]
    place: NDArray[np.intp]  # where in the chances after this layer the state after it begins, less what is taken


class _Cells(NamedTuple):
    """How a limited quantity is cut into cells."""

    least: int  # of any network
    slack: int  # between the least and the limit
    number: int

    def of(self, amount: int) -> int:
        """Return the whole cells in an amount beyond the least; more than there are where it is more than the slack."""
        if amount > self.slack:
            return self.number
        return amount * (self.number - 1) // self.slack if self.slack else 0

    @property
    def is_exact(self) -> bool:
        """Whether every amount has a cell of its own."""
        return self.number == self.slack + 1


class _Counted:
    """The networks of a space that may fit a budget, counted."""

    def __init__(self, space: SearchSpace, budget: Budget) -> None:
        self.space, self._decided = space, isinstance(space, MetricSpace)
        self._limits = [(name, limit) for name, limit in budget.limits if name != PEAK]
        self._names = [name for name, _ in self._limits]
        self._layers = layers(space, self._names, decided=self._decided, peak=_peak(budget))
        self._ways: list[dict[State, _Ways]] = []
        self._after: list[NDArray[np.float64]] = []  # chances after each layer, all states in a row
        self._cells: list[_Cells] = []
        (start,) = self._layers[0]
        self.is_empty = not self._layers[0][start]
        if not self.is_empty:
            self._count_from(start)

    def _count_from(self, start: State) -> None:
        least, most = (self._ends(end) for end in (min, max))
        self._least = least
        parts = sum(len(ways) for layer in self._layers for ways in layer.values())
        each = int(max(16, min(_MOST_CELLS, _WORK / parts)) ** (1 / max(1, len(self._limits))))
        self._cells = [
            _cells(name, limit, least[0][start][place], most[0][start][place], min(each, _MOST_CELLS_EACH))
            for place, (name, limit) in enumerate(self._limits)
        ]
        self.is_empty = any(cells.slack < 0 for cells in self._cells)
        if not self.is_empty:
            self._count()

    def draw(self, random: Random) -> Genes | None:
        """Return a genotype that may fit; None where the chances are too small for a float."""
        (state,) = self._layers[0]
        left = np.array([cells.number - 1 for cells in self._cells], dtype=np.intp)
        genes: Genes = ()
        for number, (ways, after) in enumerate(zip(self._ways, self._after, strict=True)):
            here = ways[state]
            fits = (here.takes <= left).all(1)
            chances = here.chance * after[np.where(fits, here.place + left @ self._strides, 0)] * fits
            summed = np.cumsum(chances)
            if not summed[-1]:
                return None
            chosen = int(np.searchsorted(summed, random.random() * summed[-1], side="right"))
            part = here.parts[chosen]
            genes += part.genes + (self._precisions(number - 1, part, random) if number else ())
            left, state = left - here.takes[chosen], part.after
        if isinstance(self.space, MetricSpace):
            return self.space.decided_by_chance(genes, random)
        return self.space.canonical(genes)

    def _precisions(self, stage: int, part: Part, random: Random) -> Genes:
        if self._decided:
            return (0,) * max(self.space.stages[stage].depth)
        return precisions(self.space, stage, part, random)

    def _ends(self, end: End) -> list[dict[State, Amounts]]:
        """Return the least, or the most, that leads on from each state before each layer, and after the last."""
        states = {part.after for ways in self._layers[-1].values() for part in ways}
        found = [{state: amounts(ways_of(self.space).head(state), self._names) for state in states}]
        for layer in reversed(self._layers):
            found.insert(0, {state: _end(end, ways, found[0]) for state, ways in layer.items()})
        return found

    def _count(self) -> None:
        """Add up the chances from the end."""
        shape = tuple(cells.number for cells in self._cells)
        size = math.prod(shape)
        self._strides = np.array([math.prod(shape[place + 1 :]) for place in range(len(shape))], dtype=np.intp)
        end = np.ones(shape)
        for place, ((name, limit), cells) in enumerate(zip(self._limits, self._cells, strict=True)):
            most = cells.number - 1 - self._at_least(name, limit, cells)
            end[(slice(None),) * place + (slice(max(0, most + 1), None),)] = 0
        states = sorted(self._least[-1])
        after = np.broadcast_to(end, (len(states), *shape))
        for number in reversed(range(len(self._layers))):
            places = {state: place for place, state in enumerate(states)}
            found = {
                state: self._arrays(ways, self._least[number][state], self._least[number + 1], places, size)
                for state, ways in self._layers[number].items()
            }
            self._ways.insert(0, found)
            self._after.insert(0, np.ascontiguousarray(after).ravel())
            before = np.stack([self._added(ways, after, places) for ways in found.values()])
            highest = before.max()
            after, states = (before / highest if highest else before), list(found)
        self.is_empty = not before[0].flat[-1]  # from the start on, with all of every limit left

    def _at_least(self, name: str, limit: Limit, cells: _Cells) -> int:
        """Return how many cells whatever keeps a lower limit takes at least."""
        needed = math.ceil(in_units(name, limit.at_least)) - cells.least
        if self._decided or needed <= 0:  # where precisions are open, parts may take more than they are counted with
            return 0
        if cells.is_exact:
            return needed
        lost = len(self._layers)  # each part may have been rounded down by almost a cell
        return max(0, (needed * (cells.number - 1) // cells.slack if cells.slack else cells.number) - lost + 1)

    def _arrays(
        self, ways: Sequence[Part], least: Amounts, after: dict[State, Amounts], places: dict[State, int], size: int
    ) -> _Ways:
        """Return those of the ways that leave something of each limit."""
        kept, takes = list[Part](), list[list[int]]()
        for part in ways:
            beyond = zip(part.takes, after[part.after], least, self._cells, strict=True)
            cells = [cut.of(taken + onwards - all_) for taken, onwards, all_, cut in beyond]
            if all(taken < cut.number for taken, cut in zip(cells, self._cells, strict=True)):
                kept.append(part)
                takes.append(cells)
        taken = np.array(takes, dtype=np.intp).reshape(len(kept), len(self._cells))
        begins = np.array([places[part.after] * size for part in kept], dtype=np.intp)
        chance = np.array([part.chance for part in kept])
        return _Ways(kept, taken, chance, begins - taken @ self._strides)

    def _added(self, ways: _Ways, after: NDArray[np.float64], places: dict[State, int]) -> NDArray[np.float64]:
        """Return the chances to go on from a state to what fits, by the cells that are left."""
        merged: dict[tuple[int, ...], float] = defaultdict(float)
        for part, takes, chance in zip(ways.parts, ways.takes.tolist(), ways.chance.tolist(), strict=True):
            merged[places[part.after], *takes] += chance
        lengths: tuple[int, ...] = after.shape[1:]
        found = np.zeros(lengths)
        for (place, *cells), chance in merged.items():
            there = tuple(slice(taken, None) for taken in cells)
            here = tuple(slice(None, all_ - taken) for all_, taken in zip(lengths, cells, strict=True))
            found[there] += chance * after[place][here]
        return found


def _end(end: End, ways: Sequence[Part], after: dict[State, Amounts]) -> Amounts:
    whole = ((a + b for a, b in zip(part.takes, after[part.after], strict=True)) for part in ways)
    return tuple(map(end, zip(*whole, strict=True)))


def _peak(budget: Budget) -> float:
    """Return the activation bytes that no part may exceed."""
    return dict(budget.limits).get(PEAK, NO_LIMIT).at_most


def _cells(name: str, limit: Limit, least: int, most: int, number: int) -> _Cells:
    at_most = most if limit.at_most == math.inf else min(most, math.floor(in_units(name, limit.at_most)))
    slack = at_most - least
    return _Cells(least, slack, max(1, min(number, slack + 1)))


class EvenDraws:
    """Draws from the networks of a space that fit a budget."""

    def __init__(self, space: SearchSpace, budget: Budget) -> None:
        """Count them; that takes milliseconds for a space of usual size, and seconds for a large one."""
        self._space, self._budget = space, budget
        decided = isinstance(space, MetricSpace)
        self.is_exact = count(space, decided=decided) <= _MOST_PARTS
        self._counted: dict[int, _Counted] = {0: _Counted(space, budget)} if self.is_exact else {}

    @property
    def is_empty(self) -> bool:
        """Whether it is proved that nothing fits."""
        return self.is_exact and self._counted[0].is_empty

    def draw(self, random: Random) -> Genes | None:
        """Return a genotype inside the budget; None where none was found."""
        for _ in range(_TRIES):
            counted = self._counted[0] if self.is_exact else self._some(random.randrange(_SUB_SPACES))
            if counted.is_empty:
                if self.is_exact:
                    return None
                continue
            drawn = counted.draw(random)
            if drawn is None:
                continue
            genes = drawn if self.is_exact else self._space.genes(counted.space.architecture(drawn))
            if self._budget.admits(ways_of(self._space).cost(genes)):
                return genes
        return None

    def _some(self, number: int) -> _Counted:
        if number not in self._counted:
            self._counted[number] = _Counted(_sub_space(self._space, self._budget, number), self._budget)
        return self._counted[number]


@lru_cache(maxsize=8)
def _remembered(same: Same, budget: Budget) -> EvenDraws:
    return EvenDraws(same.space, budget)


def even_draws(space: SearchSpace, budget: Budget) -> EvenDraws:
    """Return the draws of a space and a budget, counted once."""
    return _remembered(Same(space), budget)


def _sub_space(space: SearchSpace, budget: Budget, number: int) -> SearchSpace:
    """Return one of the sub-spaces of a space that are small enough to be counted.

    Its choices are those of the networks at the ends of each limit, and some others.
    """
    random = Random(f"sub-space {number}")
    ends = [(end, name) for name, limit in budget.limits for end in (cheapest, dearest)[: 1 + (limit.at_least > 0)]]
    archs = [end(space, name) for end, name in ends]
    sub = space
    while True:
        longest = max(
            ((len(spare), stage, key, spare)
             for stage, choices in enumerate(sub.stages)
             for key, spare in _spare(choices, space.shared(), [arch.stages[stage] for arch in archs])),
            default=(0, 0, "", ()),
        )  # fmt: skip
        length, stage, key, spare = longest
        if not length or count(sub, decided=isinstance(sub, MetricSpace)) <= _MOST_PARTS_SOME:
            return sub
        dropped = set(random.sample(spare, -(-length // 2)))
        left = (value for value in getattr(sub.stages[stage], key) if value not in dropped)
        sub = sub.offering(f"stages[{stage}].{key}", *left)


def _spare(choices: StageChoices, shared: Shared, kept: Sequence[StageSpec]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the choices of a stage that none of some networks has made, by key."""
    for key, *values in zip(choices.keys, *(choices.values(stage, shared) for stage in kept), strict=True):
        yield key, tuple(value for value in getattr(choices, key) if value not in values)
    made = {precision for stage in kept for precision in stage.precision}
    yield "precision", tuple(value for value in choices.precision if value not in made)
