"""The vocabulary: what one binary network is. Frozen, checked when made, equal by value."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from bnas.space.stem import Stem
from bnas.space.values import (
    OURS,
    Activation,
    ActivationBinarizerName,
    BlockName,
    Channels,
    Classes,
    Downsample,
    Every,
    Experts,
    Kernel,
    Precision,
    Side,
    Stride,
    WeightBinarizerName,
    plain,
)
from bnas.spec import Flag, Spec, Whole, id_of, shown
from bnas.trust import CODE

ShortcutKind = Literal["repeat", "conv", "bottleneck"]
ShortcutPool = Literal["average", "max"]


class Shortcut(Spec):
    """What goes round a convolution that changes the channels or the size (all others go round as they are).

    repeat: pool, then the channels over again (no MACs); conv: pool, 1x1 conv, batch norm; bottleneck: pool, 1x1 conv
    to 1/reduction of the input channels, batch norm, PReLU, 1x1 conv, batch norm, PReLU. Both convs are real.
    """

    later: ClassVar = {"pool": "average"}

    kind: ShortcutKind = "repeat"
    """Pool and channels over again (`repeat`), a real 1x1 convolution (`conv`), or two (`bottleneck`)."""
    pool: ShortcutPool = "average"
    """How it takes a stride: by the `average`, as in papers, or by the `max`, which keeps what is small."""
    reduction: Annotated[Whole, Field(ge=1)] = 4
    """Of `bottleneck`: its middle has the input channels divided by this."""


class InputBinarizer(Spec):
    """How inputs become bits: the name of an activation binarizer, and the value padded round binary inputs.

    The activation `react` brings all of ReActNet's: its sign, and in place of every block's PReLU its RPReLU.
    A pad_value of 0 is the literature's training convention; a packed kernel has only -1 and +1.
    """

    activation: Annotated[ActivationBinarizerName, CODE] = "sign"
    """Inputs to bits: `sign`, `polynomial`, `swish`, `react`, or code of yours."""
    pad_value: Literal[-1, 0, 1] = 0
    """What surrounds binary inputs: 0 as in papers, or -1 or 1, which a device with bits alone can have."""

    @property
    def shifts(self) -> bool:
        """Whether the blocks have RPReLU, which shifts what comes in and goes out, in place of PReLU."""
        return self.activation == "react"


class Binarizers(InputBinarizer):
    """How values become bits: names of weight and activation binarizers, and the value padded round binary inputs."""

    weight: Annotated[WeightBinarizerName, CODE] = "xnor"
    """Weights to bits: `sign`, `xnor`, `alpha_beta`, `irnet`, `group`, or code of yours."""


class StageSpec(Spec):
    """Blocks of one width; the first of them has the stride. `precision` has one entry a block.

    A stage of depth 0 is not there: what comes before it goes on to the next.
    """

    later: ClassVar = {"downsample": "conv", "squeeze_excite": None, "activation": None, "block": OURS}

    width: Channels
    """Channels of every block."""
    groups: Channels = 1
    """Groups of every convolution; must divide the channels on both sides."""
    experts: Experts = 1
    """Filter banks of every convolution, of which a gate chooses one for each image."""
    kernel: Kernel = 3
    """Side of the convolutions in pixels, odd; or height and width, as in `1x5`: a signal is an image of height 1."""
    stride: Stride = 1
    """Of the first block: 2 halves height and width."""
    downsample: Downsample = "conv"
    """Who takes that stride: the convolution (`conv`), or a max pooling of what one of stride 1 gives (`max_pool`)."""
    squeeze_excite: Flag | None = None
    """Whether outputs are weighted as `squeeze_excite` of the network says; left out, what that says."""
    activation: Activation | None = None
    """Inputs to bits, in place of `binarizers.activation`: `sign`, `polynomial`, `swish` or `react`."""
    block: Annotated[BlockName, CODE] = OURS
    """Ours (`bnas`), or a class of your own that builds one, as `file.py:attr` or `pkg.mod:attr`."""
    precision: tuple[Precision, ...] = Field(max_length=64)
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
        if type(depth) is not int or not 0 <= depth <= 64:
            raise ValueError(f"depth must be a whole number from 0 to 64, but got {shown(depth)}")
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

    @property
    def depth(self) -> int:
        """The number of blocks; 0 where the stage is not there."""
        return len(self.precision)

    def block_of(
        self, in_channels: int, precision: Precision, shared: "Shared", *, first: bool, mixed: bool
    ) -> "BlockSpec":
        """Return one of the blocks; the first has the stride."""
        excite = shared.squeeze_excite if self.squeeze_excite is None else self.squeeze_excite
        return BlockSpec(
            in_channels, self.width, self.kernel, self.stride if first else 1, self.groups, self.experts, precision,
            shared.shortcut, excite, _with_activation(shared.binarizers, self.activation), mixed, shared.prelu,
            self.downsample if first else "conv", self.block,
        )  # fmt: skip


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
    kernel: int | str
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
    block: str = OURS  # who builds it

    @property
    def conv_stride(self) -> int:
        """The stride of the convolution, which leaves it to a pooling behind it where there is one."""
        return self.stride if self.downsample == "conv" else 1

    @property
    def settings(self) -> dict[str, Any]:
        """What the block's constructor takes beside channels: plain values, which an export writes into its source."""
        return {
            "kernel": plain(self.kernel), "stride": self.stride, "groups": self.groups, "experts": self.experts,
            "precision": self.precision, "shortcut_kind": self.shortcut.kind, "reduction": self.shortcut.reduction,
            "squeeze_excite": self.squeeze_excite, "mixed": self.mixed, "weights": self.binarizers.weight,
            "activations": self.binarizers.activation, "pad_value": self.binarizers.pad_value, "prelu": self.prelu,
            "downsample": self.downsample, "shortcut_pool": self.shortcut.pool,
        }  # fmt: skip

    def again(self, *, kernel: int | str | None = None, groups: int | None = None) -> "BlockSpec":
        """Return a block of ours, otherwise of the same kind, that comes behind this one."""
        return self._replace(
            in_channels=self.out_channels, kernel=kernel or self.kernel, groups=groups or self.groups, stride=1,
            downsample="conv", block=OURS,
        )  # fmt: skip

    def mixing(self) -> "BlockSpec":
        """Return the 1x1 convolution that mixes the groups of this one."""
        return self.again(kernel=1, groups=1)


