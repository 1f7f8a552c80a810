"""One binary 3x3 layer in every runtime that has one, float in and out; and the tile that packed ones are made of."""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F

from bnas.runtime import Network
from bnas.runtime.cpu import BIT_PIXELS, BIT_WORD, LANES, VECTORS
from bnas.runtime.filters import SignFilters
from bnas.runtime.naive import every_slot
from bnas.runtime.program import Program
from bnas.runtime.steps import Conv, Pool, PReLU, Threshold
from bnas.runtime.tiles import bit_tile

Way = Callable[[], object]
TAPS = 9


class Drawn:
    """The numbers of a layer, the same in every runtime."""

    def __init__(self, channels: int, side: int) -> None:
        draw = np.random.default_rng(0)
        self.channels, self.side = channels, side
        self.signs = draw.random((channels, channels, 3, 3)) < 0.5
        self.scale, self.bias, self.slope = (draw.standard_normal(channels).astype(np.float32) for _ in range(3))
        self.at = draw.standard_normal(channels).astype(np.float32)
        self.image = draw.standard_normal((1, channels, side, side)).astype(np.float32)

    @property
    def dense(self) -> np.ndarray:
        """Signs times scale, float32."""
        return np.where(self.signs, 1, -1).astype(np.float32) * self.scale.reshape(-1, 1, 1, 1)

    def program(self) -> Program:
        """Return the layer, and a pooling that reads what it writes."""
        filters = SignFilters.of(self.signs[None], self.scale[None])
        whole = (self.side, self.side)
        return Program(
            (self.channels, *whole),
            (
                Threshold((0,), self.at, np.zeros(1, np.bool_)),
                Conv((1,), filters, padding=(1, 1, 1, 1), pad_value=-1, bias=self.bias),
                PReLU((2,), self.slope),
                Pool((3,), False, whole, whole),
            ),
        )


def ways(channels: int, side: int) -> tuple[dict[str, Way], dict[str, str]]:
    """Return the layer in every runtime, and what is missing."""
    drawn = Drawn(channels, side)
    found, missing = {"packed": packed(drawn)} | of_torch(drawn), {}
    for name, needs, make in (
        ("onnxruntime", "onnxruntime", of_onnxruntime), ("openvino", "openvino", of_openvino),
        ("bnn-lab", "bnn", of_bnn_lab),
    ):  # fmt: skip
        if find_spec(needs) is None or (needs != "bnn" and find_spec("onnx") is None):
            missing[name] = "is not installed"
        else:
            found |= make(drawn)
    return found, missing


def packed(drawn: Drawn) -> Way:
    """Return the passes that pack the input and compute the layer."""
    network = Network(drawn.program(), threads=1)
    room = network.room()
    room.run(drawn.image, np.empty((1, drawn.channels), np.float32))

    def run() -> None:
        room.run_pass(0)
        room.run_pass(1)

    return run


def of_torch(drawn: Drawn) -> dict[str, Way]:
    """Return the layer with real weights, whose values do not matter, in both layouts."""
    made = {}
    for name, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
        image, weight = (torch.from_numpy(part).contiguous(memory_format=layout) for part in (drawn.image, drawn.dense))
        bias, slope = torch.from_numpy(drawn.bias), torch.from_numpy(drawn.slope)

        def run(image: Any = image, weight: Any = weight, bias: Any = bias, slope: Any = slope) -> None:
            with torch.inference_mode():
                F.prelu(F.conv2d(image, weight, bias, padding=1), slope)

        made[f"torch float32{name}"] = run
    return made


