"""A run folder -> a folder to hand over, proved before it is there; and such a folder -> its network."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from bnas.errors import BnasError, ExportError, LookupFailed, RunError
from bnas.lookup import FAILURES, find, not_among, reason
from bnas.runs import Run, environment
from bnas.runs.documents import json_text, read_json
from bnas.runs.files import check_own, clear_up, replacing_folder
from bnas.runs.saved_network import ANEW, ARCHITECTURE, MANIFEST, WEIGHTS, manifest_text, read_network
from bnas.ship.c_code import export_c
from bnas.ship.description import Description, parse_description
from bnas.ship.onnx_export import export_onnx
from bnas.ship.packed import export_packed
from bnas.ship.proof import reload
from bnas.ship.qonnx_export import export_qonnx
from bnas.ship.training import TrainedNetwork, export_training, sha256
from bnas.spec import parse_yaml
from bnas.trust import check_code

# Writes into an empty folder, and returns entries for the manifest.
Exporter = Callable[[TrainedNetwork, Path], dict[str, Any]]

# An entry `target-variant` is what `--to target --for variant` names.
EXPORTERS: dict[str, Exporter] = {
    "c": export_c,
    "c-words32": partial(export_c, word_bits=32),
    "onnx": export_onnx,
    "onnx-size": partial(export_onnx, small=True),
    "packed": export_packed,
    "qonnx": export_qonnx,
    "qonnx-finn": partial(export_qonnx, flow="finn"),
    "qonnx-hls4ml": partial(export_qonnx, flow="hls4ml"),
    "training": export_training,
}

_CACHE = "__pycache__"  # what running model.py leaves
_NOT_ONE = "export the run again, or give RUN/best"


def variant_of(to: str, variant: str | None) -> str:
    """Return the name of a target's variant, as `EXPORTERS` has it.

    Raises:
        LookupFailed: there is no such target, or it has no such variant.
    """
    if variant is None:
        return to
    find(to, EXPORTERS, what="export target")
    variants = [name.removeprefix(f"{to}-") for name in EXPORTERS if name.startswith(f"{to}-")]
    if not variants:
        raise LookupFailed(f"export target {to!r} has no variants; leave {variant!r} out")
    if variant not in variants:
        raise LookupFailed(not_among(variant, variants, what=f"variant of export target {to!r}"))
    return f"{to}-{variant}"


def _by_code_of_a_user(name: str, exporter: Exporter, trained: TrainedNetwork, folder: Path) -> dict[str, Any]:
    """Return what an exporter that is not ours gives, or say in a line that it failed."""
    try:
        entries = exporter(trained, folder)
        json_text(entries)
    except BnasError:
        raise
    except FAILURES as problem:
        raise ExportError(f"export target {name!r}: its code fails: {reason(problem)}") from problem
    if not isinstance(entries, dict):
        kind = type(entries).__name__
        raise ExportError(f"export target {name!r}: must return a dict, of entries for the manifest, but gave {kind}")
    return entries


def export_network(trained: TrainedNetwork, *, to: str, out: str | Path) -> Path:
    """Write a trained network into a folder; it is there only if the network comes back from it the same.

    Args:
        to: an entry of `EXPORTERS`, or `pkg.mod:attr` of an exporter.
        out: a new or empty folder, or an earlier export of the same network, which is replaced.
    Returns: `out`.
    Raises:
        ExportError: `out` holds something else, the proof fails, or an exporter of a user's does; what was in `out` is
            as it was.
        RunError: `out` cannot be written.
        LookupFailed: there is no such target.
    """
    exporter, out = find(to, EXPORTERS, what="export target"), Path(out)
    check_own(out)
    place = Path(os.path.realpath(out))
    _check_movable(out, place)
    clear_up(place)
    weights = hashlib.sha256(save(dict(trained.tensors))).hexdigest()
    _check_replaceable(out, trained.described, weights)
    with replacing_folder(place) as folder:
        proved = exporter(trained, folder) if to in EXPORTERS else _by_code_of_a_user(to, exporter, trained, folder)
        files = {name: sha256(folder / name) for name in sorted(_held(folder))}
        export = {"to": to, "weights_sha256": weights, "files": files, "versions": environment()}
        known = dict(trained.manifest)
        if to not in EXPORTERS:
            known.pop("reload", None)  # it is of the training: of these files an exporter itself says what was proved
        manifest = {**known, **proved, "export": export}
        (folder / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
    return out


def load(folder: str | Path, *, model: nn.Module | None = None, trust: bool = False) -> nn.Module:
    """Return the network of an export, or of `best/` in a run folder, with its weights, ready to evaluate.

    Args:
        folder: holds description, weights and manifest.
        model: the module to copy and give the weights, where it was given in Python and nothing says how it is made.
        trust: run code that the description names, as `file.py:attr`; look at it first.
    Raises:
        TrustError: the description names code, which is not trusted.
        ExportError: it is no folder, or the weights are not those of the architecture.
        RunError: a file is missing or damaged.
        SpecError: the description is not well formed, or a module is to be given.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ExportError(f"{folder}: is no folder; give the folder of an export, or RUN/best")
    text, tensors, _ = read_network(folder, hint=_NOT_ONE)
    source = str(folder / ARCHITECTURE)
    described = parse_description(parse_yaml(text, source=source), source=source)
    check_code(described, source=source, trust=trust)
    return reload(described, tensors, source=str(folder / WEIGHTS), model=model)


