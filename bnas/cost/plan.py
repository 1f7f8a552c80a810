"""Architecture -> planned layers: the only shape inference. Cost, export and report walk what this returns."""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

from bnas.space.arch import Architecture, BlockSpec
from bnas.space.binarizer_traits import traits_of
from bnas.space.stem import Stem
from bnas.space.values import OURS, Precision, Size, shrunk, sides

Extent = tuple[int, ...]  # a size, or the three sides of a volume
Role = Literal["stem", "main", "mix", "shortcut", "gate", "squeeze_excite", "classifier", "norm", "activation", "other"]
Kind = Literal["conv", "transposed", "linear", "matmul", "norm", "activation", "values"]
_WEIGHTED: frozenset[Kind] = frozenset({"conv", "transposed", "linear"})
_COUNTED: frozenset[Kind] = _WEIGHTED | {"matmul"}


@dataclass(frozen=True)
class PlannedLayer:
    """One layer as every part of the tool sees it.

    Sizes are (height, width) in pixels, of a layer over volumes (depth, height, width); of a linear layer or matmul,
    (batches, positions). `real_values` counts the
    float32 values a deployed layer holds beside its weights: biases, scales and offsets of binary weights, slopes, and
    batch norm folded to a factor and a shift. A `matmul` multiplies two activations, so it has no weights.
    """

    name: str  # module path in the built network; the same one again where a module is called again
    role: Role
    kind: Kind
    in_channels: int
    out_channels: int
    in_size: Extent
    out_size: Extent
    kernel: Extent = (1, 1)
    stride: Extent = (1, 1)
    groups: int = 1
    experts: int = 1
    precision: Precision = "real"
    real_values: int = 0
    held_values: int = 0  # values kept meanwhile for a later layer, as a shortcut keeps its input
    own_weights: int | None = None  # None: out_channels * fan_in; 0 where a layer before this one has them

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates for one image. Experts do not multiply them: one is chosen."""
        if self.kind not in _COUNTED:
            return 0
        # A transposed convolution sends every input value, not every output value, through a filter.
        size = self.in_size if self.kind == "transposed" else self.out_size
        return self.out_channels * self.fan_in * math.prod(size)

    @cached_property
    def fan_in(self) -> int:
        """Weights behind one output value."""
        return self.in_channels // self.groups * math.prod(self.kernel)

    @cached_property
    def weights(self) -> int:
        """Weights of all experts, binary or real."""
        if self.kind not in _WEIGHTED:
            return 0
        return self.experts * self.out_channels * self.fan_in if self.own_weights is None else self.own_weights

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
    def figures(self) -> tuple[int, ...]:
        """Return what the layer costs, in the order of the fields of `Cost`."""
        binary_weights = self.weights if self.weight_bits == 1 else 0
        mixed = self.flops if self.weight_bits == 1 else 0
        parameters = self.weights + self.real_values
        sums = self.bops, self.flops, self.bytes, parameters, self.weights, binary_weights, mixed
        return *sums, 0, self.activation_bytes

    @cached_property
    def activation_bytes(self) -> int:
        """Bytes of input, output and what is held while the layer runs; 0 for layers that can run in place.

        Binary inputs are packed, all other values are float32.
        """
        if self.kind not in _COUNTED:
            return 0
        input_bits = 1 if self.precision == "binary" else 32
        values_in = self.in_channels * math.prod(self.in_size)
        values_out = self.out_channels * math.prod(self.out_size)
        return -(-values_in * input_bits // 8) + 4 * (values_out + self.held_values)

    @cached_property
    def bytes(self) -> int:
        """Bytes of the packed weights, rounded up to whole bytes, and of the real values."""
        return -(-self.weights * self.weight_bits // 8) + 4 * self.real_values


class Uncounted(NamedTuple):
    """Something that a model computes, or has, and that is not in its planned layers."""

    path: str  # of the module
    operator: str
    why: str

    def __str__(self) -> str:
        return f"{self.path or 'the model itself'}: {self.operator}: {self.why}"


def scale_values(precision: Precision, binarizer: str, *, experts: int, out_channels: int) -> int:
    """Return how many scales and offsets a deployed layer of binary weights keeps, the learned alpha folded in."""
    if precision == "real":
        return 0
    traits = traits_of(binarizer)
    filters = out_channels if traits.scale_shared_by_experts else experts * out_channels
    return 2 * filters if traits.has_offset else filters


def plan(arch: Architecture) -> tuple[PlannedLayer, ...]:
    """Return the layers of an architecture in the order in which they run.

    Source of the block: Bulat et al., High-Capacity Expert Binary Networks (arXiv:2010.03558), section 4.
    """
    _, height, width = arch.input
    layers, size = plan_stem(arch.stem, arch.input[0], (height, width), arch.binarizers.weight)
    planned = list(layers)
    for stage, blocks in enumerate(arch.blocks()):
        for index, block in enumerate(blocks):
            layers, size = plan_block(f"stages.{stage}.{index}", block, size)
            planned.extend(layers)
    planned.extend(plan_head(arch.last_width, arch.classes, size, arch.classifier, arch.binarizers.weight))
    return tuple(planned)


@lru_cache(maxsize=4096)
def plan_stem(stem: Stem, channels: int, size: Size, weights: str) -> tuple[tuple[PlannedLayer, ...], Size]:
    """Return the stem's layers and the size after it.

    Args:
        weights: weight binarizer, of a thermometer; all else in a stem is real.
    """
    if stem.kind == "conv":
        return _stem_conv("stem", channels, stem.width, size, kernel=stem.kernel, stride=stem.stride)
    if stem.kind == "space_to_depth":
        pixels, blocks = stem.stride**2, shrunk(size, stem.stride)
        return _stem_conv("stem", channels * pixels, stem.width, blocks, kernel=stem.kernel, stride=1)
    if stem.levels is not None:
        return _thermometer(stem, channels, size, weights)
    half, quarter = stem.width // 2, stem.width // 4
    first, mid = _stem_conv("stem.first", channels, half, size, kernel=3, stride=2)
    squeeze, _ = _stem_conv("stem.branch.0", half, quarter, mid, kernel=1, stride=1)
    pooled_later = half * math.prod(mid)
    spread, small = _stem_conv("stem.branch.1", quarter, half, mid, kernel=3, stride=2, held=pooled_later)
    join, _ = _stem_conv("stem.join", stem.width, stem.width, small, kernel=1, stride=1)
    return first + squeeze + spread + join, small


def _thermometer(stem: Stem, channels: int, size: Size, weights: str) -> tuple[tuple[PlannedLayer, ...], Size]:
    """Return the thresholds, the binary conv of their bits, batch norm, ReLU, and the size after them."""
    bits = channels * (stem.levels or 0)
    (conv, norm), out = _stem_conv("stem", bits, stem.width, size, kernel=stem.kernel, stride=stem.stride)
    scales = scale_values("binary", weights, experts=1, out_channels=stem.width)
    thresholds = PlannedLayer(
        "stem.thresholds", "activation", "activation", channels, bits, size, size, real_values=bits
    )  # fmt: skip
    return (thresholds, replace(conv, precision="binary", real_values=scales), norm), out


def _stem_conv(
    name: str, in_channels: int, out_channels: int, size: Size, *, kernel: int | str, stride: int, held: int = 0
) -> tuple[tuple[PlannedLayer, PlannedLayer], Size]:
    """Return conv, batch norm, ReLU, and the size after them."""
    out = shrunk(size, stride)
    conv = _conv(f"{name}.conv", "stem", in_channels, out_channels, size, kernel=kernel, stride=stride, held=held)
    return (conv, _norm(f"{name}.norm", out_channels, out)), out


@lru_cache(maxsize=65536)
def plan_block(name: str, block: BlockSpec, size: Size) -> tuple[tuple[PlannedLayer, ...], Size]:
    """Return the layers of one block and the size after it; a mixed block of groups ends with a 1x1 conv."""
    if block.block != OURS:
        from bnas.cost.trace.own_block import plan_own  # it needs torch, which nothing else here does

        return plan_own(name, block, size)
    layers, out = _unit(f"{name}.main", "main", block, size)
    if block.groups == 1 or not block.mixed:
        return layers, out
    return layers + _unit(f"{name}.mix", "mix", block.mixing(), out)[0], out


def _unit(name: str, role: Role, unit: BlockSpec, size: Size) -> tuple[tuple[PlannedLayer, ...], Size]:
    """Return batch norm, conv with its gate, squeeze-excite, PReLU and the shortcut round them.

    Where a max pooling stands behind the conv, what comes after sees fewer pixels; it has nothing to count itself.
    While the conv runs its shortcut holds the unit's input, and squeeze-excite the normed values, which are the conv's
    own input unless that is binary; the gate runs before the conv, which waits for both.
    """
    ins, outs = unit.in_channels, unit.out_channels
    out = shrunk(size, unit.stride)
    before, after = ins * math.prod(size), outs * math.prod(out)
    conv = replace(
        _conv(f"{name}.conv", role, ins, outs, size, kernel=unit.kernel, stride=unit.conv_stride),
        groups=unit.groups,
        experts=unit.experts,
        precision=unit.precision,
        real_values=scale_values(
            unit.precision, unit.binarizers.weight, experts=unit.experts, out_channels=outs
        ),
        held_values=before * (2 if unit.squeeze_excite and unit.precision == "binary" else 1),
    )  # fmt: skip
    layers = [_norm(f"{name}.norm", ins, size), conv]
    if unit.experts > 1:
        layers.append(_linear(f"{name}.conv.gate", "gate", ins, unit.experts, bias=True, held=2 * before))
    if unit.squeeze_excite:
        hidden, held = squeezed(outs), before + after
        layers.append(_linear(f"{name}.excite.squeeze", "squeeze_excite", ins, hidden, bias=False, held=held))
        layers.append(_linear(f"{name}.excite.expand", "squeeze_excite", hidden, outs, bias=False, held=held))
    if unit.prelu:
        layers.append(_prelu(f"{name}.act", outs, out, shifts=unit.binarizers.shifts))
    return tuple(layers) + _shortcut(f"{name}.shortcut", unit, out), out


def _shortcut(name: str, unit: BlockSpec, size: Size) -> tuple[PlannedLayer, ...]:
    """Return the layers round a unit, which run when the unit's own output is ready and held."""
    ins, outs, kind = unit.in_channels, unit.out_channels, unit.shortcut.kind
    if kind == "repeat" or (ins == outs and unit.stride == 1):
        return ()
    held = outs * math.prod(size)
    if kind == "conv":
        return (_conv(f"{name}.conv", "shortcut", ins, outs, size, held=held), _norm(f"{name}.norm", outs, size))
    hidden = narrowed(ins, unit.shortcut.reduction)
    layers: tuple[PlannedLayer, ...] = ()
    for part, (a, b) in (("reduce", (ins, hidden)), ("expand", (hidden, outs))):
        layers += (
            _conv(f"{name}.{part}.conv", "shortcut", a, b, size, held=held),
            _norm(f"{name}.{part}.norm", b, size),
            _prelu(f"{name}.{part}.act", b, size),
        )
    return layers


