"""Description, weights and manifest of a network <-> a folder of three files that always belong together."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bnas.errors import RunError
from bnas.runs.checkpoint import own_memory
from bnas.runs.documents import json_text, read_json
from bnas.runs.files import read_text, replacing_folder

WEIGHTS, ARCHITECTURE, MANIFEST = "weights.safetensors", "architecture.yaml", "manifest.json"
ANEW = "run the command that began this run again, so that it ends"
_SUMS = {WEIGHTS: "weights_sha256", ARCHITECTURE: "architecture_sha256"}  # keys of the manifest


class SavedNetwork(NamedTuple):
    """What the folder holds."""

    architecture_yaml: str
    tensors: dict[str, Tensor]
    manifest: dict[str, Any]


def write_network(
    folder: Path, *, architecture_yaml: str, tensors: dict[str, Tensor], manifest: dict[str, Any]
) -> None:
    """Write the three files, together or not at all; the sha256 of the other two is added to the manifest.

    Raises:
        RunError: they cannot be written; the folder before is intact.
    """
    content = {WEIGHTS: save(own_memory(tensors)), ARCHITECTURE: architecture_yaml.encode()}
    known = manifest | {_SUMS[name]: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    with replacing_folder(folder) as temporary:
        for name, data in content.items():
            (temporary / name).write_bytes(data)
        (temporary / MANIFEST).write_text(json_text(known), encoding="utf-8")


def read_network(folder: Path, *, hint: str = ANEW) -> SavedNetwork:
    """Return description, weights and manifest, as `write` or an export wrote them.

    Args:
        folder: the three files, perhaps among others.
        hint: what to do where they are missing or damaged.
    Raises:
        RunError: a file is missing, or is not the one that was written.
    """
    if not folder.exists():
        raise RunError(f"{folder}: is missing, for the run did not end; {hint}")
    manifest = read_json(folder / MANIFEST, hint=hint)
    data = _checked(folder / WEIGHTS, manifest, hint)
    try:
        tensors = load(data)
    except SafetensorError as problem:
        raise RunError(f"{folder / WEIGHTS}: cannot be read: {problem}; {hint}") from problem
    _checked(folder / ARCHITECTURE, manifest, hint)
    return SavedNetwork(read_text(folder / ARCHITECTURE, hint=hint), tensors, manifest)


def _checked(file: Path, manifest: dict[str, Any], hint: str) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as problem:
        raise RunError(f"{file}: cannot be read: {problem.strerror}; {hint}") from problem
    if hashlib.sha256(data).hexdigest() != manifest.get(_SUMS[file.name]):
        raise RunError(f"{file}: is damaged: its sha256 is not that of {MANIFEST}; {hint}")
    return data