def best_network(run: Path, *, trust: bool = False) -> TrainedNetwork:
    """Return the best network of a run.

    Args:
        trust: as in `load`.
    Raises:
        TrustError: its description names code, which is not trusted.
        ExportError: its description is not the one that the manifest names.
        RunError: the run has none, or one for each of several budgets, or it is damaged.
    """
    found = Run.read(run)
    if found.has_targets:
        raise RunError(f"{run}: has a winner for each of several budgets; give the run of one, below targets/")
    text, tensors, manifest = found.best.read()
    source = str(found.best.folder / ARCHITECTURE)
    described = parse_description(parse_yaml(text, source=source), source=source)
    if manifest.get("architecture_id") != described.id:
        raise ExportError(
            f"{source}: is architecture {described.id}, but {MANIFEST} says {manifest.get('architecture_id')}; "
            f"put the file back, or remove {found.best.folder} and {ANEW}"
        )
    check_code(described, source=source, trust=trust)
    return TrainedNetwork(described, tensors, manifest, trust=trust)


def _held(folder: Path) -> set[str]:
    """Return the files in a folder by their paths in it, but for those that Python keeps there."""
    files = [entry.relative_to(folder) for entry in folder.rglob("*") if entry.is_symlink() or not entry.is_dir()]
    return {file.as_posix() for file in files if _CACHE not in file.parts}


def _check_movable(out: Path, place: Path) -> None:
    """Raise where a folder cannot be replaced: what is mounted stays, and whoever stands in one would stand in none."""
    what = "a mount point" if place.is_mount() else "the current folder" if place == Path.cwd() else ""
    if what:
        raise ExportError(f"{out}: is {what}, which cannot be replaced as a whole; give a folder inside it")


def _check_replaceable(out: Path, described: Description, weights: str) -> None:
    """Raise unless nothing would be lost in `out`: it is missing, empty, or an untouched export of the same network.

    Args:
        weights: the checksum of those that are to be exported; exports from before have none.
    """
    if not os.path.exists(out):  # nor if its name is too long, which writing it tells
        return
    if not out.is_dir():
        raise ExportError(f"{out}: is a file; give a folder as -o")
    names = _held(out)
    if not names:
        return
    manifest = read_json(out / MANIFEST, hint="give another folder") if MANIFEST in names else {}
    told = manifest.get("export")
    files = told.get("files") if isinstance(told, dict) else None
    if not isinstance(files, dict) or manifest.get("architecture_id") != described.id:
        raise ExportError(
            f"{out}: holds something other than an export of architecture {described.id}; give another folder"
        )
    if told.get("weights_sha256", weights) != weights:  # type: ignore[union-attr]
        raise ExportError(
            f"{out}: holds an export of architecture {described.id} with other weights, of another training; give "
            "another folder, or remove it"
        )
    changed = sorted(names - {*files, MANIFEST})
    changed += [name for name in sorted(names & set(files)) if sha256(out / name) != files[name]]
    if changed:
        raise ExportError(
            f"{out}: {', '.join(changed[:3])} would be lost, for it is not as the export before wrote it; "
            "give another folder, or move it away"
        )
