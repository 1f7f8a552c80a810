"""What each step of a `Program` means, computed without any cleverness: float64 sums, exact where all is in bits."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnas.runtime.filters import RealFilters
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

Array = NDArray[Any]  # [batch, channels, height, width]; real float64, bits int64 of -1 and +1, a choice int64


def evaluate(program: Program, images: Array) -> Array:
    """Return the logits [batch, classes] of images [batch, channels, height, width]."""
    return every_slot(program, images)[-1][:, :, 0, 0]


def every_slot(program: Program, images: Array) -> list[Array]:
    """Return what every slot holds for images [batch, channels, height, width]."""
    slots = [np.asarray(images, np.float64)]
    for step in program.steps:
        slots.append(MEANINGS[type(step)](step, *(slots[slot] for slot in step.inputs)))
    return slots


def _conv(step: Conv, x: Array, choice: Array | None = None) -> Array:
    if choice is None:
        return _filtered(step, x, 0)
    parts = [_filtered(step, image[None], int(expert)) for image, expert in zip(x, choice.ravel(), strict=True)]
    return np.concatenate(parts) if parts else _filtered(step, x, 0)


def _filtered(step: Conv, x: Array, expert: int) -> Array:
    """Convolve all images with the filters of one expert."""
    bias = 0.0 if step.bias is None else _column(step.bias)
    filters = step.filters
    if isinstance(filters, RealFilters):
        return _dot(step, x, filters.values[expert].astype(np.float64)) + bias
    signs = np.where(filters.signs(expert), 1, -1)
    y = _of_expert(filters.scale, expert) * _dot(step, x, signs)
    if filters.offset is not None:
        y = y + _of_expert(filters.offset, expert) * _dot(step, x, np.ones_like(signs))
    return y + bias


def _dot(step: Conv, x: Array, weight: Array) -> Array:
    """Return the sums of products with a weight [out, in / groups, rows, columns]; those of whole numbers are exact."""
    above, below, left, right = step.padding
    x = np.pad(x, ((0, 0), (0, 0), (above, below), (left, right)), constant_values=step.pad_value).astype(np.float64)
    out, ins, rows, columns = weight.shape
    height = (x.shape[2] - (rows - 1) * step.dilation[0] - 1) // step.stride[0] + 1
    width = (x.shape[3] - (columns - 1) * step.dilation[1] - 1) // step.stride[1] + 1
    grouped = weight.astype(np.float64).reshape(step.groups, out // step.groups, ins, rows, columns)
    y: Array = np.zeros((len(x), step.groups, out // step.groups, height * width))
    for i in range(rows):
        for j in range(columns):
            top, side = i * step.dilation[0], j * step.dilation[1]
            seen = x[:, :, top :: step.stride[0], side :: step.stride[1]][:, :, :height, :width]
            y += grouped[..., i, j] @ seen.reshape(len(x), step.groups, ins, height * width)
    return y.reshape(len(x), out, height, width)


def _argmax(step: Argmax, x: Array) -> Array:
    place: Array = np.argmax(x, 1, keepdims=True)
    return place


def _threshold(step: Threshold, x: Array) -> Array:
    return np.where((x >= _column(step.at)) ^ step.flip.reshape(1, -1, 1, 1), 1, -1)


def _affine(step: Affine, x: Array) -> Array:
    scaled: Array = x if step.scale is None else _column(step.scale) * x
    return scaled if step.shift is None else scaled + _column(step.shift)


def _prelu(step: PReLU, x: Array) -> Array:
    return np.where(x > 0, x, _column(step.slope) * x)


def _clip(step: Clip, x: Array) -> Array:
    return np.clip(x, step.low, step.high)


def _sigmoid(step: Sigmoid, x: Array) -> Array:
    share: Array = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    return share


def _add(step: Add, x: Array, y: Array) -> Array:
    return x + y


def _multiply(step: Multiply, x: Array, y: Array) -> Array:
    return x * y


def _pool(step: Pool, x: Array) -> Array:
    batch, channels, height, width = x.shape
    made = step.value(_shape(x))
    y = np.empty((batch, channels, made.height, made.width))
    for i in range(made.height):
        for j in range(made.width):
            top, left = i * step.stride[0] - step.padding[0], j * step.stride[1] - step.padding[1]
            bottom = min(top + step.kernel[0], height + step.padding[0])
            right = min(left + step.kernel[1], width + step.padding[1])
            seen = x[:, :, max(top, 0) : bottom, max(left, 0) : right]  # NumPy stops at the image's end itself
            count = (bottom - top) * (right - left) if step.count_padding else seen[0, 0].size if batch else 1
            y[:, :, i, j] = seen.sum((2, 3)) / count if step.mean else seen.max((2, 3))
    return y


def _channels(step: Channels, x: Array) -> Array:
    return x[:, (step.start + np.arange(step.count)) % x.shape[1]]


def _concat(step: Concat, *parts: Array) -> Array:
    return np.concatenate(parts, 1)


def _flatten(step: Flatten, x: Array) -> Array:
    return x.reshape(len(x), -1, 1, 1)


MEANINGS: dict[type[Step], Callable[..., Array]] = {
    Conv: _conv,
    Argmax: _argmax,
    Threshold: _threshold,
    Affine: _affine,
    PReLU: _prelu,
    Clip: _clip,
    Sigmoid: _sigmoid,
    Add: _add,
    Multiply: _multiply,
    Pool: _pool,
    Channels: _channels,
    Concat: _concat,
    Flatten: _flatten,
}


def _column(values: Array) -> Array:
    """Return one value a channel as [1, channels, 1, 1], in float64."""
    return values.astype(np.float64).reshape(1, -1, 1, 1)


def _of_expert(values: Array, expert: int) -> Array:
    return _column(values[expert if len(values) > 1 else 0])


def _shape(x: Array) -> Any:
    return Value("real", *x.shape[1:])
