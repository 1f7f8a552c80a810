"""A network in parts, and a table of how long each of them takes on some machine.

A part is what is measured as one: the stem, a unit (a convolution with all that goes with it), the head, and what a
call takes beside them. What an image takes is the sum, since the parts run one after the other.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bnas.errors import SpecError
from bnas.space.arch import Architecture, Binarizers, BlockSpec
from bnas.space.stem import Stem
from bnas.space.values import OURS, Precision, Size, shrunk, sides
from bnas.spec import Spec, Whole

if TYPE_CHECKING:
    from bnas.space.choices import StageChoices
    from bnas.space.space import SearchSpace

MEASURE = "bnas latency-table SPACE -o FILE measures them"


class CallPart(NamedTuple):
    """What a call takes beside the network's own parts: to check an image, lay it out, and give back the logits."""

    shape: tuple[int, int, int]
    classes: int

    def __str__(self) -> str:
        return f"call {_by(*self.shape)} -> {self.classes}"


class StemPart(NamedTuple):
    """The layers that see the image."""

    stem: Stem
    shape: tuple[int, int, int]
    binarizers: Binarizers  # of a thermometer; other kinds have nothing binary

    def __str__(self) -> str:
        stem, bits = self.stem, self.binarizers
        window = f"{_by(*sides(stem.kernel))} /{stem.stride}"
        if stem.levels is not None:
            window += f", {stem.levels} levels, {bits.weight} {bits.activation} {bits.pad_value}"
        return f"stem {_by(*self.shape)} -> {stem.width}: {stem.kind} {window}"


class UnitPart(NamedTuple):
    """A convolution with the batch norm before it, and the activation and shortcut after it."""

    block: BlockSpec
    size: Size

    def __str__(self) -> str:
        block, bits = self.block, self.block.binarizers
        shape = f"{_by(block.in_channels, *self.size)} -> {block.out_channels}"
        window = f"{_by(*sides(block.kernel))} /{block.stride}, groups {block.groups}, experts {block.experts}"
        kind = f"{block.shortcut.kind} {block.shortcut.reduction}" + ", squeeze-excite" * block.squeeze_excite
        kind += ", no PReLU" * (not block.prelu) + ", max pool" * (block.downsample == "max_pool")
        kind += ", max round it" * (block.shortcut.pool == "max")
        kind += f", {block.block}, mixed {block.mixed}" * (block.block != OURS)
        return f"unit {shape}: {block.precision} {window}, {kind}, {bits.weight} {bits.activation} {bits.pad_value}"


class HeadPart(NamedTuple):
    """Batch norm, mean over the pixels, classifier."""

    shape: tuple[int, int, int]
    classes: int
    precision: Precision = "real"
    binarizers: Binarizers = Binarizers()  # of a classifier in bits

    def __str__(self) -> str:
        bits = self.binarizers
        kind = "" if self.precision == "real" else f": {self.precision}, {bits.weight} {bits.activation}"
        return f"head {_by(*self.shape)} -> {self.classes}{kind}"


Part = CallPart | StemPart | UnitPart | HeadPart
_NOTHING_BINARY = Binarizers()


def stem_part(stem: Stem, shape: tuple[int, int, int], binarizers: Binarizers) -> StemPart:
    """Return a stem's part, the same for all binarizers where nothing in it is binary."""
    return StemPart(stem, shape, _NOTHING_BINARY if stem.levels is None else binarizers)


def head_part(shape: tuple[int, int, int], classes: int, precision: Precision, binarizers: Binarizers) -> HeadPart:
    """Return a head's part, the same for all binarizers where nothing in it is binary."""
    return HeadPart(shape, classes, precision, _NOTHING_BINARY if precision == "real" else binarizers)


def units_of(block: BlockSpec, size: Size) -> tuple[UnitPart, ...]:
    """Return the units of a block: its own, and the one that mixes its groups, where there is one."""
    unit = block._replace(mixed=False) if block.block == OURS else block
    if block.block != OURS or block.groups == 1 or not block.mixed:
        return (UnitPart(unit, size),)
    return UnitPart(unit, size), UnitPart(unit.mixing(), shrunk(size, block.stride))


