"""The vocabulary: what one binary network is. Frozen, checked when made, equal by value."""

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bnas.spec import Flag, Spec, Whole, shown
from bnas.trust import Named

Precision = Literal["real", "weight", "binary"]
"""real: real input and weight; weight: real input, binary weight; binary: both binary."""
PRECISIONS: tuple[Precision, ...] = ("real", "weight", "binary")
Downsample = Literal["conv", "max_pool"]
"""conv: the convolution has the stride; max_pool: it sees every pixel, and what it gives is pooled by the stride."""
Activation = Literal["sign", "polynomial", "swish", "react"]  # of ours; a stage names no code
Size = tuple[int, int]  # height and width


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"a kernel side must be odd, so that the padding is the same on both sides; got {kernel}")
    return kernel


Channels = Annotated[Whole, Field(ge=1, le=65536)]
Side = Annotated[Whole, Field(ge=1, le=4096)]
Classes = Annotated[Whole, Field(ge=2, le=1_000_000)]
Kernel = Annotated[Whole, Field(ge=1, le=31), AfterValidator(_odd)]
Stride = Annotated[Whole, Field(ge=1, le=8)]
Depth = Annotated[Whole, Field(ge=1, le=64)]
Experts = Annotated[Whole, Field(ge=1, le=64)]
Levels = Annotated[Whole, Field(ge=1, le=255)]