class Architecture(Spec):
    """One network: a stem, stages of binary blocks, a classifier.

    `input` is (channels, height, width). Groups must divide the channels on both sides of every convolution. Where a
    stage has groups, a 1x1 convolution mixes them after every `mix_every` blocks. `prelu: false` leaves every block's
    PReLU out, for targets that take none.
    """

    later: ClassVar = {"prelu": True, "classifier": "real"}

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
    mix_every: Every = 1
    """Blocks from one 1x1 convolution that mixes groups to the next."""
    binarizers: Binarizers = Binarizers()
    """How values become bits."""
    prelu: Flag = True
    """Whether every unit ends with a PReLU; hls4ml takes networks without."""
    classifier: Precision = "real"
    """Of the last layer: `real`, `weight` (real input, weight in one bit) or `binary`."""

    @model_validator(mode="after")
    def _react_keeps_its_prelu(self) -> "Architecture":
        check_prelu(self.binarizers, (stage.activation for stage in self.stages), prelu=self.prelu)
        return self

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> "Architecture":
        width = self.stem.width
        for index, stage in enumerate(self.stages):
            if not stage.depth:
                continue
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
                blocks.append(stage.block_of(width, precision, shared, first=number == 1, mixed=mixed))
                width = stage.width
            stages.append(tuple(blocks))
        return tuple(stages)

    @property
    def last_width(self) -> int:
        """Channels that the classifier's pooling reads."""
        return next((stage.width for stage in reversed(self.stages) if stage.depth), self.stem.width)

    def with_one_expert(self) -> "Architecture":
        """Return the same network with one expert everywhere."""
        stages = tuple(stage.model_copy(update={"experts": 1}) for stage in self.stages)
        return self.model_copy(update={"stages": stages})

    def as_real(self) -> "Architecture":
        """Return the same network with real weights and real inputs everywhere; of a thermometer, a convolution."""
        stages = tuple(stage.model_copy(update={"precision": ("real",) * stage.depth}) for stage in self.stages)
        bits = {"kind": "conv", "levels": None} if self.stem.kind == "thermometer" else {}
        stem = self.stem.model_copy(update=bits)
        return self.model_copy(update={"stages": stages, "stem": stem, "classifier": "real"})

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name this architecture; equal architectures have equal ids."""
        return id_of(self, spaced=False)


def check_prelu(binarizers: InputBinarizer, of_stages: Iterable[str | None], *, prelu: bool) -> None:
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
