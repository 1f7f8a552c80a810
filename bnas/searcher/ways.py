"""A space -> what its stem and stages cost, part by part: the cost of a genotype without building its architecture.

Costs add up over parts that touch only through their channels and size: a state. So what a part costs is remembered by
its own genes and the state before it.
"""

from functools import lru_cache
from typing import NamedTuple

from bnas.cost.plan import plan_block, plan_head, plan_stem
from bnas.cost.totals import Cost, cost, total
from bnas.space.arch import BlockSpec, Shared
from bnas.space.latency import CallPart, Part, head_part, stem_part, units_of
from bnas.space.space import Genes, SearchSpace
from bnas.space.stem import Stem
from bnas.space.values import Precision, Size, shrunk

_MOST_REMEMBERED = 200_000  # stages of a space


class State(NamedTuple):
    """What a part hands on to the next."""

    channels: int
    size: Size
    whole: Genes = ()  # what was chosen once for the whole network


class Shape(NamedTuple):
    """What the blocks of a stage cost at some choice of all keys but depth."""

    first: tuple[Cost, ...]  # of the first block, one for each precision that the stage offers
    unmixed: tuple[Cost, ...]  # of a later block; nothing where there is none of this kind
    mixed: tuple[Cost, ...]  # of a later block after which a 1x1 convolution mixes the groups
    after: State


