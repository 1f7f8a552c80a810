#!/usr/bin/env bash
# hls4ml 1.3.0, Vitis back end, C simulation: GlobalAveragePool of a QONNX model is averaged along wrong axes, without a
# word. Its reader takes height, width and channels from a shape with channels first, which is how the operator stands in
# a model that qonnx laid channels last for hls4ml; but what is generated walks the values with channels last.
# Seen: another result than qonnx's execution of the very model that hls4ml read; the same mean as a convolution whose
# kernel is the whole image is exact. Whoever ends networks with a mean of all pixels there: write it so, or compare.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet hls4ml==1.3.0 onnx==1.21.0 qonnx==1.0.0 onnxruntime==1.25.1 numpy==2.4.6
command -v g++ > /dev/null

cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io

import hls4ml
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.infer_shapes import InferShapes

CHANNELS, HEIGHT, WIDTH = 3, 4, 5
image = np.random.default_rng(0).integers(-8, 8, (1, CHANNELS, HEIGHT, WIDTH)).astype(np.float32)
sizes = dict(strides=[1, 1], dilations=[1, 1], group=1, pads=[0, 0, 0, 0])


def model(as_conv):
    """A 1x1 convolution that changes nothing, then the mean of all pixels."""
    each = np.eye(CHANNELS, dtype=np.float32).reshape(CHANNELS, CHANNELS, 1, 1)
    whole = np.broadcast_to(each / (HEIGHT * WIDTH), (CHANNELS, CHANNELS, HEIGHT, WIDTH))
    held = [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in (("each", each), ("whole", whole))]
    nodes = [helper.make_node("Conv", ["x", "each"], ["a"], name="same", kernel_shape=[1, 1], **sizes)]
    if as_conv:
        nodes += [helper.make_node("Conv", ["a", "whole"], ["b"], name="mean", kernel_shape=[HEIGHT, WIDTH], **sizes)]
    else:
        nodes += [helper.make_node("GlobalAveragePool", ["a"], ["b"], name="mean")]
    nodes += [helper.make_node("Flatten", ["b"], ["y"], name="flat", axis=1)]
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "mean", [value("x", image.shape)], [value("y", [1, CHANNELS])], held[: 1 + as_conv])
    made = ModelWrapper(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7))
    made = made.transform(InferShapes()).transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
    for number, node in enumerate(made.graph.node):
        node.name = node.name or f"between_{number}"
    return made


def off(as_conv):
    made, last = model(as_conv), np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    expected = execute_onnx(made, {made.graph.input[0].name: last})[made.graph.output[0].name].reshape(-1)
    assert np.allclose(expected, image.mean((2, 3)).reshape(-1), atol=1e-6)
    settings = {"Model": {"Precision": {"default": "ap_fixed<40,16>"}, "ReuseFactor": 1, "Strategy": "Latency"}}
    with contextlib.redirect_stdout(io.StringIO()):
        simulated = hls4ml.converters.convert_from_onnx_model(
            made.model, output_dir=f"hls_{as_conv:d}", io_type="io_parallel", backend="Vitis", hls_config=settings
        )
        simulated.compile()
    return float(np.abs(simulated.predict(last).reshape(-1) - expected).max())


pool, conv = off(False), off(True)
print(f"hls4ml 1.3.0, difference from qonnx's execution: GlobalAveragePool {pool:.3f}, the same as Conv {conv:.1e}")
assert pool > 0.05 and conv < 1e-4, "this has changed"
PYTHON
