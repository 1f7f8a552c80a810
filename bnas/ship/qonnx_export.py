"""The best network of a run -> a QONNX file for FINN, for hls4ml or for qonnx itself, proved by qonnx's execution."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bnas.cost.trace.trace_model import trace
from bnas.errors import ExportError
from bnas.ship.onnx_export import NAME, metadata_of, need
from bnas.ship.packed import Ready, ready, told
from bnas.ship.targets import refusal
from bnas.ship.training import TrainedNetwork

Flow = Literal["finn", "hls4ml"]
CONFIGURATION = "hls4ml.json"
_PRODUCTS = ("conv", "linear")
_ERRORS = 3  # the least severe that onnxruntime is to tell of


def export_qonnx(best: TrainedNetwork, folder: Path, *, flow: Flow | None = None) -> dict[str, Any]:
    """Write the network as QONNX, of pixels from 0 to 255; return what the manifest is to say of it.

    What FINN and hls4ml pad round bits is -1, but qonnx executes zeros. So the proof executes the same model with its
    padding as nodes of their own.

    Args:
        flow: what is to read the file; None for one whose padding qonnx executes as it means it.
    Raises:
        ExportError: a package is missing, the flow does not take a layer, or the file does not give the same logits.
        SpecError: the manifest does not say what has to be known.
    """
    need("onnx", "onnxruntime", "qonnx", target="qonnx", extra="onnx")
    import onnx

    from bnas.ship.onnx_files.channels_last import channels_last
    from bnas.ship.onnx_files.hls4ml_config import configuration
    from bnas.ship.onnx_files.qonnx_steps import FORMS, of_pixels, qonnx_model

    shipped, whole = ready(best).on_pixels()
    pixels = whole.astype(np.float32)
    program = of_pixels(shipped.program, shipped.card)
    if flow and (rule := refusal(program, flow, layers=_layers(shipped))):
        raise ExportError(rule)
    form = FORMS[flow]
    model = qonnx_model(program, form, metadata=metadata_of(shipped.card, inside=True))
    twin = qonnx_model(program, form._replace(pads_bits=False), batch=len(pixels))
    if flow == "hls4ml":
        model, twin, pixels = channels_last(model), channels_last(twin), pixels.transpose(0, 2, 3, 1)
        text = json.dumps(configuration(program, model), indent=2)
        (folder / CONFIGURATION).write_text(f"{text}\n", encoding="utf-8")
    onnx.save(model, folder / NAME)
    about = {"proved_by": "qonnx", "padding": "as nodes of its own in the proof" if flow else "as in the file"}
    return {"onnx": told(folder / NAME) | about, "reload": shipped.proof(executed(twin, pixels), where=NAME)}


def executed(model: Any, images: np.ndarray) -> np.ndarray:
    """Return what qonnx's execution gives for a batch of images."""
    import onnxruntime
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    onnxruntime.set_default_logger_severity(_ERRORS)  # qonnx runs nodes with channels last as models of opset 1

    wrapped = ModelWrapper(model)
    result = execute_onnx(wrapped, {wrapped.graph.input[0].name: images})
    return np.asarray(result[wrapped.graph.output[0].name])


def _layers(shipped: Ready) -> list[str]:
    """Return the names of the convolutions and linear layers in the order in which they run."""
    layers = trace(shipped.network, shipped.described.input).layers
    return [layer.name for layer in layers if layer.kind in _PRODUCTS]
