#!/usr/bin/env bash
# hls4ml 1.3.0, Vitis back end, C simulation: a batch norm and the BipolarQuant of a vector behind it are joined to
# thresholds (MergeBatchNormAndQuantizedTanh), which forget that a scale of the batch norm is negative; and a dense layer
# of BipolarQuant weights behind them (QuantizeDenseOutput) has its weights made binary a second time, so that all are +1.
# The model is valid QONNX, converts and compiles without a word, and gives other numbers than qonnx's execution.
# Seen: with a Reshape that changes nothing between batch norm and sign, exact; joined, wrong in both cases.
# Whoever deploys binary dense layers there: keep the two apart.
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
import onnx
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

INS, OUT = 16, 8
draw = np.random.default_rng(0)
images = (draw.integers(-64, 64, (20, INS)) / 16).astype(np.float32)
signs = np.where(draw.random((INS, OUT)) < 0.5, -1, 1).astype(np.float32)


def model(scale, weights, apart):
    """Batch norm, sign and a dense layer of binary weights or real ones."""
    held = {
        "scale": scale, "shift": np.full(INS, 0.25), "mean": np.zeros(INS), "variance": np.ones(INS),
        "one": np.array(1.0), "other": np.array(1.0), "weights": signs,
    }
    norm = helper.make_node(
        "BatchNormalization", ["images", "scale", "shift", "mean", "variance"], ["normed"], name="norm", epsilon=0.0
    )
    nodes = [norm]
    if apart:
        nodes.append(helper.make_node("Reshape", ["normed", "shape"], ["reshaped"], name="reshape"))
    domain = {"domain": "qonnx.custom_op.general"}
    read = "reshaped" if apart else "normed"
    nodes.append(helper.make_node("BipolarQuant", [read, "one"], ["bits"], name="sign", **domain))
    if weights == "binary":
        nodes.append(helper.make_node("BipolarQuant", ["weights", "other"], ["binary"], name="weight", **domain))
    read = "binary" if weights == "binary" else "weights"
    nodes.append(helper.make_node("MatMul", ["bits", read], ["sums"], name="dense"))
    constants = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in held.items()]
    if weights != "binary":
        constants = [constant for constant in constants if constant.name != "other"]
    if apart:
        constants.append(numpy_helper.from_array(np.array([1, INS]), "shape"))
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, INS])
    result = helper.make_tensor_value_info("sums", TensorProto.FLOAT, [1, OUT])
    graph = helper.make_graph(nodes, "network", [given], [result], constants)
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
    return ModelWrapper(helper.make_model(graph, opset_imports=imports, ir_version=8)).transform(InferShapes())


def off(name, *options):
    """The largest difference between hls4ml's C simulation and qonnx's execution."""
    made = model(*options)
    expected = np.concatenate([execute_onnx(made, {"images": image[None]})["sums"] for image in images])
    with contextlib.redirect_stdout(io.StringIO()):
        settings = hls4ml.utils.config_from_onnx_model(
            made, granularity="name", backend="Vitis", default_precision="ap_fixed<32,16>"
        )
        converted = hls4ml.converters.convert_from_onnx_model(
            made, output_dir=name, io_type="io_parallel", backend="Vitis", hls_config=settings
        )
        converted.compile()
    return float(np.abs(converted.predict(images).reshape(expected.shape) - expected).max())


positive, negative = np.ones(INS), np.where(np.arange(INS) % 2, -1.0, 1.0)
print("hls4ml", hls4ml.__version__, "qonnx 1.0.0, onnx", onnx.__version__)
errors = {
    "positive scale, real weights": off("a", positive, "real", False),
    "negative scale, real weights": off("b", negative, "real", False),
    "negative scale, real weights, apart": off("c", negative, "real", True),
    "positive scale, binary weights": off("d", positive, "binary", False),
    "positive scale, binary weights, apart": off("e", positive, "binary", True),
}
for name, error in errors.items():
    print(f"{name}: largest error {error:g}")
wrong = {name for name, error in errors.items() if error > 0}
assert wrong == {"negative scale, real weights", "positive scale, binary weights"}, "this has changed"
PYTHON
