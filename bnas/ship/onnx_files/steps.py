"""A `Program` -> an ONNX model of standard operators, which computes the same for batches of any size."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx

from bnas.runtime.passes import is_whole_mean
from bnas.runtime.program import Program
from bnas.runtime.steps import (
    Add,
    Affine,
    Argmax,
    Channels,
    Clip,
    Concat,
    Conv,
    Flatten,
    Multiply,
    Pool,
    PReLU,
    Sigmoid,
    Step,
    Threshold,
    Value,
)
from bnas.ship.onnx_files.filters import Weights, as_bits, as_floats, banks_of, filters_of
from bnas.ship.onnx_files.graph import Graph, Writer

OPSET = 13  # the oldest that has all that is needed, so that readers of the last years take it
MAX_POOL: dict[str, Any] = {"dilations": [1, 1], "ceil_mode": 0}  # what a reader may ask for, whatever is usual
OPSET_OF_BITS = 18  # the oldest with BitwiseAnd


def onnx_model(program: Program, *, small: bool = False, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """Return a model that takes `images` [batch, channels, height, width] and gives `logits` [batch, classes].

    Args:
        program: with float32 arrays.
        small: whether binary weights are held in bits.
        metadata: to go with it.
    """
    graph = Graph(program)
    graph.write(_SMALL if small else STANDARD)
    graph.result(graph.node("Reshape", [graph.names[-1], graph.constant([0, program.classes])]))
    return graph.model(opset=OPSET_OF_BITS if small else OPSET, metadata=metadata or {})


def conv(graph: Graph, step: Conv, inputs: list[str], *, weights: Weights) -> str:
    """Write a convolution; zero padding is its own, every other and that of experts is a node before."""
    if len(inputs) > 1:
        return by_experts(graph, step, inputs, weights=weights)
    x, pads = inputs[0], pads_of(step)
    if step.pad_value and any(pads):
        x, pads = padded(graph, step, x), [0] * 4
    biases = [] if step.bias is None else [graph.constant(np.broadcast_to(step.bias, step.filters.shape[1]))]
    return graph.node("Conv", [x, filters_of(graph, step, weights), *biases], **attributes(step, pads))


def attributes(step: Conv, pads: list[int]) -> dict[str, Any]:
    """Return all attributes of a convolution, for there are readers that know no defaults."""
    return {
        "kernel_shape": step.filters.shape[3:], "strides": step.stride, "dilations": step.dilation, "pads": pads,
        "group": step.groups,
    }  # fmt: skip


def pads_of(step: Conv) -> list[int]:
    """Return the padding as ONNX writes it: where an axis begins, of all axes, then where it ends."""
    above, below, left, right = step.padding
    return [above, left, below, right]


def padded(graph: Graph, step: Conv, x: str) -> str:
    """Write the padding of a convolution's input."""
    above, left, below, right = pads_of(step)
    around = graph.constant([0, 0, above, left, 0, 0, below, right])
    return graph.node("Pad", [x, around, graph.constant(float(step.pad_value))], mode="constant")


def by_experts(graph: Graph, step: Conv, inputs: list[str], *, weights: Weights) -> str:
    """Sum over the rows of the kernel, each a product of the image's own weights and the columns that they meet.

    A Conv has filters for all images alike, and as many groups as are written down, so it would fix the batch.
    """
    value, made = (graph.program.values[step.inputs[0]], step.value(*(graph.program.values[s] for s in step.inputs)))
    columns = _columns(graph, step, padded(graph, step, inputs[0]) if any(step.padding) else inputs[0], value, made)
    chosen = graph.node("Reshape", [inputs[1], graph.constant([-1])])
    total = ""
    for row, bank in enumerate(banks_of(graph, step, weights)):
        seen = _every(graph, columns, 3, row * step.dilation[0], made.height, step.stride[0])
        seen = graph.node("Reshape", [seen, graph.constant([0, 0, 0, made.pixels])])
        product = graph.node("MatMul", [graph.node("Gather", [bank, chosen], axis=0), seen])
        total = graph.node("Add", [total, product]) if total else product
    y = graph.node("Reshape", [total, graph.constant([0, *made[1:]])])
    return y if step.bias is None else graph.node("Add", [y, graph.column(step.bias)])


def _columns(graph: Graph, step: Conv, x: str, value: Value, made: Value) -> str:
    """Write what the columns of the kernel meet, [batch, groups, columns x in, padded height, width]."""
    height = value.height + sum(step.padding[:2])
    shape = graph.constant([0, step.groups, step.filters.shape[2], height, made.width])
    parts = [
        graph.node("Reshape", [_every(graph, x, 3, column * step.dilation[1], made.width, step.stride[1]), shape])
        for column in range(step.filters.shape[4])
    ]
    return parts[0] if len(parts) == 1 else graph.node("Concat", parts, axis=2)


