"""A `Program` of pixels -> a QONNX model for one image: bits are BipolarQuant of scale 1, one for each that reads them.

Values of one pixel are [1, channels], all others [1, channels, height, width].
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes

from bnas.runtime.network import Card
from bnas.runtime.program import Program, rounded
from bnas.runtime.simplify import simplified
from bnas.runtime.steps import Add, Affine, Conv, Flatten, Multiply, Pool, PReLU, Step, Threshold, Value
from bnas.ship.onnx_files.filters import as_floats
from bnas.ship.onnx_files.graph import INPUT, Array, Graph, Writer
from bnas.ship.onnx_files.means import corrections, mean_as_conv, without_means
from bnas.ship.onnx_files.qonnx_filters import DOMAIN, bipolar, bits_of, groups_of, turned, weights_of
from bnas.ship.onnx_files.ranges import Range, ranges
from bnas.ship.onnx_files.steps import MAX_POOL, OPSET, STANDARD, attributes, by_experts, padded, pads_of, pads_of_pool

PIXEL_BITS = 8
PIXELS = (0, 2**PIXEL_BITS - 1)


class Form(NamedTuple):
    """What differs between those that read QONNX.

    Attributes:
        pads_bits: whether the padding of bits is an attribute of Conv, where ONNX means zeros and FINN and hls4ml pad
            with -1; otherwise it is a node before.
        splits_groups: whether groups are convolutions side by side.
        parts_signs: whether what changes nothing stands between a batch norm and signs, which hls4ml would join
            to thresholds, to forget that a scale is negative and make all weights of a linear layer behind them +1.
        multiplies_means: whether averages are convolutions.
        pads_with_zeros: whether what goes round a max pooling are zeros, and no part of it: hls4ml's streams take no
            other pooling, nor windows that overlap.
        packs_vectors: whether what is flattened is an image of one pixel on the way, for hls4ml's streams go on with
            the channels of a pixel at a time where they are only told to flatten.
    """

    pads_bits: bool = False
    splits_groups: bool = False
    parts_signs: bool = False
    multiplies_means: bool = False
    pads_with_zeros: bool = False
    packs_vectors: bool = False


FORMS = {
    None: Form(),
    "finn": Form(pads_bits=True, splits_groups=True),
    "hls4ml": Form(pads_bits=True, parts_signs=True, multiplies_means=True, pads_with_zeros=True, packs_vectors=True),
}


def of_pixels(program: Program, card: Card) -> Program:
    """Return the program that takes pixels from 0 to 255, with their normalisation in it."""
    scale, shift = card.scale_and_shift
    moved = (replace(step, inputs=tuple(slot + 1 for slot in step.inputs)) for step in program.steps)
    return rounded(simplified(Program(program.input, (Affine((0,), scale, shift), *moved))))


def qonnx_model(
    program: Program, form: Form, *, batch: int = 1, metadata: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """Return a model that takes pixels from 0 to 255, `images` [batch, channels, height, width], and gives `logits`.

    It says the shape of every value.
    """
    program = without_means(program) if form.multiplies_means else program
    graph = Graph(program, batch=batch)
    whole = [graph.constant(number) for number in (1.0, 0.0, float(PIXEL_BITS))]  # scale, zero point, bits
    pixels = graph.node("Quant", [INPUT, *whole], domain=DOMAIN, signed=0, narrow=0, rounding_mode="ROUND")
    graph.names[0] = _as_value(graph, pixels, program.values[0])
    bounds = ranges(program, *PIXELS)
    conv, pool = partial(_conv, form=form, bounds=bounds), partial(_pool, form=form, bounds=bounds)
    graph.write(_QONNX | {Conv: conv, Pool: pool, Flatten: partial(_flatten, form=form)})
    graph.result(graph.names[-1])
    model = graph.model(opset=OPSET, metadata=metadata or {}, domains=(DOMAIN,))
    return ModelWrapper(model).transform(InferShapes()).model


class Cut(NamedTuple):
    """What makes signs of real values: those of turn * x + shift, each [channels]."""

    turn: Array
    shift: Array

    def written(self, graph: Graph, x: str, sides: tuple[int, ...], form: Form) -> str:
        """Write the signs, each time anew: what two layers read, FINN changes for both.

        Args:
            sides: height and width; none of [batch, channels].
        """
        normed = _normed(graph, x, self.turn, self.shift, len(self.turn))
        if form.parts_signs:
            normed = graph.node("Reshape", [normed, graph.constant([graph.batch, len(self.turn), *sides])])
        return bipolar(graph, normed)


def _conv(graph: Graph, step: Conv, inputs: list[str], *, form: Form, bounds: list[Range]) -> str:
    """Write a convolution, of whole numbers where its filters are bits; what scales and shifts comes after it."""
    source, cut, step = _source(graph.program, step, bounds)
    x, value, made = graph.names[source], graph.program.values[source], graph.program.values[len(graph.names)]
    if step.filters.shape[3:] == (1, 1) == step.stride and value.pixels == step.groups == 1 and not any(step.padding):
        x = cut.written(graph, x, (), form) if cut else x
        y = graph.node("MatMul", [x, weights_of(graph, step, is_matrix=True)])
    else:
        y = _as_value(graph, _of_images(graph, step, _as_image(graph, x, value), inputs[1:], cut, form), made)
    bits = bits_of(step)
    scale = np.ones(1) if bits is None or len(inputs) > 1 else bits.scale[0]
    return _normed(graph, y, scale, np.zeros(1) if step.bias is None else step.bias, made.channels)


def _source(program: Program, step: Conv, bounds: list[Range]) -> tuple[int, Cut | None, Conv]:
    """Return the slot of real values that a convolution reads, how it takes their signs, and what it is then.

    Where nothing is padded, a sign that is turned round is one that is not, with weights that are.
    """
    slot = step.inputs[0]
    sign = program.steps[slot - 1] if slot else None
    if not isinstance(sign, Threshold):
        return slot, None, step
    (slot,) = sign.inputs
    # What no value passes becomes a threshold just beyond what there can be.
    at = np.clip(sign.at, np.floor(bounds[slot].low), np.ceil(bounds[slot].high) + 1)
    at, flip = np.broadcast_arrays(at, sign.flip)
    filters = bits_of(step)
    if filters is not None and not any(step.padding):
        step, flip = replace(step, filters=turned(filters, flip, step.groups)), np.zeros_like(flip)
    below = at - 1 if _is_whole(program, slot) else np.nextafter(at.astype(np.float32), np.float32(-np.inf))
    return slot, Cut(np.where(flip, -1.0, 1.0), np.where(flip, below, -at)), step


def _of_images(graph: Graph, step: Conv, x: str, choice: list[str], cut: Cut | None, form: Form) -> str:
    """Write a convolution without its scale, if it has no experts; those have theirs in their weights."""
    if choice:
        x = cut.written(graph, x, graph.program.values[step.inputs[0]][2:], form) if cut else x
        return by_experts(graph, replace(step, bias=None), [x, *choice], weights=as_floats)
    if step.groups == 1 or not form.splits_groups:
        return _one(graph, step, x, cut, form)
    ins = step.filters.shape[2]
    part = graph.node("Split", [x, graph.constant([ins] * step.groups)], outputs=step.groups, axis=1)
    made = []
    for number, one in enumerate(groups_of(step)):
        channels = slice(number * ins, (number + 1) * ins)
        own = Cut(cut.turn[channels], cut.shift[channels]) if cut else None
        made.append(_one(graph, one, f"{part}_{number}" if number else part, own, form))
    return graph.node("Concat", made, axis=1)


def _one(graph: Graph, step: Conv, x: str, cut: Cut | None, form: Form) -> str:
    x = cut.written(graph, x, graph.program.values[step.inputs[0]][2:], form) if cut else x
    pads = pads_of(step)
    if step.pad_value and any(pads) and not form.pads_bits:
        x, pads = padded(graph, step, x), [0] * 4
    return graph.node("Conv", [x, weights_of(graph, step)], **attributes(step, pads))


def _is_whole(program: Program, slot: int) -> bool:
    """Whether a slot holds sums of bits."""
    step = program.steps[slot - 1] if slot else None
    if not isinstance(step, Conv) or program.values[step.inputs[0]].kind != "bits" or step.bias is not None:
        return False
    bits = bits_of(step)
    return bits is not None and bool((bits.scale == 1).all())


def _threshold(graph: Graph, step: Threshold, inputs: list[str]) -> str:
    return ""  # written for each that reads it


def _affine(graph: Graph, step: Affine, inputs: list[str]) -> str:
    scale = np.ones(1) if step.scale is None else step.scale
    shift = np.zeros(1) if step.shift is None else step.shift
    return _normed(graph, inputs[0], scale, shift, _given(graph, step).channels)


def _normed(graph: Graph, x: str, scale: Array, shift: Array, channels: int) -> str:
    """Write what scales and shifts as a batch norm, for hls4ml takes no Mul and no Add of one value a channel."""
    if (scale == 1).all() and not shift.any():
        return x
    parts = (scale, shift, np.zeros(1), np.ones(1))
    constants = [graph.constant(np.broadcast_to(part, channels).astype(np.float32)) for part in parts]
    return graph.node("BatchNormalization", [x, *constants], epsilon=0.0)


def _prelu(graph: Graph, step: PReLU, inputs: list[str]) -> str:
    if not step.slope.any():
        return graph.node("Relu", inputs)
    slope = step.slope if _given(graph, step).pixels == 1 else step.slope.reshape(-1, 1, 1)
    return graph.node("PRelu", [*inputs, graph.constant(slope)])


def _pointwise(graph: Graph, step: Add | Multiply, inputs: list[str]) -> str:
    second = inputs[1] if _given(graph, step).pixels == 1 else _as_image(graph, inputs[1], _given(graph, step, 1))
    return graph.node("Add" if isinstance(step, Add) else "Mul", [inputs[0], second])


def _pool(graph: Graph, step: Pool, inputs: list[str], *, form: Form, bounds: list[Range]) -> str:
    value, made = _given(graph, step), graph.program.values[len(graph.names)]
    x = _as_image(graph, inputs[0], value)
    if step.mean and form.multiplies_means:
        y = _multiplied(graph, step, x, form)
    elif not step.mean and form.pads_with_zeros and any(pads := pads_of_pool(step, value)):
        y = _padded(graph, step, x, pads, np.floor(bounds[step.inputs[0]].low))
    else:
        y = STANDARD[Pool](graph, step, [x])
    return _as_value(graph, y, made)


def _padded(graph: Graph, step: Pool, x: str, pads: list[int], low: Array) -> str:
    """Write a max pooling of values that are moved until none is below the zeros round them, and moved back."""
    x = _normed(graph, x, np.ones(1), -low, len(low))
    around = graph.constant([0, 0, *pads[:2], 0, 0, *pads[2:]])
    x = graph.node("Pad", [x, around], mode="constant")
    y = graph.node("MaxPool", [x], kernel_shape=step.kernel, strides=step.stride, pads=[0] * 4, **MAX_POOL)
    return _normed(graph, y, np.ones(1), low, len(low))


def _multiplied(graph: Graph, step: Pool, x: str, form: Form) -> str:
    """Write an average as a convolution; cut windows have fewer pixels to divide by, which is mended value by value."""
    value, made = _given(graph, step), graph.program.values[len(graph.names)]
    conv = mean_as_conv(step, value)
    y = _one(graph, conv, x, None, Form())
    each = corrections(step, value)
    if (each != 1).any():
        size = made.channels * made.pixels
        flat = _flat(graph, y, size, form)
        flat = _normed(graph, flat, np.tile(each.reshape(-1), made.channels), np.zeros(1), size)
        y = graph.node("Reshape", [flat, graph.constant([graph.batch, *made[1:]])])
    return y


def _flatten(graph: Graph, step: Flatten, inputs: list[str], *, form: Form) -> str:
    value = _given(graph, step)
    return inputs[0] if value.pixels == 1 else _flat(graph, inputs[0], value.channels * value.pixels, form)


def _flat(graph: Graph, image: str, size: int, form: Form) -> str:
    """Write what makes a vector of an image."""
    flat = graph.node("Flatten", [image], axis=1)
    if not form.packs_vectors:
        return flat
    pixel = graph.node("Reshape", [flat, graph.constant([graph.batch, size, 1, 1])])
    return graph.node("Flatten", [pixel], axis=1)


def _given(graph: Graph, step: Step, number: int = 0) -> Value:
    return graph.program.values[step.inputs[number]]


def _as_value(graph: Graph, image: str, value: Value) -> str:
    return graph.node("Flatten", [image], axis=1) if value.pixels == 1 else image


def _as_image(graph: Graph, x: str, value: Value) -> str:
    return graph.node("Reshape", [x, graph.constant([graph.batch, *value[1:]])]) if value.pixels == 1 else x


_QONNX: dict[type[Step], Writer] = STANDARD | {
    Threshold: _threshold, Affine: _affine, PReLU: _prelu, Add: _pointwise, Multiply: _pointwise,
}  # fmt: skip
