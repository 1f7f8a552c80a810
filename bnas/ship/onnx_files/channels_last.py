"""A QONNX model -> the same with [batch, height, width, channels], as hls4ml reads it.

All that has four axes is laid out anew where it stands, filters too; values are turned round only where they lose their
axes or get them. qonnx's own transformation moves such turns about, and goes wrong in residual networks
(`findings/qonnx-channels-last-fork.sh`).
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from bnas.ship.onnx_files.steps import OPSET

DOMAIN = "qonnx.custom_op.channels_last"
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # where each axis stood before
_WITH_A_FORM = ("BatchNormalization", "Conv", "MaxPool")

Shapes = dict[str, list[int]]


def channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose images, and all that it computes of them, are [batch, height, width, channels].

    Args:
        model: that says the shape of every value.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    shapes = {value.name: _shape(value) for value in _values(graph)}  # as they were
    for value in _values(graph):
        if _is_image(shapes[value.name]):
            for dim, axis in zip(value.type.tensor_type.shape.dim, LAST, strict=True):
                dim.dim_value = shapes[value.name][axis]
    _turn_constants(graph, shapes)
    nodes = [part for node in graph.node for part in _laid_out(graph, node, shapes)]
    del graph.node[:]
    graph.node.extend(nodes)
    made.opset_import.append(helper.make_opsetid(DOMAIN, OPSET))
    onnx.checker.check_model(made)
    return made


def _values(graph: GraphProto) -> Iterable[ValueInfoProto]:
    return (*graph.input, *graph.output, *graph.value_info)


def _shape(value: ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _turn_constants(graph: GraphProto, shapes: Shapes) -> None:
    """Lay out filters, and what says the padding or the shape of images."""
    told = []
    for node in graph.node:
        ins, out = shapes[node.input[0]], shapes[node.output[0]]
        if node.op_type in ("Pad", "Reshape") and _is_image(out) and not _is_turned(ins, out):
            told.append(node.input[1])
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == len(LAST):
            values = values.transpose(LAST)
        elif tensor.name in told:
            values = values.reshape(-1, len(LAST))[:, list(LAST)].reshape(-1)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _laid_out(graph: GraphProto, node: NodeProto, shapes: Shapes) -> Iterator[NodeProto]:
    """Yield a node in its new form, and what turns values round it."""
    ins, out = shapes[node.input[0]], shapes[node.output[0]]
    if _is_image(ins) and node.op_type in _WITH_A_FORM:
        node.domain = DOMAIN
    if _is_image(ins) and node.op_type == "Concat":
        node.attribute[0].i = LAST.index(node.attribute[0].i)
    if _is_image(ins) and _is_turned(out, ins):
        turn = _turn(graph, node.input[0], f"{node.name}_first", ins, FIRST)
        node.input[0] = turn.output[0]
        yield turn
    if _is_image(out) and _is_turned(ins, out):
        turn = _turn(graph, f"{node.name}_first", node.output[0], out, LAST)
        node.name = node.output[0] = turn.input[0]
        yield from (node, turn)
    else:
        yield node


def _turn(graph: GraphProto, x: str, y: str, first: list[int], order: Sequence[int]) -> NodeProto:
    """Return what turns values round, of which one side has its channels first and no shape in the model yet."""
    new = y if order == FIRST else x
    graph.value_info.append(helper.make_tensor_value_info(new, TensorProto.FLOAT, first))
    return helper.make_node("Transpose", [x], [y], name=f"{new}_turn", perm=order)


def _is_turned(flat: Sequence[int], image: Sequence[int]) -> bool:
    """Whether a value without axes of its own has its channels first, beside an image of more than a pixel."""
    return not _is_image(flat) and math.prod(image[2:]) > 1


def _is_image(shape: Sequence[int]) -> bool:
    return len(shape) == len(LAST)
