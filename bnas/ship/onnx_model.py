"""A `Program` -> an ONNX model of standard operators in float32, for a batch of one size."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnas.runtime.lanes import dense
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
)

OPSET, IR_VERSION = 19, 10  # what onnxruntime and OpenVINO of the last years read


def onnx_model(program: Program, *, batch: int) -> onnx.ModelProto:
    """Return a model that takes `images` [batch, channels, height, width] and gives `logits` [batch, classes]."""
    return _Graph(program, batch).model()


class _Graph:
    """Nodes and constants in the making; slot number i is the tensor `si`."""

    def __init__(self, program: Program, batch: int) -> None:
        self._program, self._batch = program, batch
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(self) -> onnx.ModelProto:
        for number, step in enumerate(self._program.steps):
            inputs = [self._slot(slot) for slot in step.inputs]
            _WRITERS[type(step)](self, step, inputs, self._slot(number + 1))
        last = self._slot(len(self._program.steps))
        shape = self._constant(np.array([self._batch, self._program.classes]))
        self._node("Reshape", [last, shape], "logits")
        images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [self._batch, *self._program.input])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [self._batch, self._program.classes])
        graph = helper.make_graph(self._nodes, "network", [images], [logits], self._constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(made)
        return made

    def _slot(self, number: int) -> str:
        return f"s{number}" if number else "images"

    def _constant(self, values: np.ndarray) -> str:
        name = f"c{len(self._constants)}"
        array = values.astype(np.int64 if values.dtype.kind in "iu" else np.float32)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _column(self, values: np.ndarray) -> str:
        return self._constant(values.reshape(1, -1, 1, 1))

    def _node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def conv(self, step: Conv, inputs: list[str], output: str) -> None:
        above, below, left, right = step.padding
        x, pads = inputs[0], [above, left, below, right]
        if step.pad_value and any(pads):
            around = self._constant(np.array([0, 0, above, left, 0, 0, below, right]))
            x, pads = self._node("Pad", [x, around, self._constant(np.array(float(step.pad_value)))]), [0] * 4
        more = {"strides": step.stride, "dilations": step.dilation, "pads": pads}
        if len(inputs) == 1:
            bias = [] if step.bias is None else [self._constant(np.broadcast_to(step.bias, step.filters.shape[1]))]
            self._node("Conv", [x, self._constant(dense(step, 0)), *bias], output, group=step.groups, **more)
            return
        y = self._by_experts(step, x, inputs[1], more)
        self._node("Add", [y, self._column(np.zeros(1) if step.bias is None else step.bias)], output)

    def _by_experts(self, step: Conv, x: str, choice: str, more: dict[str, Any]) -> str:
        """Convolve each image with filters of its own: all images as groups of one."""
        experts, out, *rest = step.filters.shape
        value, made = self._program.values[step.inputs[0]], step.value(*(self._program.values[s] for s in step.inputs))
        bank = self._constant(np.stack([dense(step, expert) for expert in range(experts)]))
        index = self._node("Reshape", [choice, self._constant(np.array([self._batch]))])
        chosen = self._node("Gather", [bank, index], axis=0)
        filters = self._node("Reshape", [chosen, self._constant(np.array([self._batch * out, *rest]))])
        height, width = _padded(x, value, step, more["pads"])
        joined = self._node("Reshape", [x, self._constant(np.array([1, self._batch * value.channels, height, width]))])
        y = self._node("Conv", [joined, filters], group=self._batch * step.groups, **more)
        return self._node("Reshape", [y, self._constant(np.array([self._batch, out, made.height, made.width]))])

    def argmax(self, _: Argmax, inputs: list[str], output: str) -> None:
        self._node("ArgMax", inputs, output, axis=1, keepdims=1)

    def threshold(self, step: Threshold, inputs: list[str], output: str) -> None:
        above = self._node("GreaterOrEqual", [*inputs, self._column(step.at)])
        one = np.where(step.flip, -1.0, 1.0)
        self._node("Where", [above, self._column(one), self._column(-one)], output)

    def affine(self, step: Affine, inputs: list[str], output: str) -> None:
        scaled = inputs[0] if step.scale is None else self._node("Mul", [*inputs, self._column(step.scale)])
        self._node("Add", [scaled, self._column(np.zeros(1) if step.shift is None else step.shift)], output)

    def prelu(self, step: PReLU, inputs: list[str], output: str) -> None:
        if not step.slope.any():
            self._node("Relu", inputs, output)
            return
        self._node("PRelu", [*inputs, self._constant(step.slope.reshape(-1, 1, 1))], output)

    def clip(self, step: Clip, inputs: list[str], output: str) -> None:
        limits = [self._constant(np.array(limit)) for limit in np.clip((step.low, step.high), -3e38, 3e38)]
        self._node("Clip", [*inputs, *limits], output)

    def plain(self, step: Step, inputs: list[str], output: str) -> None:
        self._node({Sigmoid: "Sigmoid", Add: "Add", Multiply: "Mul"}[type(step)], inputs, output)

    def pool(self, step: Pool, inputs: list[str], output: str) -> None:
        if is_whole_mean(self._program, step):
            self._node("GlobalAveragePool", inputs, output)
            return
        kind, more = ("AveragePool", {"count_include_pad": int(step.count_padding)}) if step.mean else ("MaxPool", {})
        self._node(
            kind, inputs, output, kernel_shape=step.kernel, strides=step.stride, pads=[*step.padding, *step.padding],
            ceil_mode=int(step.ceil), **more,
        )  # fmt: skip

    def channels(self, step: Channels, inputs: list[str], output: str) -> None:
        there = self._program.values[step.inputs[0]].channels
        index = self._constant((step.start + np.arange(step.count)) % there)
        self._node("Gather", [*inputs, index], output, axis=1)

    def concat(self, _: Concat, inputs: list[str], output: str) -> None:
        self._node("Concat", inputs, output, axis=1)

    def flatten(self, _: Flatten, inputs: list[str], output: str) -> None:
        self._node("Reshape", [*inputs, self._constant(np.array([self._batch, -1, 1, 1]))], output)


def _padded(x: str, value: Any, step: Conv, pads: list[int]) -> tuple[int, int]:
    """Return height and width of a convolution's input, which a node may have padded already."""
    above, below, left, right = step.padding if not any(pads) else (0, 0, 0, 0)
    return value.height + above + below, value.width + left + right


_WRITERS: dict[type[Step], Callable[[_Graph, Any, list[str], str], None]] = {
    Conv: _Graph.conv, Argmax: _Graph.argmax, Threshold: _Graph.threshold, Affine: _Graph.affine, PReLU: _Graph.prelu,
    Clip: _Graph.clip, Sigmoid: _Graph.plain, Add: _Graph.plain, Multiply: _Graph.plain, Pool: _Graph.pool,
    Channels: _Graph.channels, Concat: _Graph.concat, Flatten: _Graph.flatten,
}  # fmt: skip
