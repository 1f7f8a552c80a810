"""The best network of a run -> one ONNX file, proved with onnxruntime to give the same logits on real images."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bnas.errors import ExportError
from bnas.runtime import Card
from bnas.ship.packed import ready, told
from bnas.ship.training import TrainedNetwork

NAME = "network.onnx"


def export_onnx(best: TrainedNetwork, folder: Path, *, small: bool = False) -> dict[str, Any]:
    """Write the network as standard ONNX operators; return what the manifest is to say of it.

    Args:
        small: whether binary weights are held in bits, which readers unpack as they load the file.
    Raises:
        ExportError: onnx or onnxruntime is missing, a part of the network has no steps, or the file does not give the
            same logits.
        SpecError: the manifest does not say what has to be known.
    """
    need("onnx", "onnxruntime", target="onnx", extra="onnx")
    import onnx
    import onnxruntime

    from bnas.ship.onnx_files.steps import onnx_model

    shipped = ready(best)
    model = onnx_model(shipped.program, small=small, metadata=metadata_of(shipped.card))
    onnx.save(model, folder / NAME)
    session = onnxruntime.InferenceSession(folder / NAME, providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": shipped.images.numpy()})[0]
    about = {"opset": model.opset_import[0].version, "ir_version": model.ir_version, "proved_by": "onnxruntime"}
    return {"onnx": told(folder / NAME) | about, "reload": shipped.proof(found, where=NAME)}


def need(*packages: str, target: str, extra: str) -> None:
    """Check that what a target needs is installed.

    Raises:
        ExportError: it is not; names the packages and the extra that brings them.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ExportError(
            f"export target {target!r} needs {' and '.join(missing)}, not installed here; pip install 'bnas[{extra}]'"
        )


def metadata_of(card: Card, *, inside: bool = False) -> dict[str, str]:
    """Return what goes with a network as pairs of texts; lists are in JSON.

    Args:
        inside: whether the model normalises its images itself.
    """
    pixels = "0 to 255, normalised by the model" if inside else "(pixel / 255 - mean) / std, for each channel"
    lists = {"class_names": card.class_names} | ({} if inside else {"mean": card.mean, "std": card.std})
    return {"architecture": card.name, "pixels": pixels} | {
        name: json.dumps(list(values), ensure_ascii=False) for name, values in lists.items() if values
    }
