"""A `Program` -> an OpenVINO model, whose convolutions of bits are its 1-bit operator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset1, opset8

from bnas.errors import ExportError
from bnas.runtime.filters import SignFilters
from bnas.runtime.lanes import dense
from bnas.runtime.program import Program
from bnas.runtime.steps import (
    Add,
    Affine,
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
)

EIGHT = 8  # channels in a byte of bits
LARGEST = 3e38  # float32 that stands for infinity, which no operator takes


def openvino_model(program: Program, *, batch: int) -> openvino.Model:
    """Return a model that takes `images` [batch, channels, height, width] and gives logits [batch, classes].

    Raises:
        ExportError: its 1-bit operator cannot compute a convolution, or there is no operator for a step.
    """
    return _Graph(program, batch).model()


class _Graph:
    """Nodes in the making, by the slot that they compute. Bits are 0 and 1 there, as the 1-bit operator takes them."""

    def __init__(self, program: Program, batch: int) -> None:
        self._program, self._batch = program, batch
        self._nodes = [opset8.parameter([batch, *program.input], np.float32, "images")]

    def model(self) -> openvino.Model:
        for number, step in enumerate(self._program.steps):
            write = _WRITERS.get(type(step))
            if write is None:
                raise ExportError(f"step {number}: with OpenVINO's 1-bit operator goes no {type(step).__name__}")
            self._nodes.append(write(self, step, *(self._nodes[slot] for slot in step.inputs)))
        shape = _constant(np.array([self._batch, self._program.classes]), np.int64)
        logits = opset8.reshape(self._nodes[-1], shape, False)
        return openvino.Model([opset8.result(logits)], [self._nodes[0]])

    def conv(self, step: Conv, x: Any) -> Any:
        is_bits = self._program.values[step.inputs[0]].kind == "bits"
        y = self._of_bits(step, x) if is_bits else self._of_reals(step, x)
        return y if step.bias is None else opset8.add(y, _column(step.bias))

    def _of_reals(self, step: Conv, x: Any) -> Any:
        filters, how = dense(step, 0).astype(np.float32), _geometry(step)
        if step.groups == 1:
            return opset8.convolution(x, _constant(filters), *how)
        out, *rest = filters.shape
        return opset8.group_convolution(x, _constant(filters.reshape(step.groups, out // step.groups, *rest)), *how)

    def _of_bits(self, step: Conv, x: Any) -> Any:
        filters = step.filters
        assert isinstance(filters, SignFilters)
        if any(step.padding) and step.pad_value == 0:
            raise ExportError("OpenVINO's 1-bit operator pads with -1 or +1, not with 0")
        if filters.shape[2] % EIGHT:  # then it is silently wrong: findings/openvino-binary-convolution.sh
            raise ExportError(
                f"OpenVINO's 1-bit operator needs multiples of 8 channels, and there are {filters.shape[2]}"
            )
        if filters.offset is not None:
            raise ExportError("OpenVINO's 1-bit operator has weights of -1 and +1, without an offset")
        signs = np.split(filters.signs(0), step.groups)
        parts = [x]
        if step.groups > 1:
            parts = opset8.split(x, opset8.constant(1, np.int64), step.groups).outputs()
        made = [
            opset1.binary_convolution(part, _bits(own), *_geometry(step), "xnor-popcount", float(step.pad_value))
            for part, own in zip(parts, signs, strict=True)
        ]
        y = made[0] if len(made) == 1 else opset8.concat(made, 1)
        return opset8.multiply(y, _column(filters.scale[0]))

    def threshold(self, step: Threshold, x: Any) -> Any:
        flip = np.broadcast_to(step.flip, step.at.shape)
        ends = [_column(np.where(flip, *values).astype(np.float32)) for values in ((1, 0), (0, 1))]
        at = np.clip(step.at, -LARGEST, LARGEST).astype(np.float32)
        below = np.nextafter(at, np.float32(-np.inf))  # levels must lie apart: equal ones give NaN
        return opset8.fake_quantize(x, _column(below), _column(at), *ends, 2)

    def affine(self, step: Affine, x: Any) -> Any:
        x = x if step.scale is None else opset8.multiply(x, _column(step.scale))
        return x if step.shift is None else opset8.add(x, _column(step.shift))

    def prelu(self, step: PReLU, x: Any) -> Any:
        return opset8.prelu(x, _constant(np.broadcast_to(step.slope, self._channels(step)).copy()))

    def clip(self, step: Clip, x: Any) -> Any:
        return opset8.clamp(x, *map(float, np.clip((step.low, step.high), -LARGEST, LARGEST)))

    def pool(self, step: Pool, x: Any) -> Any:
        rounding = "ceil" if step.ceil else "floor"
        how = (list(step.stride), list(step.padding), list(step.padding), list(step.kernel))
        if step.mean:
            return opset8.avg_pool(x, *how, not step.count_padding, rounding)
        return opset1.max_pool(x, *how, rounding)

    def channels(self, step: Channels, x: Any) -> Any:
        index = (step.start + np.arange(step.count)) % self._channels(step)
        return opset8.gather(x, _constant(index, np.int64), _constant(np.array(1), np.int64))

    def flatten(self, _: Flatten, x: Any) -> Any:
        return opset8.reshape(x, _constant(np.array([self._batch, -1, 1, 1]), np.int64), False)

    def _channels(self, step: Step) -> int:
        return self._program.values[step.inputs[0]].channels


def _geometry(step: Conv) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return strides, padding before and after, dilations."""
    above, below, left, right = step.padding
    return list(step.stride), [above, left], [below, right], list(step.dilation)


def _bits(signs: NDArray[Any]) -> Any:
    """Return signs [out, in, rows, columns], true for +1, as a constant of one bit each."""
    held = openvino.Tensor(openvino.Type.u1, openvino.Shape(signs.shape))  # its own memory, which no array has to keep
    held.data[:] = np.packbits(signs.reshape(-1), bitorder="little").reshape(held.data.shape)
    return openvino.op.Constant(held)


def _column(values: NDArray[Any]) -> Any:
    return _constant(np.reshape(values, (1, -1, 1, 1)))


def _constant(values: NDArray[Any], kind: Any = np.float32) -> Any:
    return opset8.constant(np.ascontiguousarray(values, kind))


_WRITERS: dict[type[Step], Callable[..., Any]] = {
    Conv: _Graph.conv, Threshold: _Graph.threshold, Affine: _Graph.affine, PReLU: _Graph.prelu, Clip: _Graph.clip,
    Sigmoid: lambda _, step, x: opset8.sigmoid(x), Add: lambda _, step, x, y: opset8.add(x, y),
    Multiply: lambda _, step, x, y: opset8.multiply(x, y), Pool: _Graph.pool, Channels: _Graph.channels,
    Concat: lambda _, step, *parts: opset8.concat(list(parts), 1), Flatten: _Graph.flatten,
}  # fmt: skip
