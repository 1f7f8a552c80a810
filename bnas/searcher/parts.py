"""A space -> the layers of its networks, from the stem to the last stage: every way through each, by the state before.

Blocks of one stage that cost alike are told apart by how many of them have which precision, not by which ones.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from random import Random
from typing import Any, NamedTuple

from bnas.cost.totals import BOPS_PER_OP, NANOSECONDS_PER_MS, Cost
from bnas.searcher.ways import Shape, State, ways_of
from bnas.space.choices import StageChoices
from bnas.space.space import Genes, SearchSpace

Amounts = tuple[int, ...]  # of some quantities, each in a unit of which every cost is a whole number
Counts = tuple[int, ...]  # how many blocks have each precision
# Of one op, of one millisecond; other quantities are whole numbers themselves.
_UNITS = {"ops": BOPS_PER_OP, "latency_ms": NANOSECONDS_PER_MS}
_IN_UNITS: dict[str, Callable[[Cost], int]] = {
    "ops": lambda part: BOPS_PER_OP * part.flops + part.bops,
    "latency_ms": lambda part: part.nanoseconds,
}


class Part(NamedTuple):
    """One way through the stem or a stage."""

    after: State
    takes: Amounts
    chance: float  # to be drawn
    genes: Genes  # of the stem and the whole network; of a stage but for the precisions of its blocks
    first: int = 0  # precision of the first block
    unmixed: Counts = ()  # of the later blocks after which nothing is mixed
    mixed: Counts = ()  # of the later blocks that mix


def in_units(name: str, value: float) -> float:
    """Return a limit of a quantity in units of which every cost is a whole number."""
    return round(value * _UNITS.get(name, 1), 6)  # 0.0289 ms are 28900 ns, and no 28899.999999999996


def amounts(part: Cost, quantities: Sequence[str]) -> Amounts:
    """Return what a part costs, exactly, in units of which it is a whole number."""
    return tuple(_IN_UNITS.get(name, attrgetter(name))(part) for name in quantities)


def layers(
    space: SearchSpace, quantities: Sequence[str], *, decided: bool, peak: float = math.inf
) -> list[dict[State, list[Part]]]:
    """Return the ways through the stem and each stage that lead to an end; there may be none.

    Args:
        quantities: whose amounts the parts have; they add up.
        decided: leave precisions open, and take of each quantity the least that a part may cost with any of them.
        peak: activation bytes that no part may exceed.
    """
    found = [{State(space.input[0], space.input[1:]): list(_stems(space, quantities, peak))}]
    for stage in range(len(space.stages)):
        states = {part.after for parts in found[-1].values() for part in parts}
        found.append({
            state: list(_ways(space, stage, state, quantities, decided=decided, peak=peak)) for state in sorted(states)
        })  # fmt: skip
    return _leading_on(found)


def _leading_on(found: list[dict[State, list[Part]]]) -> list[dict[State, list[Part]]]:
    """Leave out what leads to a state from which nothing leads on; but for the start, which all begin at."""
    result = [found[-1]]
    for layer in reversed(found[:-1]):
        onward = {state for state, parts in result[0].items() if parts}
        result.insert(0, {state: [part for part in parts if part.after in onward] for state, parts in layer.items()})
    return [
        {state: parts for state, parts in layer.items() if parts or not place} for place, layer in enumerate(result)
    ]


def count(space: SearchSpace, *, decided: bool) -> int:
    """Return how many parts the layers of a space have, without looking at any."""
    stem = space.stem
    whole = math.prod(map(len, space.whole.values()))
    total = whole * math.prod(map(len, stem.choices))
    for index, stage in enumerate(space.stages):
        widths, sizes = len(set(space.widths_before(index))), space.sizes_before(index)
        shapes = math.prod(len(values) for values in _shape_choices(stage))
        total += (
            whole
            * widths
            * len(sizes)
            * shapes
            * sum(_arrangements(space, stage, depth, decided) for depth in stage.depth if depth)
        )
        total += whole * widths * len(sizes) * (0 in stage.depth)
    return total


def precisions(space: SearchSpace, stage: int, part: Part, random: Random) -> Genes:
    """Return precisions of the blocks of a stage, as many of each as a part has, in an order drawn evenly."""
    choices = space.stages[stage]
    depth, groups = choices.depth[part.genes[0]], choices.groups[part.genes[2]]
    if not depth:
        return (0,) * max(choices.depth)
    kinds = {}
    for is_mixed, counts in ((False, part.unmixed), (True, part.mixed)):
        kinds[is_mixed] = [gene for gene, times in enumerate(counts) for _ in range(times)]
        random.shuffle(kinds[is_mixed])
    later = [kinds[is_mixed].pop() for is_mixed in ways_of(space).order(groups, depth, part.after.whole)]
    return (part.first, *later, *[0] * (max(choices.depth) - depth))


def _stems(space: SearchSpace, quantities: Sequence[str], peak: float) -> Iterator[Part]:
    offered = (*space.stem.choices, *space.whole.values())
    choices = list(itertools.product(*(range(len(values)) for values in offered)))
    for genes in choices:
        part, after = ways_of(space).stem(genes)
        if part.activation_bytes <= peak:
            yield Part(after, amounts(part, quantities), 1 / len(choices), genes)


def _ways(
    space: SearchSpace, stage: int, before: State, quantities: Sequence[str], *, decided: bool, peak: float
) -> Iterator[Part]:
    """Yield the ways through a stage."""
    choices, ways = space.stages[stage], ways_of(space)
    if 0 in choices.depth:
        genes = (choices.depth.index(0), *[0] * (len(choices.keys) - 1))
        yield Part(before, (0,) * len(quantities), 1 / len(choices.depth), genes)
    shapes = list(itertools.product(*(range(len(values)) for values in _shape_choices(choices))))
    chance = 1 / (len(shapes) * len(choices.depth))
    for genes in shapes:
        shape = ways.shape(stage, genes, before)
        costs = [
            [amounts(part, quantities) if part.activation_bytes <= peak else None for part in parts]
            for parts in (shape.first, shape.unmixed, shape.mixed)
        ]
        if decided:
            costs = [[_least(parts)] if parts else [] for parts in costs]
        for place, depth in enumerate(choices.depth):
            if not depth:
                continue
            later = ways.later_blocks(choices.groups[genes[1]], depth, before.whole)
            for part in _arranged(shape, costs, later, chance / len(costs[0]) ** depth):
                yield part._replace(genes=(place, *genes))


def _arranged(
    shape: Shape, costs: Sequence[Sequence[Amounts | None]], later: tuple[int, int], chance: float
) -> Iterator[Part]:
    """Yield every number of blocks of each precision that has costs, with the chance of all their orders together."""
    first, *others = costs
    kinds = len(first)
    for gene, takes in enumerate(first):
        for unmixed, mixed in itertools.product(*(_compositions(blocks, kinds) for blocks in later)):
            orders = unmixed.orders * mixed.orders
            pairs = zip((unmixed.counts, mixed.counts), others, strict=True)
            taken = [pair for counts, parts in pairs for pair in zip(counts, parts, strict=False) if pair[0]]
            whole = takes
            for times, part in taken:
                if whole is not None:
                    whole = None if part is None else tuple(a + times * b for a, b in zip(whole, part, strict=True))
            if whole is not None:
                yield Part(shape.after, whole, chance * orders, (), gene, unmixed.counts, mixed.counts)


class _Composition(NamedTuple):
    counts: Counts
    orders: int  # in which blocks of these counts may stand


@lru_cache(maxsize=1024)
def _compositions(blocks: int, kinds: int) -> tuple[_Composition, ...]:
    """Return every way of giving blocks one of some kinds, whatever their order."""
    if kinds == 1:
        return (_Composition((blocks,), 1),)
    return tuple(
        _Composition((here, *rest.counts), math.comb(blocks, here) * rest.orders)
        for here in range(blocks + 1)
        for rest in _compositions(blocks - here, kinds - 1)
    )


def _arrangements(space: SearchSpace, stage: StageChoices, depth: int, decided: bool) -> int:
    """Return how many parts a shape has at some depth, at most."""
    if decided or len(stage.precision) == 1:
        return 1
    kinds, most = len(stage.precision), 0
    for every in space.mix_every:
        mixed = depth // every if max(stage.groups) > 1 else depth - 1
        split = (min(mixed, depth - 1), max(0, depth - 1 - mixed))
        most = max(most, kinds * math.prod(math.comb(blocks + kinds - 1, kinds - 1) for blocks in split))
    return most


def _shape_choices(stage: StageChoices) -> tuple[Sequence[Any], ...]:
    return tuple(getattr(stage, key) for key in stage.keys[1:])


def _least(parts: Sequence[Amounts | None]) -> Amounts | None:
    there = [part for part in parts if part is not None]
    return tuple(map(min, zip(*there, strict=True))) if there else None
