"""A `Program` of pixels and its QONNX model -> the model as hls4ml reads it, and the number formats that it needs."""

import math
from typing import Any

import numpy as np
import onnx

from bnas.runtime.program import Program
from bnas.ship.onnx_files.graph import INPUT
from bnas.ship.onnx_files.qonnx_steps import PIXEL_BITS, PIXELS
from bnas.ship.onnx_files.ranges import ranges

# Bits behind the point of real values: a sum of small weights times pixels up to 255 is as exact as in float32.
FRACTION = 32
_PRODUCTS = ("Conv", "MatMul")
_PASSES_ON = ("Quant", "BipolarQuant", "Transpose", "Reshape", "Flatten")  # what it is given, or a format of its own


def configuration(program: Program, model: onnx.ModelProto) -> dict[str, Any]:
    """Return the configuration of hls4ml: sums of bits are as wide as their fan-in wants, real values as their range.

    By itself hls4ml gives both 16 bits, of which 6 stand before the point: sums of 32 products and more wrap.
    """
    largest = max(float(np.abs(bound).max()) for bound in ranges(program, *PIXELS))
    whole = math.ceil(math.log2(largest + 1)) + 2  # a sign, and a shift by a threshold of the same size
    passed = [tensor.name for tensor in model.graph.initializer]
    passed += [node.name for node in model.graph.node if node.op_type in _PASSES_ON]
    formats = {name: {"result": "auto"} for name in passed} | {
        INPUT: {"result": f"ap_ufixed<{PIXEL_BITS},{PIXEL_BITS}>"}
    }
    for name, fan_in in _sums_of_bits(model).items():
        formats[name] = {"accum": whole_number(fan_in), "result": whole_number(fan_in)}
    return {
        "Model": {
            "Precision": {"default": f"ap_fixed<{whole + FRACTION},{whole}>"}, "ReuseFactor": 1, "Strategy": "Latency",
        },
        "LayerName": {name: {"Precision": precision} for name, precision in formats.items()},
    }  # fmt: skip


def whole_number(fan_in: int) -> str:
    """Return the narrowest format that holds every sum of so many bits, and one more: a threshold that none reaches."""
    bits = (fan_in + 1).bit_length() + 1
    return f"ap_fixed<{bits},{bits}>"


def _sums_of_bits(model: onnx.ModelProto) -> dict[str, int]:
    """Return the products of bits with bits, and how many each sums up."""
    signs = {node.output[0] for node in model.graph.node if node.op_type == "BipolarQuant"}
    for node in model.graph.node:
        if node.op_type in _PASSES_ON and node.input[0] in signs:
            signs.add(node.output[0])
    products = [node for node in model.graph.node if node.op_type in _PRODUCTS and set(node.input[:2]) <= signs]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    held = {node.output[0]: shapes[node.input[0]] for node in model.graph.node if node.input[0] in shapes}
    weights = {node.name: (node.op_type, held[node.input[1]]) for node in products}
    return {name: shape[0] if kind == "MatMul" else math.prod(shape[1:]) for name, (kind, shape) in weights.items()}
