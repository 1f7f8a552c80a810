"""The allowed choices: sample, mutate, cross, contain, count and split architectures."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import combinations
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bnas.errors import SpecError
from bnas.space.arch import LATER_KEYS, Architecture, Shared, check_prelu, common_divisors
from bnas.space.choices import BinarizerChoices, Choices, ShortcutChoices, StageChoices, StemChoices, alone, sizes
from bnas.space.latency import Latency
from bnas.space.settings import SearchSettings
from bnas.space.values import Channels, Classes, Every, Precision, Side, Size, shrunk
from bnas.spec import Flag, Spec, without_usual

Genes = tuple[int, ...]


class Dimension(NamedTuple):
    """One thing to choose: its name, as in `stages[1].width`, and its choices."""

    name: str
    choices: tuple[Any, ...]


class SearchSpace(Spec):
    """A set of architectures that share input, classes, shortcut and binarizers.

    A genotype is one index a dimension, in the order of `dimensions`. Entries that a shallower network does not use
    are 0, so that equal architectures have equal genotypes.
    """

    input: tuple[Channels, Side, Side]
    """Channels, height and width of an image; others are resized to it."""
    classes: Classes
    """How many classes it tells apart."""
    stem: StemChoices
    """The layers that see the image."""
    stages: Annotated[tuple[StageChoices, ...], Field(min_length=1, max_length=32)]
    """What may be chosen for each stage, in order."""
    shortcut: ShortcutChoices = ShortcutChoices()
    """What goes round a convolution that changes channels or size."""
    squeeze_excite: Flag = False
    """Whether every convolution's output is weighted, channel by channel, by what its input holds on average."""
    mix_every: Choices[Every] = (1,)
    """Blocks from one 1x1 convolution that mixes groups to the next."""
    binarizers: BinarizerChoices = BinarizerChoices()
    """How values become bits."""
    prelu: Flag = True
    """Whether every unit ends with a PReLU."""
    classifier: Choices[Precision] = ("real",)
    """Of the last layer: `real`, `weight` (real input, weight in one bit) or `binary`."""
    deploy: Literal["c", "finn", "hls4ml", "packed"] | None = None
    """What the networks are for: a search proposes only what it takes."""
    precision: Literal["free", "by_metric", "first_by_metric"] = "free"
    """Real inputs: chosen block by block (`free`), only their number (`by_metric`), or so first (`first_by_metric`)."""
    search: SearchSettings = SearchSettings()
    """Budget, trials and trainings of a search of this space."""
    latency: Latency | None = None
    """What each part takes on some machine, for a budget of latency_ms: a file of `bnas latency-table`."""

    @model_validator(mode="after")
    def _a_metric_has_two_precisions_to_choose_from(self) -> "SearchSpace":
        offered = {index: stage.precision for index, stage in enumerate(self.stages) if len(stage.precision) > 1}
        if self.precision != "free" and not offered:
            raise ValueError(f"precision: {self.precision} has nothing to choose; offer [binary, weight] in a stage")
        for index, precisions in offered.items() if self.precision != "free" else ():
            if len(precisions) > 2 or "binary" not in precisions:
                raise ValueError(
                    f"stages[{index}].precision: {self.precision} chooses between binary and one other, but "
                    f"{list(precisions)} is offered; give [binary, weight]"
                )
        return self

    @model_validator(mode="after")
    def _react_keeps_its_prelu(self) -> "SearchSpace":
        of_stages = ("react" if "react" in (stage.activation or ()) else None for stage in self.stages)
        check_prelu(self.binarizers, of_stages, prelu=self.prelu)
        return self

    @model_serializer(mode="wrap")
    def _only_what_was_said(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what spaces from before do not have, so that their runs go on."""
        usual = {"prelu": True, "deploy": None, "latency": None, "classifier": "real"}
        said = whole(self) | {"mix_every": alone(self.mix_every), "classifier": alone(self.classifier)}
        return without_usual(said, usual)

    @model_validator(mode="after")
    def _groups_divide_widths(self) -> "SearchSpace":
        for index, stage in enumerate(self.stages):
            before = self.widths_before(index)
            for groups in stage.groups:
                for whose, widths in (("the stage", stage.width), ("what comes before it", before)):
                    wrong = next((width for width in widths if width % groups), None)
                    if wrong is not None:
                        allowed = ", ".join(map(str, common_divisors(*stage.width, *before)))
                        raise ValueError(
                            f"stages[{index}].groups: {groups} must divide every width of {whose}, "
                            f"but width {wrong} is offered; choose groups from {allowed}"
                        )
        return self

    def widths_before(self, index: int) -> tuple[int, ...]:
        """Return the channels that may come into a stage, or, behind the last, into the classifier's pooling."""
        widths = self.stem.width
        for stage in self.stages[:index]:
            widths = tuple(dict.fromkeys((*widths, *stage.width))) if 0 in stage.depth else stage.width
        return widths

    def sizes_before(self, index: int) -> set[Size]:
        """Return the heights and widths, in pixels, that may come into a stage."""
        sizes = {shrunk(self.input[1:], stride) for stride in self.stem.stride}
        for stage in self.stages[:index]:
            after = {shrunk(size, stride) for size in sizes for stride in stage.stride}
            sizes = after | sizes if 0 in stage.depth else after
        return sizes

    @property
    def whole(self) -> dict[str, tuple[Any, ...]]:
        """What can be chosen once for a whole network, beside its stem; what has one choice is no dimension.

        Builds from before knew no such choices: the genotypes of their spaces stay what they are.
        """
        offered: dict[str, tuple[Any, ...]] = {
            "shortcut.kind": self.shortcut.kind, "mix_every": self.mix_every, "classifier": self.classifier,
            "binarizers.weight": self.binarizers.weight,
        }  # fmt: skip
        return {name: choices for name, choices in offered.items() if len(choices) > 1}

    @property
    def first_genes(self) -> int:
        """How many genes stand before those of the stages."""
        return len(self.stem.keys) + len(self.whole)

    def shared(self, whole: Genes = ()) -> Shared:
        """Return what all blocks of a network have alike.

        Args:
            whole: one index for each of the choices of `whole`; left out, the first of each.
        """
        genes = dict(zip(self.whole, whole, strict=True)) if whole else {}
        shortcut = self.shortcut.shortcuts[genes.get("shortcut.kind", 0)]
        mix_every = self.mix_every[genes.get("mix_every", 0)]
        binarizers = self.binarizers.each[genes.get("binarizers.weight", 0)]
        return Shared(shortcut, self.squeeze_excite, binarizers, self.prelu, mix_every)

    def classifier_of(self, whole: Genes) -> Precision:
        """Return the classifier's precision, by one index for each of the choices of `whole`."""
        return self.classifier[dict(zip(self.whole, whole, strict=True)).get("classifier", 0)]

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
        if arch.stem.kind != self.stem.kind:
            raise SpecError(f"stem.kind: the architecture has {arch.stem.kind}, the space {self.stem.kind}")
        values: list[Any] = [getattr(arch.stem, key) for key in self.stem.keys]
        made = {"shortcut.kind": arch.shortcut.kind, "binarizers.weight": arch.binarizers.weight}
        values += [made[name] if name in made else getattr(arch, name) for name in self.whole]
        for index, (stage, choices) in enumerate(zip(arch.stages, self.stages, strict=True)):
            for key, usual in LATER_KEYS.items() if stage.depth else ():
                if key not in choices.keys and getattr(stage, key) != usual:
                    raise SpecError(
                        f"stages[{index}].{key}: {getattr(stage, key)} is not offered; it is no choice here"
                    )
            values += choices.values(stage, self.shared())
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
        """The number of architectures, each counted once."""
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

    def split(self, dimension: str) -> tuple[Self, ...]:
        """Return one space for each choice of a dimension (`stages[1].width`; for precision of a stage, all blocks).

        Raises:
            SpecError: there is no such dimension; lists those there are.
        """
        names = {f"stem.{key}": ("stem", 0, key) for key in self.stem.keys}
        names |= {name: ("whole", 0, name) for name in self.whole}
        for index, stage in enumerate(self.stages):
            names |= {f"stages[{index}].{key}": ("stages", index, key) for key in (*stage.keys, "precision")}
        if dimension not in names:
            raise SpecError(f"split: {dimension!r} is no dimension of the space; choose from {', '.join(names)}")
        part, index, key = names[dimension]
        offers = (
            self.whole[key] if part == "whole" else getattr(self.stem if part == "stem" else self.stages[index], key)
        )
        return tuple(self._with(part, index, key, choice) for choice in offers)

    def _with(self, part: str, index: int, key: str, choice: Any) -> Self:
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        if part == "stem":
            fields["stem"] = self.stem.model_copy(update={key: (choice,)})
        elif key in ("mix_every", "classifier"):
            fields[key] = (choice,)
        elif "." in key and part == "whole":
            where, _, name = key.partition(".")
            fields[where] = type(fields[where])(**dict(fields[where]) | {name: (choice,)})
        else:
            stages = list(self.stages)
            stages[index] = stages[index].model_copy(update={key: (choice,)})
            fields["stages"] = tuple(stages)
            if all(len(stage.precision) == 1 for stage in stages):
                fields["precision"] = "free"  # nothing is left for a metric to decide
        return type(self)(**fields)  # not a copy, which would keep the dimensions of the whole