def onnx_file(drawn: Drawn, folder: Path) -> Path:
    """Write the layer with real weights as ONNX."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    parts = {"weight": drawn.dense, "bias": drawn.bias, "slope": drawn.slope.reshape(-1, 1, 1)}
    constants = [numpy_helper.from_array(values, name) for name, values in parts.items()]
    shape = list(drawn.image.shape)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "made")]
    nodes = [
        helper.make_node("Conv", ["images", "weight", "bias"], ["y"], pads=[1] * 4),
        helper.make_node("PRelu", ["y", "slope"], ["made"]),
    ]
    graph = helper.make_graph(nodes, "layer", values[:1], values[1:], constants)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), folder / "real.onnx"
    )
    return folder / "real.onnx"


def of_onnxruntime(drawn: Drawn) -> dict[str, Way]:
    from bnas.ship import rivals

    with tempfile.TemporaryDirectory() as folder:
        real = onnx_file(drawn, Path(folder))
        files = {"float32": real, "int8": rivals._quantized(real, drawn.image)}
        return {
            f"onnxruntime {kind}": rivals._in_onnxruntime(lambda file=file: file, drawn.image, 1)
            for kind, file in files.items()
        }


def of_openvino(drawn: Drawn) -> dict[str, Way]:
    from bnas.ship import rivals

    with tempfile.TemporaryDirectory() as folder:
        real = onnx_file(drawn, Path(folder))
        files = {"float32": real}
        if find_spec("onnxruntime") is not None:
            files["int8"] = rivals._quantized(real, drawn.image)
        made = {
            f"openvino {kind}": rivals._in_openvino(lambda file=file: file, drawn.image, 1)
            for kind, file in files.items()
        }
    return made | {"openvino 1 bit": openvino_bits(drawn)}


def openvino_bits(drawn: Drawn) -> Way:
    """Return OpenVINO's binary convolution, once it computes what the layer means."""
    import openvino
    from openvino import opset1, opset8

    image = opset8.parameter(list(drawn.image.shape), np.float32)
    column = (1, -1, 1, 1)
    low, high = (opset8.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0, 1))
    # Levels that lie apart: equal ones give NaN. What lies between them is +1, here for one value in many thousands.
    at = drawn.at.reshape(column)
    bits = opset8.fake_quantize(image, opset8.constant(at - 1e-6), opset8.constant(at), low, high, 2)
    words = np.packbits(drawn.signs.reshape(-1), bitorder="little")
    weights = openvino.op.Constant(openvino.Tensor(words, openvino.Shape(drawn.signs.shape), openvino.Type.u1))
    y = opset1.binary_convolution(bits, weights, [1, 1], [1, 1], [1, 1], [1, 1], "xnor-popcount", -1.0)
    y = opset8.add(
        opset8.multiply(y, opset8.constant(drawn.scale.reshape(column))), opset8.constant(drawn.bias.reshape(column))
    )
    model = openvino.Model([opset8.result(opset8.prelu(y, opset8.constant(drawn.slope)))], [image])
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(keep: Any = words) -> Any:
        return request.infer({0: drawn.image})[0]

    meant = every_slot(drawn.program(), drawn.image)[3]
    apart = np.abs(run() - meant).max() / np.abs(meant).max()
    assert apart < 0.05, f"openvino's binary convolution is {apart:.2g} away from what the layer means"
    return run


def of_bnn_lab(drawn: Drawn) -> dict[str, Way]:
    """Return the product alone, of bits that are unfolded and packed already."""
    from bnn.kernels import packed as kernels

    kernels.set_num_threads(1)
    draw = np.random.default_rng(0)
    rows, depth = drawn.side**2, TAPS * drawn.channels
    x, n = kernels.pack_binary_pm1(np.where(draw.random((rows, depth)) < 0.5, 1, -1).astype(np.float32))
    w, _ = kernels.pack_binary_pm1(np.where(drawn.signs.reshape(drawn.channels, -1), 1, -1).astype(np.float32))
    return {"bnn-lab product": lambda: kernels.binary_gemm_native_prepacked(x, w, n)}


def tile_macs(rounds: int) -> int:
    """Return the MACs of `tile`."""
    return rounds * BIT_PIXELS * VECTORS[0] * LANES * TAPS * 64


def tile(rounds: int) -> Way:
    """Return the innermost loop over bits, over the windows of a 3x3 layer of 64 channels, so many times."""
    many, words = bit_tile(BIT_PIXELS, VECTORS[0], masked=False), TAPS * 8 // BIT_WORD
    lanes, draw = VECTORS[0] * LANES, np.random.default_rng(0)
    bits = draw.integers(0, 256, 8 * (BIT_PIXELS + TAPS)).astype(np.uint8)
    weights = draw.integers(0, 256, words * lanes * BIT_WORD).astype(np.uint8)
    windows = bits.ctypes.data + 8 * np.arange(BIT_PIXELS)
    starts = np.zeros(lanes, np.int32)
    tables = [np.full(BIT_PIXELS, starts.ctypes.data), BIT_WORD * np.arange(words), np.ones(lanes, np.float32)]
    out = np.empty((BIT_PIXELS, lanes), np.float32)
    at, places, ones = (table.ctypes.data for table in tables)
    given = (
        windows.ctypes.data,
        0,
        at,
        0,
        places,
        0,
        weights.ctypes.data,
        words,
        ones,
        ones,
        out.ctypes.data,
        4 * lanes,
    )

    @numba.njit
    def run(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int, i: int, j: int, k: int, m: int) -> None:
        for _ in range(rounds):
            many(a, b, c, d, e, f, g, h, i, j, k, m)

    keep = (bits, weights, windows, starts, tables, out)
    return lambda: run(*given) if keep else None