@lru_cache(maxsize=4096)
def plan_head(
    width: int, classes: int, size: Size, precision: Precision = "real", weights: str = "xnor"
) -> tuple[PlannedLayer, ...]:
    """Return the batch norm and the classifier; the global average pool between them has no parameters."""
    classifier = _linear("head.classifier", "classifier", width, classes, bias=True)
    scales = scale_values(precision, weights, experts=1, out_channels=classes)
    classifier = replace(classifier, precision=precision, real_values=classifier.real_values + scales)
    return _norm("head.norm", width, size), classifier


def squeezed(channels: int) -> int:
    """Return the hidden width of squeeze-excite: an eighth of the output channels."""
    return max(1, channels // 8)


def narrowed(channels: int, reduction: int) -> int:
    """Return the hidden width of a bottleneck shortcut."""
    return max(1, channels // reduction)


def _conv(
    name: str, role: Role, ins: int, outs: int, size: Size, *, kernel: int | str = 1, stride: int = 1, held: int = 0
) -> PlannedLayer:
    return PlannedLayer(
        name, role, "conv", ins, outs, size, shrunk(size, stride), sides(kernel), (stride, stride), held_values=held
    )  # fmt: skip


def _linear(name: str, role: Role, ins: int, outs: int, *, bias: bool, held: int = 0) -> PlannedLayer:
    values = outs if bias else 0
    return PlannedLayer(name, role, "linear", ins, outs, (1, 1), (1, 1), real_values=values, held_values=held)


def _norm(name: str, channels: int, size: Size) -> PlannedLayer:
    return PlannedLayer(name, "norm", "norm", channels, channels, size, size, real_values=2 * channels)


def _prelu(name: str, channels: int, size: Size, *, shifts: bool = False) -> PlannedLayer:
    values = 3 * channels if shifts else channels
    return PlannedLayer(name, "activation", "activation", channels, channels, size, size, real_values=values)
