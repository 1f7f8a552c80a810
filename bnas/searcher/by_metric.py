"""A space whose layers stay real by error and cost: one number, how many, stands for 2^L choices.

What a binary input loses differs from layer to layer, and so does what it saves. Once both are known, one way of
keeping k layers real is better than the others for each topology, and a search need not look at those.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple, Self

from bnas.errors import SpecError
from bnas.searcher.ways import block_cost, stem_cost
from bnas.select import METRICS, Evidence, LayerErrors
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace

Errors = Mapping[tuple[int, int], LayerErrors]  # by stage and block


class DecidedBlock(NamedTuple):
    """A block whose precision is decided: its place in a genotype, its choices there, and what the metric weighs."""

    place: int
    binary: int
    real: int
    errors: LayerErrors
    ops_saved: float
    macs: int


class MetricSpace(SearchSpace):
    """A space that knows what a binary input loses in each block.

    With `precision: by_metric` the precisions of a genotype say only how many blocks keep a real input; which ones
    follows from the metric, at the widths, groups and depths at hand. With `first_by_metric` it is so for samples,
    from which a search begins, and its changes are free.

    Dimensions and genotypes are those of the space that it is made of; `genes` reads any network of that one, and
    `contains` says whether a search of this one may come upon it.
    """

    errors: Errors

    @classmethod
    def of(cls, space: SearchSpace, errors: Errors) -> Self:
        """Return a space with what was measured in it.

        Raises:
            SpecError: a block whose precision is to be decided has no errors.
        """
        for stage, choices in enumerate(space.stages):
            for block in range(max(choices.depth) if len(choices.precision) > 1 else 0):
                if (stage, block) not in errors:
                    raise SpecError(f"errors: block {block} of stage {stage} was not measured")
        return cls(**{name: getattr(space, name) for name in SearchSpace.model_fields}, errors=errors)

    def canonical(self, genes: Sequence[int]) -> Genes:
        """Return the genotype that stands for all with as many real inputs, where these are decided."""
        whole = super().canonical(genes)
        return self.decided(whole) if self.precision == "by_metric" else whole

    def contains(self, arch: Architecture) -> bool:
        """Say whether an architecture is one of this space, its real inputs where the metric puts them."""
        return super().contains(arch) and self.canonical(genes := self.genes(arch)) == genes

    def sample(self, random: Random) -> Genes:
        """Return a genotype with every dimension drawn evenly, how many inputs stay real among them."""
        return self.decided_by_chance([random.randrange(len(d.choices)) for d in self.dimensions], random)

    def decided_by_chance(self, genes: Sequence[int], random: Random) -> Genes:
        """Return the genotype with real inputs where the metric is highest, how many of them drawn evenly."""
        whole = super().canonical(genes)
        return self.decided(whole, kept=random.randint(0, len(list(self._blocks(whole)))))

    def decided(self, genes: Genes, *, kept: int | None = None) -> Genes:
        """Return the genotype with real inputs where the metric is highest: `kept` of them, or as many as it has."""
        result, blocks = list(genes), self.ordered(genes)
        if kept is None:
            kept = sum(genes[block.place] != block.binary for block in blocks)
        for rank, block in enumerate(blocks):
            result[block.place] = block.real if rank < kept else block.binary
        return tuple(result)

    def ordered(self, genes: Genes) -> list[DecidedBlock]:
        """Return the blocks of a genotype whose precision is decided, in the order in which they would stay real."""
        blocks = list(self._blocks(genes))
        most = max((block.macs for block in blocks), default=1)
        metric = METRICS[self.search.metric]

        def wanted(block: DecidedBlock) -> float:
            return metric(Evidence(block.errors, block.ops_saved, block.macs / most)).metric

        return sorted(blocks, key=wanted, reverse=True)

    @property
    def size(self) -> int:
        """The number of architectures, each counted once."""
        if self.precision != "by_metric":
            return super().size
        total, blocks = math.prod(map(len, (*self.stem.choices, *self.whole.values()))), 0
        for stage in self.stages:  # blocks: those that are decided, of all networks together
            ways = sum(stage.shapes if depth else 1 for depth in stage.depth)
            own = stage.shapes * sum(stage.depth) if len(stage.precision) > 1 else 0
            total, blocks = total * ways, blocks * ways + total * own
        return total + blocks

    def _blocks(self, genes: Genes) -> Iterator[DecidedBlock]:
        """Yield the blocks of a genotype whose precision is decided."""
        arch = self.architecture(genes)
        _, size = stem_cost(arch.stem, arch.input[0], arch.input[1:], arch.binarizers.weight)
        for stage, (blocks, places) in enumerate(zip(arch.blocks(), self.precision_places, strict=True)):
            choices = self.stages[stage].precision
            for index, (block, place) in enumerate(zip(blocks, places, strict=False)):
                if len(choices) > 1:
                    binary = choices.index("binary")
                    costs = [block_cost(block._replace(precision=choice), size)[0] for choice in choices]
                    saved = costs[1 - binary].ops - costs[binary].ops
                    yield DecidedBlock(place, binary, 1 - binary, self.errors[stage, index], saved, costs[binary].macs)
                _, size = block_cost(block, size)
