"""Description, weights and manifest of a network <-> a folder of three files that always belong together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bnas.errors import RunError, SpecError
from bnas.runs.checkpoint import own_memory
from bnas.runs.documents import check_seal, json_of, json_text, sealed, text_of
from bnas.runs.files import read_bytes, replacing_folder
from bnas.runs.sums import sha256

WEIGHTS, ARCHITECTURE, MANIFEST = "weights.safetensors", "architecture.yaml", "manifest.json"
ANEW = "run the command that began this run again, so that it ends"
_SUMS = {WEIGHTS: "weights_sha256", ARCHITECTURE: "architecture_sha256"}  # keys of the manifest
_DESCRIBE = (ARCHITECTURE, f"best/{ARCHITECTURE}", "selection.yaml")  # a network, in a folder
_SEAL = "manifest_sha256"  # key of the checksum of all others


class SavedNetwork(NamedTuple):
    """What the folder holds."""

    architecture_yaml: str
    tensors: dict[str, Tensor]
    manifest: dict[str, Any]


class _Known(BaseModel):
    """What is read of a manifest: damage may leave one that is sound JSON, of builds that sealed none."""

    model_config = ConfigDict(extra="allow", strict=True)

    architecture_id: str = ""
    accuracy: dict[str, float | int | None] = {}
    cost: dict[str, float | int] = {}
    counted_again: dict[str, float | int] = {}
    reload: dict[str, Any] | str = {}
    versions: dict[str, Any] = {}


def manifest_text(manifest: dict[str, Any]) -> str:
    """Return a manifest as JSON that knows its own checksum."""
    return json_text(sealed(manifest, key=_SEAL))


def network_files(architecture_yaml: str, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> dict[str, bytes]:
    """Return what the three files hold; the sha256 of the other two is added to the manifest."""
    content = {WEIGHTS: save(own_memory(tensors)), ARCHITECTURE: architecture_yaml.encode()}
    known = manifest | {_SUMS[name]: sha256(data) for name, data in content.items()}
    return content | {MANIFEST: manifest_text(known).encode()}


def write_network(folder: Path, files: dict[str, bytes], *, check: Callable[[], object] = lambda: None) -> None:
    """Write the three files, together or not at all.

    Raises:
        RunError: they cannot be written; the folder before is intact.
    """
    with replacing_folder(folder, check=check) as temporary:
        for name, data in files.items():
            (temporary / name).write_bytes(data)


def read_manifest(path: Path, data: bytes, *, hint: str) -> dict[str, Any]:
    """Return the manifest that some bytes are.

    Raises:
        RunError: it is not the one that was written.
    """
    manifest = json_of(data, path, hint=hint)
    check_seal(manifest, key=_SEAL, path=path, hint=hint)
    try:
        _Known.model_validate(manifest)
    except ValidationError as problem:
        error = problem.errors()[0]
        where = ".".join(map(str, error["loc"]))
        raise RunError(f"{path}: is damaged: {where}: {error['msg']}; {hint}") from problem
    return manifest


def read_network(folder: Path, *, hint: str = ANEW) -> SavedNetwork:
    """Return description, weights and manifest, as `write_network` or an export wrote them.

    Args:
        folder: the three files, perhaps among others.
        hint: what to do where they are missing or damaged.
    Raises:
        RunError: a file is missing, or is not the one that was written.
    """
    if not folder.exists():
        raise RunError(f"{folder}: is missing, for the run did not end; {hint}")
    manifest = read_manifest(folder / MANIFEST, read_bytes(folder / MANIFEST, hint=hint), hint=hint)
    data = _checked(folder / WEIGHTS, manifest, hint)
    try:
        tensors = load(data)
    except SafetensorError as problem:
        raise RunError(f"{folder / WEIGHTS}: cannot be read: {problem}; {hint}") from problem
    text = text_of(_checked(folder / ARCHITECTURE, manifest, hint), folder / ARCHITECTURE, hint=hint)
    return SavedNetwork(text, tensors, manifest)


def _checked(file: Path, manifest: dict[str, Any], hint: str) -> bytes:
    data = read_bytes(file, hint=hint)
    if sha256(data) != manifest.get(_SUMS[file.name]):
        raise RunError(f"{file}: is damaged: its sha256 is not that of {MANIFEST}; {hint}")
    return data


def description_in(folder: str | Path) -> Path:
    """Return the file that describes the network of a folder: an export or `best/`, a run, a selection.

    Raises:
        SpecError: there is none in it.
    """
    for name in _DESCRIBE:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise SpecError(
        f"{folder}: the folder holds no network (none of {', '.join(_DESCRIBE)}); give a finished run, its best/, an "
        "export, or a selection"
    )
