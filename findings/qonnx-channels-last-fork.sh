#!/usr/bin/env bash
# qonnx 1.0.0: ConvertToChannelsLastAndClean changes what a residual network computes, without a word. Where a tensor goes
# through a Relu to a sum, and through a batch norm to a convolution, the transposition that is moved past the Relu is kept
# on the other branch too, which then sees height, width and channels turned round once more. All shapes fit by chance
# where there are as many channels as rows and columns, as here. The same network without the sum stays what it was.
# Whoever lays channels last for hls4ml: execute the result beside the original before you use it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet qonnx==1.0.0 onnx==1.23.2 onnxruntime==1.32.0

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.infer_shapes import InferShapes

draw, side = np.random.default_rng(0), 8
shape = [1, side, side, side]


def network(is_residual):
    """conv, batch norm, then Relu on one way and batch norm and conv on the other, added up; or the other way alone."""
    held = {f"w{i}": draw.standard_normal((side, side, 3, 3)) for i in (1, 2)}
    for i in (1, 2):
        for name in ("scale", "shift", "mean"):
            held[f"{name}{i}"] = draw.standard_normal(side)
        held[f"var{i}"] = draw.random(side) + 0.5
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in held.items()]
    norm = lambda i, x, y: helper.make_node(
        "BatchNormalization", [x, f"scale{i}", f"shift{i}", f"mean{i}", f"var{i}"], [y]
    )
    conv = lambda i, x, y: helper.make_node("Conv", [x, f"w{i}"], [y], pads=[1] * 4, kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1], group=1)
    nodes = [conv(1, "x", "a"), norm(1, "a", "b"), norm(2, "b", "c"), conv(2, "c", "d")]
    if is_residual:
        nodes[2:2] = [helper.make_node("Relu", ["b"], ["r"])]
        nodes.append(helper.make_node("Add", ["d", "r"], ["y"]))
    else:
        nodes.append(helper.make_node("Relu", ["d"], ["y"]))
    kind = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "network", [kind("x")], [kind("y")], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return ModelWrapper(model).transform(InferShapes())


def off(is_residual):
    model = network(is_residual)
    image = draw.standard_normal(shape).astype(np.float32)
    expected = execute_onnx(model, {"x": image})["y"]
    turned = model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
    given, result = turned.graph.input[0].name, turned.graph.output[0].name
    found = execute_onnx(turned, {given: image.transpose(0, 2, 3, 1)})[result]
    ways = [np.abs(way - expected).max() for way in (found, found.transpose(0, 3, 1, 2), found.transpose(0, 2, 3, 1))]
    return float(min(ways) / np.abs(expected).max())


plain, residual = off(False), off(True)
print(f"qonnx 1.0.0, largest difference: without the sum {plain:.1e}, with it {residual:.2f}")
assert plain < 1e-5 and residual > 0.1, "this has changed"
PYTHON
