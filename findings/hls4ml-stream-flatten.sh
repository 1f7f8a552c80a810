#!/usr/bin/env bash
# hls4ml 1.3.0, Vitis back end, C simulation, io_type="io_stream": what flattens an image changes nothing of its stream,
# which goes on with the channels of a pixel at a time. A dense layer right behind it reads such a stream; anything else,
# as the sign of a binary layer, takes each of its words for the whole vector. The model converts and compiles; other
# numbers than qonnx's execution are given, with a warning that a stream holds leftover data.
# Seen: sign behind Reshape to [1, n]: wrong in io_stream, exact in io_parallel; the same with a Reshape to an image of
# one pixel before it, [1, 1, 1, n]: exact in both, for only that is made a repacking of the stream (such a node needs
# the name of what it writes, or the conversion ends in a KeyError).
# Whoever deploys fully connected networks, or a sign between flattening and a dense layer, there: write it so.
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
from qonnx.transformation.infer_shapes import InferShapes

HEIGHT, WIDTH, CHANNELS, OUT = 4, 5, 3, 7
SIZE = HEIGHT * WIDTH * CHANNELS
draw = np.random.default_rng(0)
images = (draw.integers(-64, 64, (10, HEIGHT, WIDTH, CHANNELS)) / 16).astype(np.float32)


def model(with_pixel):
    """The signs of all values of an image, and a dense layer."""
    held = {
        "pixel": np.array([1, 1, 1, SIZE]), "vector": np.array([1, SIZE]), "one": np.array(1, np.float32),
        "weights": draw.integers(-3, 4, (SIZE, OUT)).astype(np.float32),
    }
    nodes = [helper.make_node("Reshape", ["images", "pixel"], ["packed"], name="packed")] if with_pixel else []
    nodes += [
        helper.make_node("Reshape", ["packed" if with_pixel else "images", "vector"], ["flat"], name="flatten"),
        helper.make_node("BipolarQuant", ["flat", "one"], ["bits"], name="sign", domain="qonnx.custom_op.general"),
        helper.make_node("MatMul", ["bits", "weights"], ["sums"], name="dense"),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in held.items() if with_pixel or name != "pixel"]
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, HEIGHT, WIDTH, CHANNELS])
    result = helper.make_tensor_value_info("sums", TensorProto.FLOAT, [1, OUT])
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
    graph = helper.make_graph(nodes, "network", [given], [result], constants)
    return ModelWrapper(helper.make_model(graph, opset_imports=imports, ir_version=8)).transform(InferShapes())


def off(with_pixel, io_type):
    """The largest difference between hls4ml's C simulation and qonnx's execution."""
    made = model(with_pixel)
    expected = np.concatenate([execute_onnx(made, {"images": image[None]})["sums"] for image in images])
    settings = {"Model": {"Precision": {"default": "ap_fixed<32,16>"}, "ReuseFactor": 1, "Strategy": "Latency"}}
    with contextlib.redirect_stdout(io.StringIO()):
        converted = hls4ml.converters.convert_from_onnx_model(
            made.model, output_dir=f"{io_type}_{with_pixel:d}", io_type=io_type, backend="Vitis", hls_config=settings
        )
        converted.compile()
    return float(np.abs(converted.predict(images).reshape(expected.shape) - expected).max())


errors = {(pixel, kind): off(pixel, kind) for pixel in (False, True) for kind in ("io_parallel", "io_stream")}
for (pixel, kind), error in errors.items():
    way = "by way of one pixel" if pixel else "to a vector"
    print(f"hls4ml {hls4ml.__version__}, {kind}, {way}: largest error {error:g}")
assert {case for case, error in errors.items() if error > 0} == {(False, "io_stream")}, "this has changed"
PYTHON
