#!/usr/bin/env bash
# OpenVINO 2026.4.1, CPU: BinaryConvolution is silently wrong where its input has a number of channels that is no
# multiple of 8. The model is valid, compiles without a word, and gives sums that are off by up to twice the channels.
# Seen: channels 8, 16, 24 exact; 4, 12, 20 wrong, alone and behind a Split.
# Whoever runs one-bit layers there: keep multiples of 8 channels in each (each group of a split), or pad them.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.4 openvino==2026.4.1

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import openvino
from openvino import opset1, opset8

draw = np.random.default_rng(0)


def constant(signs):
    """Signs [out, in, 1, 1] as a constant of one bit each, in memory of its own."""
    held = openvino.Tensor(openvino.Type.u1, openvino.Shape(signs.shape))
    held.data[:] = np.packbits(signs.reshape(-1), bitorder="little").reshape(held.data.shape)
    return openvino.op.Constant(held)


def off(channels, filters=8, side=6):
    """The largest difference between a 1x1 binary convolution and the sum of products of -1 and +1."""
    image = draw.standard_normal((1, channels, side, side)).astype(np.float32)
    signs = draw.random((filters, channels, 1, 1)) < 0.5
    given = opset8.parameter(list(image.shape), np.float32)
    low, high, zero, one = (
        opset8.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (-1e-6, 0.0, 0.0, 1.0)
    )
    bits = opset8.fake_quantize(given, low, high, zero, one, 2)
    sums = opset1.binary_convolution(
        bits, constant(signs), [1, 1], [0, 0], [0, 0], [1, 1], "xnor-popcount", -1.0
    )
    model = openvino.Model([opset8.result(sums)], [given])
    found = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({0: image})[0]
    products = np.einsum(
        "chw,oc->ohw", np.where(image[0] >= 0, 1, -1), np.where(signs[:, :, 0, 0], 1, -1)
    )
    return float(np.abs(found[0] - products).max())


print("openvino", openvino.__version__)
errors = {channels: off(channels) for channels in (4, 8, 12, 16, 20, 24)}
print("largest error by channels:", errors)
assert all((error == 0) == (channels % 8 == 0) for channels, error in errors.items()), "this has changed"
PYTHON
