"""Architecture -> planned layers: the only shape inference. Cost, export and report walk what this returns."""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

from bnas.arch import Architecture, BlockSpec, Precision, Stem

Size = tuple[int, int]
Role = Literal["stem", "main", "mix", "shortcut", "gate", "squeeze_excite", "classifier", "norm", "activation", "other"]
Kind = Literal["conv", "linear", "norm", "activation"]

_SCALE_SHARED_BY_EXPERTS = frozenset({"sign"})
_SCALE_WITHOUT_OFFSET = frozenset({"sign", "xnor"})


@dataclass(frozen=True)
class PlannedLayer:
    """One layer as every part of the tool sees it.

    Sizes are (height, width) in pixels. `real_values` counts the float32 values a deployed layer holds beside its
    weights: biases, scales and offsets of binary weights, slopes, and batch norm folded to a factor and a shift.
    """

    name: str  # module path in the built network
    role: Role
    kind: Kind
    in_channels: int
    out_channels: int
    in_size: Size
    out_size: Size
    kernel: Size = (1, 1)
    stride: Size = (1, 1)
    groups: int = 1
    experts: int = 1
    precision: Precision = "real"
    real_values: int = 0

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates for one image. Experts do not multiply them: one is chosen."""
        if self.kind not in ("conv", "linear"):
            return 0
        return self.out_channels * self.fan_in * math.prod(self.out_size)

    @cached_property
    def fan_in(self) -> int:
        """Weights behind one output value."""
        return self.in_channels // self.groups * math.prod(self.kernel)

    @cached_property
    def weights(self) -> int:
        """Weights of all experts, binary or real."""
        if self.kind not in ("conv", "linear"):
            return 0
        return self.experts * self.out_channels * self.fan_in

    @cached_property
    def weight_bits(self) -> int:
        """Bits that one weight takes when deployed."""
        return 32 if self.precision == "real" else 1

    @cached_property
    def bops(self) -> int:
        """MACs between a binary input and a binary weight."""
        return self.macs if self.precision == "binary" else 0

    @cached_property
    def flops(self) -> int:
        """All other MACs."""
        return self.macs - self.bops

    @cached_property
    def bytes(self) -> int:
        """Bytes of the packed weights, rounded up to whole bytes, and of the real values."""
        return -(-self.weights * self.weight_bits // 8) + 4 * self.real_values


def scale_values(precision: Precision, binarizer: str, *, experts: int, out_channels: int) -> int:
    """Return how many scales and offsets a deployed layer of binary weights keeps, the learned alpha folded in."""
    if precision == "real":
        return 0
    filters = out_channels if binarizer in _SCALE_SHARED_BY_EXPERTS else experts * out_channels
    return filters if binarizer in _SCALE_WITHOUT_OFFSET else 2 * filters


def plan(arch: Architecture) -> tuple[PlannedLayer, ...]:
    """Return the layers of an architecture in the order in which they run.

    Source of the block: Bulat et al., High-Capacity Expert Binary Networks (arXiv:2010.03558), section 4.
    """
    _, height, width = arch.input
    layers, size = plan_stem(arch.stem, arch.input[0], (height, width))
    planned = list(layers)
    for stage, blocks in enumerate(arch.blocks()):
        for index, block in enumerate(blocks):
            layers, size = plan_block(f"stages.{stage}.{index}", block, size)
            planned.extend(layers)
    planned.extend(plan_head(arch.stages[-1].width, arch.classes, size))
    return tuple(planned)


@lru_cache(maxsize=4096)
def plan_stem(stem: Stem, channels: int, size: Size) -> tuple[tuple[PlannedLayer, ...], Size]:
    """Return the stem's layers and the size after it."""
    if stem.kind == "conv":
        return _stem_conv("stem", channels, stem.width, size, kernel=stem.kernel, stride=stem.stride)
    half, quarter = stem.width // 2, stem.width // 4
    first, mid = _stem_conv("stem.first", channels, half, size, kernel=3, stride=2)
    squeeze, _ = _stem_conv("stem.branch.0", half, quarter, mid, kernel=1, stride=1)
    spread, small = _stem_conv("stem.branch.1", quarter, half, mid, kernel=3, stride=2)
    join, _ = _stem_conv("stem.join", stem.width, stem.width, small, kernel=1, stride=1)
    return first + squeeze + spread + join, small


def _stem_conv(
    name: str, in_channels: int, out_channels: int, size: Size, *, kernel: int, stride: int
) -> tuple[tuple[PlannedLayer, ...], Size]:
    """Return conv, batch norm, ReLU, and the size after them."""
    out = shrunk(size, stride)
    conv = _conv(f"{name}.conv", "stem", in_channels, out_channels, size, kernel=kernel, stride=stride)
    return (conv, _norm(f"{name}.norm", out_channels, out)), out