def parts_of(arch: Architecture) -> Iterator[Part]:
    """Yield the parts of an architecture, in the order in which they run."""
    yield CallPart(arch.input, arch.classes)
    yield stem_part(arch.stem, arch.input, arch.binarizers)
    size = shrunk(arch.input[1:], arch.stem.stride)
    for block in itertools.chain.from_iterable(arch.blocks()):
        yield from units_of(block, size)
        size = shrunk(size, block.stride)
    yield head_part((arch.last_width, *size), arch.classes, arch.classifier, arch.binarizers)


def parts_in(space: "SearchSpace") -> list[Part]:
    """Return every part that a network of a space may have, each once."""
    return list(dict.fromkeys(_parts_in(space)))


class LatencyTable(Spec):
    """How long the parts of networks take on some machine, one image at a time, on one thread."""

    machine: str
    """Where it was measured."""
    kernels: str
    """Of which machine code, by its name in the cache folder."""
    nanoseconds: dict[str, Annotated[Whole, Field(ge=0)]]
    """The median of each part, by the part's name."""

    def of(self, parts: Iterable[Part]) -> int:
        """Return the nanoseconds of parts together.

        Raises:
            SpecError: one is not in the table.
        """
        names = list(map(str, parts))
        try:
            return sum(self.nanoseconds[name] for name in names)
        except KeyError as problem:
            raise SpecError(f"latency: the table has no {problem.args[0]!r}; {MEASURE}") from problem

    def within(self, parts: Iterable[Part]) -> "LatencyTable":
        """Return the rows of some parts.

        Raises:
            SpecError: some are missing; says how many, and one of them.
        """
        names = list(map(str, parts))
        missing = [name for name in names if name not in self.nanoseconds]
        if missing:
            raise SpecError(
                f"latency: the table has {len(names) - len(missing)} of {len(names)} parts of the space, and no "
                f"{missing[0]!r}; {MEASURE}"
            )
        return self.model_copy(update={"nanoseconds": {name: self.nanoseconds[name] for name in names}})


def _read_by_name(value: Any) -> Any:
    return LatencyTable.read(value) if isinstance(value, str) else value


class _OrFile:
    """Says in the JSON schema that a file's name may stand there too."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(core), {"type": "string"}]}


# In a space's YAML the table itself, or the file that holds it.
Latency = Annotated[LatencyTable, BeforeValidator(_read_by_name), _OrFile()]


class _State(NamedTuple):
    channels: int
    size: Size


def _parts_in(space: "SearchSpace") -> Iterator[Part]:
    yield CallPart(space.input, space.classes)
    states: dict[_State, None] = {}
    for stem, binarizers in itertools.product(space.stem.stems(), space.binarizers.each):
        yield stem_part(stem, space.input, binarizers)
        states[_State(stem.width, shrunk(space.input[1:], stem.stride))] = None
    for stage in space.stages:
        after: dict[_State, None] = dict(states) if 0 in stage.depth else {}
        for state in states:
            for block in _blocks(space, stage, state.channels, first=True):
                yield from units_of(block, state.size)
                after[_State(block.out_channels, shrunk(state.size, block.stride))] = None
        for state in after if max(stage.depth) > 1 else ():
            for block in _blocks(space, stage, state.channels, first=False):
                if block.out_channels == state.channels:
                    yield from units_of(block, state.size)
        states = after
    for state, precision, binarizers in itertools.product(states, space.classifier, space.binarizers.each):
        yield head_part((state.channels, *state.size), space.classes, precision, binarizers)


def _blocks(space: "SearchSpace", stage: "StageChoices", channels: int, *, first: bool) -> Iterator[BlockSpec]:
    choices = {key: getattr(stage, key) for key in stage.keys[1:]} | ({} if first else {"stride": (1,)})
    for *shape, precision in itertools.product(*choices.values(), stage.precision):
        made = stage.spec(shape, (precision,))
        for shortcut, binarizers in itertools.product(space.shortcut.shortcuts, space.binarizers.each):
            shared = space.shared()._replace(shortcut=shortcut, binarizers=binarizers)
            # A block of one's own is measured whole, with the setting that says whether groups are mixed behind it.
            unmixed = made.block != OURS and made.groups > 1 and max(space.mix_every) > 1
            for mixed in (True, False) if unmixed else (True,):
                yield made.block_of(channels, precision, shared, first=first, mixed=mixed)


def _by(*sides: int) -> str:
    return "x".join(map(str, sides))
