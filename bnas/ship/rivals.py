"""A `Program` -> the same network in every runtime that is installed here, to be measured side by side."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bnas.runtime import Network
from bnas.runtime.program import Program
from bnas.ship.torch_program import TorchProgram

Images = NDArray[np.float32]  # [batch, channels, height, width]
Run = Callable[[], Any]  # computes the logits of the images that it was made for
CALIBRATION = 8  # images that an int8 network is calibrated on


class Rival(NamedTuple):
    """A network in one runtime, for the images of one batch."""

    name: str
    run: Run


class Missing(NamedTuple):
    """A runtime that is not here, or does not take the network."""

    name: str
    why: str


def rivals(program: Program, images: Images, *, threads: int = 1, compiled: bool = False) -> Iterator[Rival | Missing]:
    """Yield the network in every runtime, ready to run on these images; what is missing, with the reason.

    Args:
        program: with float32 arrays.
        threads: that each may use.
        compiled: whether torch compiles too, which takes a minute.
    """
    network = Network(program, threads=threads)
    yield Rival("packed", lambda: network(images))
    torch.set_num_threads(threads)
    yield from _of_torch(program, images, compiled=compiled)
    if find_spec("onnx") is None:
        yield from (Missing(name, "needs onnx") for name in ("onnxruntime", "openvino"))
        return
    import onnx

    from bnas.ship.onnx_files.steps import onnx_model

    with tempfile.TemporaryDirectory() as folder:
        real = Path(folder) / "real.onnx"
        onnx.save(onnx_model(program), real)
        small = partial(_quantized, real, images)
        for name, load in (("onnxruntime", _in_onnxruntime), ("openvino", _in_openvino)):
            if find_spec(name) is None:
                yield Missing(name, "is not installed")
                continue
            yield from _made(f"{name} float32", partial(load, lambda: real, images, threads))
            yield from _made(f"{name} int8", partial(load, small, images, threads))
    if find_spec("openvino") is not None:
        yield from _made("openvino 1 bit", partial(_in_openvino_bits, program, images, threads))


def _made(name: str, make: Callable[[], Run]) -> Iterator[Rival | Missing]:
    try:
        yield Rival(name, make())
    except Exception as problem:  # whatever a runtime of others raises
        yield Missing(name, " ".join(f"{type(problem).__name__}: {problem}".split())[:200])


def _of_torch(program: Program, images: Images, *, compiled: bool) -> Iterator[Rival | Missing]:
    module, batch = TorchProgram(program), torch.from_numpy(images)
    yield Rival("torch float32", _in_torch(module, batch))
    last = TorchProgram(program)
    for buffer in last.buffers():
        if buffer.ndim == 4:
            buffer.data = buffer.data.contiguous(memory_format=torch.channels_last)
    yield Rival("torch float32, channels last", _in_torch(last, batch.contiguous(memory_format=torch.channels_last)))
    if not compiled:
        return
    if shutil.which("c++") is None and shutil.which("g++") is None:
        yield Missing("torch compiled", "needs a C++ compiler")
        return
    yield from _made("torch compiled", lambda: _in_torch(torch.compile(module), batch))


def _in_torch(module: nn.Module | Callable[..., Any], batch: torch.Tensor) -> Run:
    def run() -> Any:
        with torch.inference_mode():
            return module(batch).numpy()

    run()
    return run


def _quantized(real: Path, images: Images) -> Path:
    """Return the ONNX file of an int8 network, calibrated on images drawn like these."""
    small = real.with_name("small.onnx")
    if small.exists():
        return small
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Drawn(CalibrationDataReader):
        """Images, until there are no more."""

        def __init__(self) -> None:
            draw = np.random.default_rng(1)
            self._left = [draw.standard_normal(images.shape).astype(np.float32) for _ in range(CALIBRATION)]

        def get_next(self) -> Any:
            return {"images": self._left.pop()} if self._left else None

    quantize_static(
        real, small, Drawn(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    return small


def _in_onnxruntime(file: Callable[[], Path], images: Images, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(file()), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": images})[0]


def _in_openvino(file: Callable[[], Path], images: Images, threads: int) -> Run:
    return _compiled_by_openvino(str(file()), images, threads)


def _in_openvino_bits(program: Program, images: Images, threads: int) -> Run:
    from bnas.ship.openvino_model import openvino_model

    return _compiled_by_openvino(openvino_model(program, batch=len(images)), images, threads)


def _compiled_by_openvino(model: Any, images: Images, threads: int) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # its default is bfloat16 where there is any, and thresholds flip
    }  # fmt: skip
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer({0: images})[0]
