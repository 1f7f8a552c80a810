"""A set of architectures as genotypes: sample, mutate, cross, contain and count them."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import combinations
from random import Random
from typing import Any, NamedTuple

from bnas.errors import SpecError
from bnas.space.arch import Architecture, StageSpec
from bnas.space.choices import sizes
from bnas.space.offers import Offers

Genes = tuple[int, ...]


def genes_text(genes: Genes) -> str:
    """Return a genotype as tables hold it: `2-0-1`."""
    return "-".join(map(str, genes))


def genes_of(text: str) -> Genes:
    """Return the genotype that a table holds as text."""
    return tuple(map(int, text.split("-")))


class Dimension(NamedTuple):
    """One thing to choose: its name, as in `stages[1].width`, and its choices."""

    name: str
    choices: tuple[Any, ...]


class SearchSpace(Offers):
    """A set of architectures that share input, classes, shortcut and binarizers.

    A genotype is one index a dimension, in the order of `dimensions`. Entries that a shallower network does not use
    are 0, so that equal architectures have equal genotypes.
    """

    @property
    def first_genes(self) -> int:
        """How many genes stand before those of the stages."""
        return len(self.stem.keys) + len(self.whole)

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Everything that can be chosen, dimensions of one choice included."""
        found = [Dimension(f"stem.{key}", getattr(self.stem, key)) for key in self.stem.keys]
        found += [Dimension(name, choices) for name, choices in self.whole.items()]
        for index, stage in enumerate(self.stages):
            found += [Dimension(f"stages[{index}].{key}", getattr(stage, key)) for key in stage.keys]
            found += [
                Dimension(f"stages[{index}].precision[{block}]", stage.precision) for block in range(max(stage.depth))
            ]
        return tuple(found)

    @cached_property
    def precision_places(self) -> tuple[range, ...]:
        """Where in a genotype the precisions of a stage's blocks stand, those that may not exist included."""
        found, place = [], self.first_genes
        for stage in self.stages:
            first = place + len(stage.keys)
            place = first + max(stage.depth)
            found.append(range(first, place))
        return tuple(found)

    def architecture(self, genes: Sequence[int]) -> Architecture:
        """Return the architecture of a genotype (indices into the choices of `dimensions`)."""
        values = iter([d.choices[gene] for d, gene in zip(self.dimensions, genes, strict=True)])
        stem = self.stem.stem([next(values) for _ in self.stem.keys])
        whole = tuple(genes[len(self.stem.keys) : self.first_genes])
        shared = self.shared(whole)
        stages = []
        for _ in self.whole:
            next(values)
        for stage in self.stages:
            depth, *shape = (next(values) for _ in stage.keys)
            precision = tuple(next(values) for _ in range(max(stage.depth)))[:depth]
            stages.append(stage.spec(shape, precision))
        return Architecture(
            input=self.input,
            classes=self.classes,
            stem=stem,
            stages=tuple(stages),
            shortcut=shared.shortcut,
            squeeze_excite=self.squeeze_excite,
            mix_every=shared.mix_every,
            binarizers=shared.binarizers,
            prelu=self.prelu,
            classifier=self.classifier_of(whole),
        )

    def genes(self, arch: Architecture) -> Genes:
        """Return the genotype of an architecture.

        One with fewer stages than the space is the network whose other stages are absent: of those that the space
        offers with `depth: [0, ...]`, the first that leave its own where they fit.

        Raises:
            SpecError: the architecture is not in this space; says which choice is not offered.
        """
        absent = [index for index, stage in enumerate(self.stages) if 0 in stage.depth]
        missing = len(self.stages) - len(arch.stages)
        if missing <= 0 or missing > len(absent):
            return self._genes(arch)
        found = [self._genes_or_error(arch, places) for places in combinations(absent, missing)]
        fitting = [genes for genes in found if not isinstance(genes, SpecError)]
        if not fitting:
            raise SpecError(
                f"stages: the architecture has {len(arch.stages)}, the space {len(self.stages)}, and whichever of "
                f"these are left out, the others do not fit; with the first that may be, {found[0]}"
            )
        return fitting[0]

    def _genes_or_error(self, arch: Architecture, places: Sequence[int]) -> Genes | SpecError:
        stages = list(arch.stages)
        for place in places:  # in rising order: each counts those before it
            choices = self.stages[place]
            stages.insert(place, choices.spec([getattr(choices, key)[0] for key in choices.keys[1:]], ()))
        try:
            return self._genes(arch.model_copy(update={"stages": tuple(stages)}))
        except SpecError as error:
            return error

    def _genes(self, arch: Architecture) -> Genes:
        self._check_beside_stages(arch)
        if len(arch.stages) != len(self.stages):
            raise SpecError(f"stages: the architecture has {len(arch.stages)}, the space {len(self.stages)}")
        if arch.stem.kind not in self.stem.kind:
            offered = " or ".join(self.stem.kind)
            raise SpecError(f"stem.kind: the architecture has {arch.stem.kind}, the space {offered}")
        values: list[Any] = [getattr(arch.stem, key) for key in self.stem.keys]
        made = {"shortcut.kind": arch.shortcut.kind, "binarizers.weight": arch.binarizers.weight}
        values += [made[name] if name in made else getattr(arch, name) for name in self.whole]
        shared = self.shared()
        usual = StageSpec.later | {"squeeze_excite": shared.squeeze_excite, "activation": shared.binarizers.activation}
        for index, (stage, choices) in enumerate(zip(arch.stages, self.stages, strict=True)):
            for key, nothing in StageSpec.later.items() if stage.depth else ():
                if key not in choices.keys and getattr(stage, key) not in (nothing, usual[key]):
                    raise SpecError(
                        f"stages[{index}].{key}: {getattr(stage, key)} is not offered; it is no choice here"
                    )
            values += choices.values(stage, shared)
            values += [*stage.precision, *[choices.precision[0]] * (max(choices.depth) - stage.depth)]
        if len(values) != len(self.dimensions):
            raise SpecError("the architecture is deeper than the space allows")
        for dimension, value in zip(self.dimensions, values, strict=True):
            if value not in dimension.choices:
                raise SpecError(f"{dimension.name}: {value} is not one of {list(dimension.choices)}")
        return tuple(d.choices.index(value) for d, value in zip(self.dimensions, values, strict=True))

    def _check_beside_stages(self, arch: Architecture) -> None:
        """Raise SpecError unless the space offers what an architecture has once for all of its stages."""
        for key in ("input", "classes", "squeeze_excite", "prelu"):
            if getattr(arch, key) != getattr(self, key):
                raise SpecError(f"{key}: the architecture has {getattr(arch, key)}, the space {getattr(self, key)}")
        offers = {
            "shortcut": self.shortcut.shortcuts, "mix_every": self.mix_every, "classifier": self.classifier,
            "binarizers": self.binarizers.each,
        }  # fmt: skip
        for key, offered in offers.items():
            if getattr(arch, key) not in offered:
                several = " or ".join(map(str, offered))
                raise SpecError(f"{key}: the architecture has {getattr(arch, key)}, the space {several}")

    def canonical(self, genes: Sequence[int]) -> Genes:
        """Return the genotype with the entries that decide nothing, as those of blocks that do not exist, set to 0."""
        result = list(genes)
        for stage, places in zip(self.stages, self.precision_places, strict=True):
            first = places.start - len(stage.keys)
            depth = stage.depth[genes[first]]
            result[first : places.start] = stage.canonical(genes[first : places.start])
            result[places.start + depth : places.stop] = [0] * (len(places) - depth)
        return tuple(result)

    def deciding(self, genes: Sequence[int]) -> list[int]:
        """Return the places of the entries of a genotype that decide something; `canonical` sets the others to 0."""
        found = list(range(self.first_genes))
        for stage, places in zip(self.stages, self.precision_places, strict=True):
            first = places.start - len(stage.keys)
            found += [first + place for place in stage.deciding(genes[first : places.start])]
            found += places[: stage.depth[genes[first]]]
        return found

    def contains(self, arch: Architecture) -> bool:
        """Say whether an architecture is one of this space."""
        try:
            self.genes(arch)
        except SpecError:
            return False
        return True

    @property
    def size(self) -> int:
        """The number of architectures, each once; but one with nothing to mix for each of `mix_every`."""
        total = math.prod(map(len, (*self.stem.choices, *self.whole.values())))
        for stage in self.stages:
            there = sum(len(stage.precision) ** depth for depth in stage.depth if depth)
            total *= stage.shapes * there + (0 in stage.depth)
        return total

    def sample(self, random: Random) -> Genes:
        """Return a genotype with every dimension drawn evenly and on its own."""
        return self.canonical([random.randrange(len(d.choices)) for d in self.dimensions])

    def fair(self, seed: int, step: int) -> Genes:
        """Return the genotype for a training step, such that every choice of a dimension comes equally often.

        Each dimension deals its choices like cards, shuffled anew each round; a pure function of seed and step.
        """
        genes = []
        for index, dimension in enumerate(self.dimensions):
            cards = len(dimension.choices)
            round_, place = divmod(step, cards)
            deck = list(range(cards))
            Random(f"{seed}/{index}/{round_}").shuffle(deck)
            genes.append(deck[place])
        return self.canonical(genes)

    def mutate(self, genes: Sequence[int], random: Random, *, changes: int = 1) -> Genes:
        """Return a different genotype with up to `changes` dimensions drawn again (the same if there is no other)."""
        open_ = [index for index, d in enumerate(self.dimensions) if len(d.choices) > 1]
        here = self.canonical(genes)
        for _ in range(100 if open_ else 0):  # a change of a block that does not exist changes nothing: draw again
            result = list(here)
            for index in random.sample(open_, min(changes, len(open_))):
                others = [gene for gene in range(len(self.dimensions[index].choices)) if gene != here[index]]
                result[index] = random.choice(others)
            if self.canonical(result) != here:
                return self.canonical(result)
        return here

    def cross(self, first: Sequence[int], second: Sequence[int], random: Random) -> Genes:
        """Return a genotype with each dimension from one of two parents."""
        return self.canonical([random.choice(pair) for pair in zip(first, second, strict=True)])

    def smallest(self) -> Architecture:
        """Return the architecture with the fewest blocks, channels, experts and bits (`feasible.cheapest` counts)."""
        return self._end(min)

    def largest(self) -> Architecture:
        """Return the architecture with the most blocks, channels, experts and real layers, and the fewest groups."""
        return self._end(max)

    def _end(self, end: Callable[[Iterable[int]], int]) -> Architecture:
        places = [(found := sizes(d.name, d.choices)).index(end(found)) for d in self.dimensions]
        return self.architecture(self.canonical(places))
