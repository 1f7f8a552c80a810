"""A space -> the layers of its networks, from the stem to the last stage: every way through each, by the state before.

Blocks of one stage that cost alike are told apart by how many of them have which precision, not by which ones.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import NamedTuple

from bnas.cost.plan import shrunk
from bnas.cost.totals import BOPS_PER_OP, Cost
from bnas.searcher.ways import Shape, State, ways_of
from bnas.space.choices import StageChoices
from bnas.space.space import Genes, SearchSpace

Amounts = tuple[int, ...]  # of some quantities, each in a unit of which every cost is a whole number
Counts = tuple[int, ...]  # how many blocks have each precision
UNITS = {"ops": BOPS_PER_OP}  # of one op; other quantities are whole numbers themselves


class Part(NamedTuple):
    """One way through the stem or a stage."""

    after: State
    takes: Amounts
    chance: float  # to be drawn
    genes: Genes  # of the stem; of a stage but for the precisions of its blocks
    first: int = 0  # precision of the first block
    unmixed: Counts = ()  # of the later blocks after which nothing is mixed
    mixed: Counts = ()  # of the later blocks that mix


Layer = Mapping[State, Sequence[Part]]


def amounts(part: Cost, quantities: Sequence[str]) -> Amounts:
    """Return what a part costs, exactly, in units of `UNITS`."""
    return tuple(BOPS_PER_OP * part.flops + part.bops if name == "ops" else getattr(part, name) for name in quantities)


def layers(space: SearchSpace, quantities: Sequence[str], *, decided: bool) -> list[Layer]:
    """Return the ways through the stem and each stage.

    Args:
        quantities: whose amounts the parts have.
        decided: leave precisions open, and take of each quantity the least that a part may cost with any of them.
    """
    found, states = [{State(space.input[0], space.input[1:]): list(_stems(space, quantities))}], set[State]()
    for stage in range(len(space.stages)):
        states = {part.after for parts in found[-1].values() for part in parts}
        found.append({state: list(_ways(space, stage, state, quantities, decided=decided)) for state in sorted(states)})
    return list(found)


def count(space: SearchSpace, *, decided: bool) -> int:
    """Return how many parts the layers of a space have, without looking at any."""
    stem = space.stem
    sizes = {shrunk(space.input[1:], stride) for stride in stem.stride}
    widths, total = len(set(stem.width)), len(stem.width) * len(stem.kernel) * len(stem.stride)
    for stage in space.stages:
        shapes = math.prod(len(values) for values in _shape_choices(stage))
        total += (
            widths * len(sizes) * shapes * sum(_arrangements(space, stage, depth, decided) for depth in stage.depth)
        )
        widths, sizes = len(stage.width), {shrunk(size, stride) for size in sizes for stride in stage.stride}
    return total


def precisions(space: SearchSpace, stage: int, part: Part, random: Random) -> Genes:
    """Return precisions of the blocks of a stage, as many of each as a part has, in an order drawn evenly."""
    choices = space.stages[stage]
    depth, groups = choices.depth[part.genes[0]], choices.groups[part.genes[2]]
    kinds = {}
    for is_mixed, counts in ((False, part.unmixed), (True, part.mixed)):
        kinds[is_mixed] = [gene for gene, times in enumerate(counts) for _ in range(times)]
        random.shuffle(kinds[is_mixed])
    later = [kinds[is_mixed].pop() for is_mixed in ways_of(space).order(groups, depth)]
    return (part.first, *later, *[0] * (max(choices.depth) - depth))


def _stems(space: SearchSpace, quantities: Sequence[str]) -> Iterator[Part]:
    stem = space.stem
    choices = list(itertools.product(*(range(len(values)) for values in (stem.width, stem.kernel, stem.stride))))
    for genes in choices:
        part, after = ways_of(space).stem(genes)
        yield Part(after, amounts(part, quantities), 1 / len(choices), genes)


def _ways(space: SearchSpace, stage: int, before: State, quantities: Sequence[str], *, decided: bool) -> Iterator[Part]:
    """Yield the ways through a stage."""
    choices, ways = space.stages[stage], ways_of(space)
    shapes = list(itertools.product(*(range(len(values)) for values in _shape_choices(choices))))
    chance = 1 / (len(shapes) * len(choices.depth))
    for genes in shapes:
        shape = ways.shape(stage, genes, before)
        costs = [[amounts(part, quantities) for part in parts] for parts in (shape.first, shape.unmixed, shape.mixed)]
        if decided:
            costs = [[_least(parts)] if parts else [] for parts in costs]
        for place, depth in enumerate(choices.depth):
            later = ways.later_blocks(choices.groups[genes[1]], depth)
            for part in _arranged(shape, costs, later, chance / len(costs[0]) ** depth):
                yield part._replace(genes=(place, *genes))


def _arranged(
    shape: Shape, costs: Sequence[Sequence[Amounts]], later: tuple[int, int], chance: float
) -> Iterator[Part]:
    """Yield every number of blocks of each precision, with the chance of all their orders together."""
    first, *others = costs
    kinds = len(first)
    for gene, takes in enumerate(first):
        for unmixed, mixed in itertools.product(*(_compositions(blocks, kinds) for blocks in later)):
            orders = unmixed.orders * mixed.orders
            whole = takes
            for counts, parts in zip((unmixed.counts, mixed.counts), others, strict=True):
                for times, part in zip(counts, parts, strict=False):
                    if times:
                        whole = tuple(a + times * b for a, b in zip(whole, part, strict=True))
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
    kinds, mixed = len(stage.precision), depth // space.mix_every if max(stage.groups) > 1 else depth - 1
    split = (min(mixed, depth - 1), max(0, depth - 1 - mixed))
    return kinds * math.prod(math.comb(blocks + kinds - 1, kinds - 1) for blocks in split)


def _shape_choices(stage: StageChoices) -> tuple[Sequence[int], ...]:
    return stage.width, stage.groups, stage.experts, stage.kernel, stage.stride


def _least(parts: Sequence[Amounts]) -> Amounts:
    return tuple(map(min, zip(*parts, strict=True)))