def _every(graph: Graph, x: str, axis: int, first: int, count: int, stride: int) -> str:
    """Write a slice of as many rows or columns, `stride` apart."""
    where = (first, first + (count - 1) * stride + 1, axis, stride)
    return graph.node("Slice", [x, *(graph.constant([number]) for number in where)])


def _argmax(graph: Graph, _: Argmax, inputs: list[str]) -> str:
    return graph.node("ArgMax", inputs, axis=1, keepdims=1)


def _threshold(graph: Graph, step: Threshold, inputs: list[str]) -> str:
    above = graph.node("GreaterOrEqual", [*inputs, graph.column(step.at)])
    one = np.where(step.flip, -1.0, 1.0)
    return graph.node("Where", [above, graph.column(one), graph.column(-one)])


def _affine(graph: Graph, step: Affine, inputs: list[str]) -> str:
    x = inputs[0] if step.scale is None else graph.node("Mul", [*inputs, graph.column(step.scale)])
    return x if step.shift is None else graph.node("Add", [x, graph.column(step.shift)])


def _prelu(graph: Graph, step: PReLU, inputs: list[str]) -> str:
    if not step.slope.any():
        return graph.node("Relu", inputs)
    return graph.node("PRelu", [*inputs, graph.constant(step.slope.reshape(-1, 1, 1))])


def _clip(graph: Graph, step: Clip, inputs: list[str]) -> str:
    return graph.node(
        "Clip", [*inputs, *(graph.constant(limit) for limit in np.clip((step.low, step.high), -3e38, 3e38))]
    )


def _named(kind: str) -> Writer:
    return lambda graph, _, inputs: graph.node(kind, inputs)


def _pool(graph: Graph, step: Pool, inputs: list[str]) -> str:
    """Write a pooling; a size that is rounded up is written as padding, for readers disagree about ceil_mode."""
    if is_whole_mean(graph.program, step):
        return graph.node("GlobalAveragePool", inputs)
    x, value = inputs[0], graph.program.values[step.inputs[0]]
    pads = pads_of_pool(step, value)
    if step.mean and step.ceil and step.count_padding and any(step.padding):
        around = graph.constant([0, 0, *step.padding, 0, 0, *step.padding])
        x = graph.node("Pad", [x, around, graph.constant(0.0)], mode="constant")
        pads = [0, 0, *(max(0, end - pad) for end, pad in zip(pads[2:], step.padding, strict=True))]
    more = {"count_include_pad": int(step.count_padding and not step.ceil), "ceil_mode": 0} if step.mean else MAX_POOL
    return graph.node(
        "AveragePool" if step.mean else "MaxPool", [x], kernel_shape=step.kernel, strides=step.stride, pads=pads, **more
    )


def pads_of_pool(step: Pool, value: Value) -> list[int]:
    """Return how far the windows of a pooling reach beyond what is there: at the top, left, bottom and right."""
    sides = zip(step.value(value)[2:], step.stride, step.kernel, value[2:], step.padding, strict=True)
    reached = [max(0, (count - 1) * stride + taps - side - first) for count, stride, taps, side, first in sides]
    return [*step.padding, *(reached if step.ceil else step.padding)]


def _channels(graph: Graph, step: Channels, inputs: list[str]) -> str:
    there = graph.program.values[step.inputs[0]].channels
    return graph.node("Gather", [*inputs, graph.constant((step.start + np.arange(step.count)) % there)], axis=1)


def _concat(graph: Graph, _: Concat, inputs: list[str]) -> str:
    return graph.node("Concat", inputs, axis=1)


def _flatten(graph: Graph, step: Flatten, inputs: list[str]) -> str:
    value = graph.program.values[step.inputs[0]]
    return graph.node("Reshape", [*inputs, graph.constant([0, value.channels * value.pixels, 1, 1])])


STANDARD: dict[type[Step], Writer] = {
    Conv: partial(conv, weights=as_floats), Argmax: _argmax, Threshold: _threshold, Affine: _affine, PReLU: _prelu,
    Clip: _clip, Sigmoid: _named("Sigmoid"), Add: _named("Add"), Multiply: _named("Mul"), Pool: _pool,
    Channels: _channels, Concat: _concat, Flatten: _flatten,
}  # fmt: skip
_SMALL = STANDARD | {Conv: partial(conv, weights=as_bits)}
