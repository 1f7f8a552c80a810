"""Description, weights and manifest of the best network <-> a folder of three files that always belong together."""

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bnas.errors import RunError
from bnas.runs.checkpoint import own_memory
from bnas.runs.documents import json_text, read_json
from bnas.runs.files import previous_of, read_text, replacing_folder

_WEIGHTS, _ARCHITECTURE, _MANIFEST = "weights.safetensors", "architecture.yaml", "manifest.json"
_SHA256 = "weights_sha256"  # key of the manifest
_ANEW = "run the command that began this run again, so that it ends"


def write(folder: Path, *, architecture_yaml: str, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> None:
    """Write the three files, together or not at all; the sha256 of the weights is added to the manifest.

    Raises:
        RunError: they cannot be written; the folder before is intact.
    """
    weights = save(own_memory(tensors))
    known = {**manifest, _SHA256: hashlib.sha256(weights).hexdigest()}
    with replacing_folder(folder) as temporary:
        (temporary / _WEIGHTS).write_bytes(weights)
        (temporary / _ARCHITECTURE).write_text(architecture_yaml, encoding="utf-8")
        (temporary / _MANIFEST).write_text(json_text(known), encoding="utf-8")


def is_there(folder: Path) -> bool:
    """Whether a best network was written."""
    return folder.exists() or previous_of(folder).exists()


def read(folder: Path) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """Return description, weights and manifest.

    Raises:
        RunError: there is none yet, or the weights are not those that were written.
    """
    if not is_there(folder):
        raise RunError(f"{folder}: is missing, for the run did not end; {_ANEW}")
    if not folder.exists():  # a kill between two renames
        folder = previous_of(folder)
    manifest = read_json(folder / _MANIFEST, hint=_ANEW)
    file = folder / _WEIGHTS
    try:
        weights = file.read_bytes()
        if hashlib.sha256(weights).hexdigest() != manifest.get(_SHA256):
            raise RunError(f"{file}: is damaged: its sha256 is not that of {_MANIFEST}; {_ANEW}")
        tensors = load(weights)
    except (OSError, SafetensorError) as problem:
        raise RunError(f"{file}: cannot be read: {problem}; {_ANEW}") from problem
    return read_text(folder / _ARCHITECTURE, hint=_ANEW), tensors, manifest