class Ways:
    """What every part of the networks of one space costs."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._first = space.first_genes
        self._wholes: dict[Genes, Shared] = {}
        self._stems: dict[Genes, tuple[Cost, State]] = {}
        self._shapes: dict[tuple[int, Genes, State], Shape] = {}
        self._stages: dict[tuple[int, Genes, State], tuple[Cost, State]] = {}
        self._keys = [len(stage.keys) for stage in space.stages]
        places = zip(self._keys, space.precision_places, strict=True)
        self._slices = [slice(place.start - keys, place.stop) for keys, place in places]
        self._alike = [space.stages.index(stage) for stage in space.stages]  # stages of equal choices cost alike

    def cost(self, genes: Genes) -> Cost:
        """Return what the network of a genotype costs."""
        part, state = self.stem(genes[: self._first])
        parts = [part]
        for stage, place in enumerate(self._slices):
            part, state = self._stage(stage, genes[place], state)
            parts.append(part)
        parts.append(self.head(state))
        return total(parts)

    def stem(self, genes: Genes) -> tuple[Cost, State]:
        """Return what a stem costs, and the state after it.

        Args:
            genes: of the stem, and of what is chosen once for the whole network.
        """
        if genes not in self._stems:
            space = self.space
            whole = genes[len(space.stem.keys) :]
            stem = space.stem.stem([values[gene] for values, gene in zip(space.stem.choices, genes, strict=False)])
            binarizers = self._shared(whole).binarizers
            part, size = stem_cost(stem, space.input[0], space.input[1:], binarizers.weight)
            self._stems[genes] = (
                self._timed(part, stem_part(stem, space.input, binarizers)),
                State(stem.width, size, whole),
            )
        return self._stems[genes]

    def shape(self, stage: int, genes: Genes, before: State) -> Shape:
        """Return what the blocks of a stage cost.

        Args:
            genes: of all keys of the stage but depth.
        """
        key = self._alike[stage], genes, before
        if key not in self._shapes:
            self._shapes[key] = self._planned(*key)
        return self._shapes[key]

    def head(self, state: State) -> Cost:
        """Return what the classifier costs."""
        space, classes = self.space, self.space.classes
        precision, binarizers = space.classifier_of(state.whole), self._shared(state.whole).binarizers
        part = _head_cost(state.channels, classes, state.size, precision, binarizers.weight)
        head = head_part((state.channels, *state.size), classes, precision, binarizers)
        return self._timed(part, head, CallPart(space.input, classes))

    def later_blocks(self, groups: int, depth: int, whole: Genes) -> tuple[int, int]:
        """Return how many blocks after the first are not followed by a mixing convolution, and how many are."""
        mixed = sum(self.order(groups, depth, whole))
        return depth - 1 - mixed, mixed

    def order(self, groups: int, depth: int, whole: Genes) -> list[bool]:
        """Return of each block after the first whether a mixing convolution follows."""
        shared = self._shared(whole)
        return [shared.is_mixed(groups, number) for number in range(2, depth + 1)]

    def _shared(self, whole: Genes) -> Shared:
        if whole not in self._wholes:
            self._wholes[whole] = self.space.shared(whole)
        return self._wholes[whole]

    def _stage(self, stage: int, genes: Genes, before: State) -> tuple[Cost, State]:
        key = self._alike[stage], genes, before
        found = self._stages.get(key)
        if found is None:
            choices = self.space.stages[stage]
            if not choices.depth[genes[0]]:
                return total(()), before
            depth, groups = choices.depth[genes[0]], choices.groups[genes[2]]
            shape, precisions = self.shape(stage, genes[1 : self._keys[stage]], before), genes[self._keys[stage] :]
            later = zip(self.order(groups, depth, before.whole), precisions[1:], strict=False)
            blocks = [shape.first[precisions[0]]]
            blocks += [(shape.mixed if mixed else shape.unmixed)[gene] for mixed, gene in later]
            if len(self._stages) > _MOST_REMEMBERED:
                self._stages.clear()
            found = self._stages[key] = total(blocks), shape.after
        return found

    def _planned(self, stage: int, genes: Genes, before: State) -> Shape:
        choices = self.space.stages[stage]
        made = choices.spec(
            [getattr(choices, key)[gene] for key, gene in zip(choices.keys[1:], genes, strict=True)], choices.precision
        )

        shared = self._shared(before.whole)

        def costs(state: State, *, first: bool, mixed: bool) -> tuple[Cost, ...]:
            blocks = [
                made.block_of(state.channels, precision, shared, first=first, mixed=mixed)
                for precision in choices.precision
            ]
            return tuple(
                self._timed(block_cost(block, state.size)[0], *units_of(block, state.size)) for block in blocks
            )

        first = costs(before, first=True, mixed=shared.is_mixed(made.groups, 1))
        after = State(made.width, shrunk(before.size, made.stride), before.whole)
        kinds = self.order(made.groups, max(choices.depth), before.whole)
        unmixed, mixed = (costs(after, first=False, mixed=kind) if kind in kinds else () for kind in (False, True))
        return Shape(first, unmixed, mixed, after)

    def _timed(self, counted: Cost, *parts: Part) -> Cost:
        """Return what is counted, with the latency of its parts where the space has a table of them."""
        table = self.space.latency
        return counted if table is None else counted._replace(nanoseconds=table.of(parts))


class Same:
    """A space, equal to itself alone: what is remembered of it needs no comparison of all that it holds."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def __hash__(self) -> int:
        return id(self.space)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.space is self.space


def ways_of(space: SearchSpace) -> Ways:
    """Return the costs of a space, remembered from one call to the next."""
    return _remembered(Same(space))


@lru_cache(maxsize=8)
def _remembered(same: Same) -> Ways:
    return Ways(same.space)


@lru_cache(maxsize=4096)
def stem_cost(stem: Stem, channels: int, size: Size, weights: str) -> tuple[Cost, Size]:
    """Return what a stem costs on images of a size, and the size after it; remembered."""
    layers, out = plan_stem(stem, channels, size, weights)
    return cost(layers), out


@lru_cache(maxsize=65536)
def block_cost(block: BlockSpec, size: Size) -> tuple[Cost, Size]:
    """Return what a block costs on maps of a size, and the size after it; remembered."""
    layers, out = plan_block.__wrapped__("", block, size)  # not remembered itself: layers take much memory
    return cost(layers), out


@lru_cache(maxsize=4096)
def _head_cost(width: int, classes: int, size: Size, precision: Precision, weights: str) -> Cost:
    return cost(plan_head(width, classes, size, precision, weights))