@lru_cache(maxsize=65536)
def plan_block(name: str, block: BlockSpec, size: Size) -> tuple[tuple[PlannedLayer, ...], Size]:
    """Return the layers of one block and the size after it; a block of groups ends with a 1x1 conv that mixes them."""
    layers, out = _unit(f"{name}.main", "main", block, size)
    if block.groups == 1:
        return layers, out
    mix = block._replace(in_channels=block.out_channels, kernel=1, stride=1, groups=1)
    return layers + _unit(f"{name}.mix", "mix", mix, out)[0], out


def _unit(name: str, role: Role, unit: BlockSpec, size: Size) -> tuple[tuple[PlannedLayer, ...], Size]:
    """Return batch norm, conv with its gate, squeeze-excite, PReLU and the shortcut round them."""
    ins, outs = unit.in_channels, unit.out_channels
    out = shrunk(size, unit.stride)
    conv = replace(
        _conv(f"{name}.conv", role, ins, outs, size, kernel=unit.kernel, stride=unit.stride),
        groups=unit.groups,
        experts=unit.experts,
        precision=unit.precision,
        real_values=scale_values(
            unit.precision, unit.binarizers.weight, experts=unit.experts, out_channels=outs
        ),
    )  # fmt: skip
    layers = [_norm(f"{name}.norm", ins, size), conv]
    if unit.experts > 1:
        layers.append(_linear(f"{name}.conv.gate", "gate", ins, unit.experts, bias=True))
    if unit.squeeze_excite:
        hidden = squeezed(outs)
        layers.append(_linear(f"{name}.excite.squeeze", "squeeze_excite", ins, hidden, bias=False))
        layers.append(_linear(f"{name}.excite.expand", "squeeze_excite", hidden, outs, bias=False))
    layers.append(_prelu(f"{name}.act", outs, out))
    return tuple(layers) + _shortcut(f"{name}.shortcut", unit, out), out


def _shortcut(name: str, unit: BlockSpec, size: Size) -> tuple[PlannedLayer, ...]:
    ins, outs, kind = unit.in_channels, unit.out_channels, unit.shortcut.kind
    if kind == "repeat" or (ins == outs and unit.stride == 1):
        return ()
    if kind == "conv":
        return (_conv(f"{name}.conv", "shortcut", ins, outs, size), _norm(f"{name}.norm", outs, size))
    hidden = narrowed(ins, unit.shortcut.reduction)
    layers: tuple[PlannedLayer, ...] = ()
    for part, (a, b) in (("reduce", (ins, hidden)), ("expand", (hidden, outs))):
        layers += (
            _conv(f"{name}.{part}.conv", "shortcut", a, b, size),
            _norm(f"{name}.{part}.norm", b, size),
            _prelu(f"{name}.{part}.act", b, size),
        )
    return layers


@lru_cache(maxsize=4096)
def plan_head(width: int, classes: int, size: Size) -> tuple[PlannedLayer, ...]:
    """Return the batch norm and the classifier; the global average pool between them has no parameters."""
    return (_norm("head.norm", width, size), _linear("head.classifier", "classifier", width, classes, bias=True))


def shrunk(size: Size, stride: int) -> Size:
    """Return the size after a stride, rounded up: what a same-padded odd kernel and a ceiling pool agree on."""
    return -(-size[0] // stride), -(-size[1] // stride)


def squeezed(channels: int) -> int:
    """Return the hidden width of squeeze-excite: an eighth of the output channels."""
    return max(1, channels // 8)


def narrowed(channels: int, reduction: int) -> int:
    """Return the hidden width of a bottleneck shortcut."""
    return max(1, channels // reduction)


def _conv(name: str, role: Role, ins: int, outs: int, size: Size, *, kernel: int = 1, stride: int = 1) -> PlannedLayer:
    return PlannedLayer(
        name, role, "conv", ins, outs, size, shrunk(size, stride), (kernel, kernel), (stride, stride)
    )  # fmt: skip


def _linear(name: str, role: Role, ins: int, outs: int, *, bias: bool) -> PlannedLayer:
    return PlannedLayer(name, role, "linear", ins, outs, (1, 1), (1, 1), real_values=outs if bias else 0)


def _norm(name: str, channels: int, size: Size) -> PlannedLayer:
    return PlannedLayer(name, "norm", "norm", channels, channels, size, size, real_values=2 * channels)


def _prelu(name: str, channels: int, size: Size) -> PlannedLayer:
    return PlannedLayer(name, "activation", "activation", channels, channels, size, size, real_values=channels)
