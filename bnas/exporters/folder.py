"""A run folder -> a folder to hand over, proved before it is there; and such a folder -> its network."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import nn

from bnas.errors import ExportError
from bnas.exporters.description import Description, parse_description
from bnas.exporters.proof import reload
from bnas.exporters.training import ARCHITECTURE, MANIFEST, WEIGHTS, Best, export_training, sha256
from bnas.lookup import find
from bnas.runs import Run, environment
from bnas.runs.files import replacing_folder
from bnas.runs.picked import run_in
from bnas.spec import parse_yaml, read_yaml

Exporter = Callable[[Best, Path], dict[str, Any]]  # writes into an empty folder, returns entries for the manifest

EXPORTERS: dict[str, Exporter] = {"training": export_training}

_CACHE = "__pycache__"  # what running model.py leaves


def export(run: str | Path, *, to: str = "training", out: str | Path) -> Path:
    """Write the best network of a run into a folder; it is there only if the network comes back from it the same.

    Args:
        run: the folder of a finished search or training, or of a selection that was fine-tuned.
        to: an entry of `EXPORTERS`.
        out: a new or empty folder, or an earlier export of the same network, which is replaced.
    Returns: `out`.
    Raises:
        ExportError: `out` holds something else, or the proof fails; what was in `out` is as it was.
        RunError: the run has no best network, or `out` cannot be written.
        LookupFailed: there is no such target.
    """
    exporter, out = find(to, EXPORTERS, what="export target"), Path(out)
    best = _best(run_in(Path(run)))
    _check_replaceable(out, best.described)
    with replacing_folder(out.absolute()) as folder:
        proved = exporter(best, folder)
        files = {file.name: sha256(file) for file in sorted(folder.iterdir())}
        manifest = {**best.manifest, **proved, "export": {"to": to, "files": files, "versions": environment()}}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return out


def load(folder: str | Path) -> nn.Module:
    """Return the network of an export, or of `best/` in a run folder, with its weights, ready to evaluate.

    Raises:
        ExportError: a file is missing or damaged, or the weights are not those of the architecture.
        SpecError: the description is not well formed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ExportError(f"{folder}: is no folder; give the folder of an export, or RUN/best")
    manifest, weights = _manifest(folder), folder / WEIGHTS
    try:
        content = weights.read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest.get("weights_sha256"):
            raise ExportError(f"{weights}: is damaged: its sha256 is not that of {MANIFEST}; export the run again")
        tensors = load_tensors(content)
    except (OSError, SafetensorError) as problem:
        raise ExportError(f"{weights}: cannot be read: {problem}; export the run again") from problem
    description = folder / ARCHITECTURE
    return reload(parse_description(read_yaml(description), source=str(description)), tensors, source=str(weights))


def _best(run: Path) -> Best:
    text, tensors, manifest = Run.read(run).read_best()
    source = str(run / "best" / ARCHITECTURE)
    described = parse_description(parse_yaml(text, source=source), source=source)
    if manifest.get("architecture_id") != described.id:
        raise ExportError(
            f"{source}: is architecture {described.id}, but {MANIFEST} says {manifest.get('architecture_id')}; "
            "put the file back, or give the command of this run again"
        )
    return Best(described, tensors, manifest)


def _check_replaceable(out: Path, described: Description) -> None:
    """Raise unless nothing would be lost in `out`: it is missing, empty, or an untouched export of the same network."""
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out}: is a file; give a folder as -o")
    names = {file.name for file in out.iterdir()} - {_CACHE} if out.exists() else set()
    if not names:
        return
    manifest = _manifest(out) if MANIFEST in names else {}
    told = manifest.get("export")
    files = told.get("files") if isinstance(told, dict) else None
    if not isinstance(files, dict) or manifest.get("architecture_id") != described.id:
        raise ExportError(
            f"{out}: holds something other than an export of architecture {described.id}; give another folder"
        )
    changed = sorted(names - {*files, MANIFEST})
    changed += [name for name in sorted(names & set(files)) if sha256(out / name) != files[name]]
    if changed:
        raise ExportError(
            f"{out}: {', '.join(changed[:3])} would be lost, for it is not as the export before wrote it; "
            "give another folder, or move it away"
        )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ExportError(f"{path}: cannot be read: {problem}; give the folder of an export, or RUN/best") from problem
    if not isinstance(manifest, dict):
        raise ExportError(f"{path}: is no manifest; give the folder of an export, or RUN/best")
    return manifest