class StemKind(Spec):
    """Which layers see the image.

    conv: one real convolution. branched: the stem of the expert network (SEEDS of the paper's authors:
    3x3 stride 2 to half the width; 1x1 then 3x3 stride 2 beside a max pooling; joined; 1x1), total stride 4.
    space_to_depth: the pixels of each block of stride x stride become channels of one, and a real convolution follows.
    thermometer: every value of a pixel becomes `levels` bits, by thresholds that are learned, and a binary convolution
    follows: nothing in it is real.
    """

    kind: Literal["conv", "branched", "space_to_depth", "thermometer"] = "conv"
    """`conv`; `branched`, kernel 3 and stride 4; `space_to_depth`, whose stride is its block; or `thermometer`."""

    @model_serializer(mode="wrap")
    def _without_what_other_kinds_have(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class Stem(StemKind):
    """The layers that see the image, of some size; levels are those of a thermometer, None in other kinds."""

    width: Channels
    """Channels that it gives to the first stage."""
    kernel: Kernel = 3
    """Side of its convolution in pixels, odd."""
    stride: Stride = 1
    """Pixels from one place to the next: 2 halves height and width."""
    levels: Levels | None = None
    """Of a `thermometer` alone: bits that each value of a pixel becomes."""

    @model_validator(mode="after")
    def _levels_are_of_a_thermometer(self) -> "Stem":
        if self.kind == "thermometer" and self.levels is None:
            raise ValueError("a thermometer stem needs levels, the bits of each value of a pixel; write levels: 8")
        if self.kind != "thermometer" and self.levels is not None:
            raise ValueError(
                f"levels={self.levels} are of a thermometer stem, but this one is {self.kind}; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _branched_is_fixed(self) -> "Stem":
        if self.kind == "branched" and (self.kernel, self.stride) != (3, 4):
            raise ValueError("a branched stem has kernel 3 and stride 4; write kernel: 3, stride: 4")
        if self.kind == "branched" and self.width % 4:
            raise ValueError(f"width={self.width} of a branched stem must be a multiple of 4")
        return self


ShortcutKind = Literal["repeat", "conv", "bottleneck"]
ShortcutPool = Literal["average", "max"]


class Shortcut(Spec):
    """What goes round a convolution that changes the channels or the size (all others go round as they are).

    repeat: pool, then the channels over again (no MACs); conv: pool, 1x1 conv, batch norm; bottleneck: pool, 1x1 conv
    to 1/reduction of the input channels, batch norm, PReLU, 1x1 conv, batch norm, PReLU. Both convs are real.
    """

    kind: ShortcutKind = "repeat"
    """Pool and channels over again (`repeat`), a real 1x1 convolution (`conv`), or two (`bottleneck`)."""
    pool: ShortcutPool = "average"
    """How it takes a stride: by the `average`, as in papers, or by the `max`, which keeps what is small."""
    reduction: Annotated[Whole, Field(ge=1)] = 4
    """Of `bottleneck`: its middle has the input channels divided by this."""

    @model_serializer(mode="wrap")
    def _only_what_was_said(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what descriptions from before, and their ids, do not have."""
        said: dict[str, Any] = whole(self)
        return {key: value for key, value in said.items() if key != "pool" or value != "average"}


class Binarizers(Spec):
    """How values become bits: names of weight and activation binarizers, and the value padded round binary inputs.

    The activation `react` brings all of ReActNet's: its sign, and in place of every block's PReLU its RPReLU.
    A pad_value of 0 is the literature's training convention; a packed kernel has only -1 and +1.
    """

    weight: Named = "xnor"
    """Weights to bits: `sign`, `xnor`, `alpha_beta`, `irnet`, `group`, or code of yours."""
    activation: Named = "sign"
    """Inputs to bits: `sign`, `polynomial`, `swish`, `react`, or code of yours."""
    pad_value: Literal[-1, 0, 1] = 0
    """What surrounds binary inputs: 0 as in papers, or -1 or 1, which a device with bits alone can have."""

    @property
    def shifts(self) -> bool:
        """Whether the blocks have RPReLU, which shifts what comes in and goes out, in place of PReLU."""
        return self.activation == "react"


class StageSpec(Spec):
    """Blocks of one width; the first of them has the stride. `precision` has one entry a block."""

    width: Channels
    """Channels of every block."""
    groups: Channels = 1
    """Groups of every convolution; must divide the channels on both sides."""
    experts: Experts = 1
    """Filter banks of every convolution, of which a gate chooses one for each image."""
    kernel: Kernel = 3
    """Side of the convolutions in pixels, odd."""
    stride: Stride = 1
    """Of the first block: 2 halves height and width."""
    downsample: Downsample = "conv"
    """Who takes that stride: the convolution (`conv`), or a max pooling of what one of stride 1 gives (`max_pool`)."""
    squeeze_excite: Flag | None = None
    """Whether outputs are weighted as `squeeze_excite` of the network says; left out, what that says."""
    activation: Activation | None = None
    """Inputs to bits, in place of `binarizers.activation`: `sign`, `polynomial`, `swish` or `react`."""
    precision: tuple[Precision, ...] = Field(min_length=1, max_length=64)
    """One of `binary`, `weight` or `real` for each block; with `depth: N` one for all N."""

    @model_validator(mode="before")
    @classmethod
    def _depth_repeats_precision(cls, data: Any) -> Any:
        """Accept `depth: 3` with one precision for all blocks, as people write it."""
        if not isinstance(data, dict) or ("depth" not in data and not isinstance(data.get("precision", "binary"), str)):
            return data
        rest = {key: value for key, value in data.items() if key != "depth"}
        precision = data.get("precision", "binary")
        depth = data.get("depth", 1)
        if type(depth) is not int or not 1 <= depth <= 64:
            raise ValueError(f"depth must be a whole number from 1 to 64, but got {shown(depth)}")
        if isinstance(precision, str):
            return rest | {"precision": [precision] * depth}
        if isinstance(precision, list | tuple) and len(precision) != depth:
            raise ValueError(f"depth={depth} and precision, with {len(precision)} entries, must agree; leave depth out")
        return rest

    @model_validator(mode="after")
    def _a_pooling_has_a_stride(self) -> "StageSpec":
        if self.downsample != "conv" and self.stride == 1:
            raise ValueError(f"downsample: {self.downsample} has no stride to take; leave it out, or give stride: 2")
        return self

    @model_serializer(mode="wrap")
    def _only_what_was_said(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what descriptions from before, and their ids, do not have."""
        said: dict[str, Any] = whole(self)
        return {key: value for key, value in said.items() if key not in LATER_KEYS or value != LATER_KEYS[key]}

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.precision)

    def block(
        self, in_channels: int, precision: Precision, shared: "Shared", *, first: bool, mixed: bool
    ) -> "BlockSpec":
        """Return one of the blocks; the first has the stride."""
        excite = shared.squeeze_excite if self.squeeze_excite is None else self.squeeze_excite
        return BlockSpec(
            in_channels, self.width, self.kernel, self.stride if first else 1, self.groups, self.experts, precision,
            shared.shortcut, excite, _with_activation(shared.binarizers, self.activation), mixed, shared.prelu,
            self.downsample if first else "conv",
        )  # fmt: skip


# What stages of builds from before do not say, and what it means that they do not.
LATER_KEYS: dict[str, str | None] = {"downsample": "conv", "squeeze_excite": None, "activation": None}


class Shared(NamedTuple):
    """What all blocks of a network have alike."""

    shortcut: Shortcut
    squeeze_excite: bool
    binarizers: Binarizers
    prelu: bool
    mix_every: int

    def is_mixed(self, groups: int, number: int) -> bool:
        """Say whether a 1x1 convolution mixes the groups after this block of a stage, if there are any."""
        return groups == 1 or number % self.mix_every == 0


class BlockSpec(NamedTuple):
    """One block, with everything that decides its layers: what cost, builder and supernet memoise by."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    groups: int
    experts: int
    precision: Precision
    shortcut: Shortcut
    squeeze_excite: bool
    binarizers: Binarizers
    mixed: bool = True  # a 1x1 convolution mixes the groups afterwards, if there are any
    prelu: bool = True
    downsample: Downsample = "conv"  # of a stride; where there is none, conv

    @property
    def conv_stride(self) -> int:
        """The stride of the convolution, which leaves it to a pooling behind it where there is one."""
        return self.stride if self.downsample == "conv" else 1

    def again(self, *, kernel: int | None = None, groups: int | None = None) -> "BlockSpec":
        """Return a block of the same kind that comes behind this one."""
        return self._replace(
            in_channels=self.out_channels, kernel=kernel or self.kernel, groups=groups or self.groups, stride=1,
            downsample="conv",
        )  # fmt: skip

    def mixing(self) -> "BlockSpec":
        """Return the 1x1 convolution that mixes the groups of this one."""
        return self.again(kernel=1, groups=1)


class Architecture(Spec):
    """One network: a stem, stages of binary blocks, a real classifier.

    `input` is (channels, height, width). Groups must divide the channels on both sides of every convolution. Where a
    stage has groups, a 1x1 convolution mixes them after every `mix_every` blocks. `prelu: false` leaves every block's
    PReLU out, for targets that take none.
    """

    input: tuple[Channels, Side, Side]
    """Channels, height and width of an image."""
    classes: Classes
    """How many classes it tells apart."""
    stem: Stem
    """The layers that see the image."""
    stages: Annotated[tuple[StageSpec, ...], Field(min_length=1, max_length=32)]
    """Stages of blocks, in order."""
    shortcut: Shortcut = Shortcut()
    """What goes round a convolution that changes channels or size."""
    squeeze_excite: Flag = False
    """Whether every convolution's output is weighted, channel by channel, by what its input holds on average."""
    mix_every: Depth = 1
    """Blocks from one 1x1 convolution that mixes groups to the next."""
    binarizers: Binarizers = Binarizers()
    """How values become bits."""
    prelu: Flag = True
    """Whether every unit ends with a PReLU; FINN and hls4ml take networks without."""

    @model_validator(mode="after")
    def _react_keeps_its_prelu(self) -> "Architecture":
        check_prelu(self.binarizers, (stage.activation for stage in self.stages), prelu=self.prelu)
        return self

    @model_serializer(mode="wrap")
    def _only_what_was_said(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what descriptions from before, and their ids, do not have."""
        said: dict[str, Any] = whole(self)
        return {key: value for key, value in said.items() if key != "prelu" or not value}

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> "Architecture":
        width = self.stem.width
        for index, stage in enumerate(self.stages):
            for side, channels in (("width", stage.width), ("input channels", width)):
                if channels % stage.groups:
                    raise ValueError(
                        f"stages[{index}].groups: {stage.groups} must divide the stage's {side} {channels}; "
                        f"choose from {', '.join(map(str, common_divisors(stage.width, width)))}"
                    )
            width = stage.width
        return self

    def blocks(self) -> tuple[tuple[BlockSpec, ...], ...]:
        """Return the blocks of each stage, with their channels filled in."""
        stages, width = [], self.stem.width
        shared = Shared(self.shortcut, self.squeeze_excite, self.binarizers, self.prelu, self.mix_every)
        for stage in self.stages:
            blocks = []
            for number, precision in enumerate(stage.precision, start=1):
                mixed = shared.is_mixed(stage.groups, number)
                blocks.append(stage.block(width, precision, shared, first=number == 1, mixed=mixed))
                width = stage.width
            stages.append(tuple(blocks))
        return tuple(stages)

    def with_one_expert(self) -> "Architecture":
        """Return the same network with one expert everywhere."""
        stages = tuple(stage.model_copy(update={"experts": 1}) for stage in self.stages)
        return self.model_copy(update={"stages": stages})

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name this architecture; equal architectures have equal ids."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def shrunk(size: Size, stride: int) -> Size:
    """Return the size after a stride, rounded up: what a same-padded odd kernel and a ceiling pool agree on."""
    return -(-size[0] // stride), -(-size[1] // stride)


def check_prelu(binarizers: Binarizers, of_stages: Iterable[str | None], *, prelu: bool) -> None:
    """Raise ValueError if blocks without PReLU are to have the one that an activation binarizer brings."""
    if binarizers.shifts and not prelu:
        raise ValueError("prelu: false takes away what binarizers.activation: react brings; write activation: sign")
    for index, activation in enumerate(of_stages):
        if activation == "react" and not prelu:
            raise ValueError(
                f"prelu: false takes away what stages[{index}].activation: react brings; write activation: sign"
            )


@lru_cache(maxsize=256)
def _with_activation(binarizers: Binarizers, activation: str | None) -> Binarizers:
    return binarizers if activation is None else binarizers.model_copy(update={"activation": activation})


def common_divisors(*numbers: int) -> list[int]:
    """Return the whole numbers that divide all of `numbers`, smallest first."""
    return [d for d in range(1, min(numbers) + 1) if all(n % d == 0 for n in numbers)]
