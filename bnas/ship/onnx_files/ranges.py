"""A `Program` and the values that an image may have -> the least and the largest value that each channel can take."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bnas.runtime.lanes import dense
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
from bnas.ship.onnx_files.graph import Array


class Range(NamedTuple):
    """Bounds of each channel, float64 [channels]; what is computed never leaves them, but need not reach them."""

    low: Array
    high: Array


def ranges(program: Program, low: float, high: float) -> list[Range]:
    """Return the range of every slot, for images between two values."""
    channels = program.input[0]
    found = [Range(np.full(channels, low, np.float64), np.full(channels, high, np.float64))]
    for step in program.steps:
        given = [found[slot] for slot in step.inputs]
        found.append(_RANGES[type(step)](step, program.values[step.inputs[0]], *given))
    return found


def _conv(step: Conv, x: Value, given: Range, _: Range | None = None) -> Range:
    low, high = given
    if any(step.padding):
        low, high = np.minimum(low, step.pad_value), np.maximum(high, step.pad_value)
    bias = np.zeros(1) if step.bias is None else step.bias.astype(np.float64)
    bounds = [
        _of_filters(step, dense(step, expert).astype(np.float64), low, high) for expert in range(step.filters.shape[0])
    ]
    return Range(np.min([b.low for b in bounds], 0) + bias, np.max([b.high for b in bounds], 0) + bias)


def _of_filters(step: Conv, filters: Array, low: Array, high: Array) -> Range:
    """Return the range of a sum of products: each weight meets one end of its channel."""
    out = len(filters)
    above = np.maximum(filters, 0).sum((2, 3)).reshape(step.groups, out // step.groups, -1)
    below = np.minimum(filters, 0).sum((2, 3)).reshape(above.shape)
    least, largest = (part.reshape(step.groups, -1, 1) for part in (low, high))
    return Range((above @ least + below @ largest).reshape(out), (above @ largest + below @ least).reshape(out))


def _argmax(_: Argmax, x: Value, given: Range) -> Range:
    return Range(np.zeros(1), np.full(1, float(x.channels)))


def _threshold(_: Threshold, x: Value, given: Range) -> Range:
    return Range(np.full(x.channels, -1.0), np.full(x.channels, 1.0))


def _affine(step: Affine, _: Value, given: Range) -> Range:
    scale = 1.0 if step.scale is None else step.scale.astype(np.float64)
    shift = 0.0 if step.shift is None else step.shift.astype(np.float64)
    return _ordered(given.low * scale + shift, given.high * scale + shift)


def _prelu(step: PReLU, _: Value, given: Range) -> Range:
    bent = [np.where(end > 0, end, step.slope * end) for end in given]
    through_zero = (given.low < 0) & (given.high > 0)
    least, largest = _ordered(*bent)
    return Range(
        np.where(through_zero, np.minimum(least, 0), least), np.where(through_zero, np.maximum(largest, 0), largest)
    )


def _clip(step: Clip, _: Value, given: Range) -> Range:
    return Range(np.clip(given.low, step.low, step.high), np.clip(given.high, step.low, step.high))


def _sigmoid(_: Sigmoid, x: Value, given: Range) -> Range:
    return Range(np.zeros(x.channels), np.ones(x.channels))


def _add(_: Add, x: Value, first: Range, second: Range) -> Range:
    return Range(first.low + second.low, first.high + second.high)


def _multiply(_: Multiply, x: Value, first: Range, second: Range) -> Range:
    products = [one * other for one in first for other in second]
    return Range(np.min(products, 0), np.max(products, 0))


def _pool(step: Pool, _: Value, given: Range) -> Range:
    if step.mean and any(step.padding):
        return Range(np.minimum(given.low, 0), np.maximum(given.high, 0))
    return given


def _channels(step: Channels, x: Value, given: Range) -> Range:
    kept = (step.start + np.arange(step.count)) % x.channels
    return Range(given.low[kept], given.high[kept])


def _concat(_: Concat, x: Value, *given: Range) -> Range:
    return Range(np.concatenate([part.low for part in given]), np.concatenate([part.high for part in given]))


def _flatten(_: Flatten, x: Value, given: Range) -> Range:
    return Range(given.low.repeat(x.pixels), given.high.repeat(x.pixels))


def _ordered(one: Array, other: Array) -> Range:
    return Range(np.minimum(one, other), np.maximum(one, other))


_RANGES: dict[type[Step], Callable[..., Range]] = {
    Conv: _conv, Argmax: _argmax, Threshold: _threshold, Affine: _affine, PReLU: _prelu, Clip: _clip,
    Sigmoid: _sigmoid, Add: _add, Multiply: _multiply, Pool: _pool, Channels: _channels, Concat: _concat,
    Flatten: _flatten,
}  # fmt: skip
