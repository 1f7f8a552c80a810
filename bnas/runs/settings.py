"""What was asked of a run <-> config.yaml, space.yaml and environment.json, which make a folder a run."""

import os
import platform
import secrets
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from bnas.errors import RunError
from bnas.runs.asked import Asked, trains_a_model
from bnas.runs.contents import CONFIG, ENVIRONMENT, SPACE
from bnas.runs.documents import json_of, json_text, settings_of, text_of
from bnas.runs.sums import SUMS, Sums

_LIBRARIES = ("bnas", "torch", "optuna", "numpy", "pandas", "safetensors")
BEFORE_CONFIG = (SUMS, SPACE, ENVIRONMENT)  # what a run that was killed while it was made may have left
_ID = "run_id"  # key of environment.json
_RESTORE = "put it back, run the command that began this run again, or give another --out"


def environment() -> dict[str, Any]:
    """Return versions, platform, CPU count and threads; nothing that names the user or holds a secret."""
    return {
        "python": platform.python_version(),
        **{library: _version(library) for library in _LIBRARIES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def holds_run(folder: Path) -> bool:
    """Whether the folder holds a run, or what is left of one that lost its settings."""
    # False in a folder whose name is too long, too.
    return os.path.exists(folder / CONFIG) or (os.path.exists(folder / SUMS) and Sums.of(folder).has(CONFIG))


def read_asked(folder: Path, sums: Sums) -> Asked:
    """Return what was asked.

    Raises:
        RunError: a file is missing or damaged; says which.
    """
    config = settings_of(sums.read(CONFIG, hint=_RESTORE), folder / CONFIG, hint=_RESTORE)
    if trains_a_model(config):
        return Asked(config, "")
    return Asked(config, text_of(sums.read(SPACE, hint=_RESTORE), folder / SPACE, hint=_RESTORE))


def write_asked(sums: Sums, asked: Asked) -> None:
    """Make the folder that of a run.

    Raises:
        RunError: a file cannot be written.
    """
    if asked.space_yaml:
        sums.write(SPACE, asked.space_yaml)
    write_environment(sums, environment(), run_id=secrets.token_hex(4))
    _write_config(sums, asked.config)  # last, for it makes the folder a run


def write_changed(sums: Sums, asked: Asked, *, has_space: bool) -> None:
    """Write the settings of a run that go on otherwise, and its space where that is among what changes.

    Raises:
        RunError: they cannot be written; those before are intact.
    """
    if has_space:
        sums.write(SPACE, asked.space_yaml)  # before the settings: whoever asks again compares those first
    _write_config(sums, asked.config)


def _write_config(sums: Sums, config: dict[str, Any]) -> None:
    sums.write(CONFIG, _config_text(config))


def restore_asked(sums: Sums, asked: Asked) -> list[str]:
    """Write the files of a run anew that are damaged or gone, and of which this is what they held; return their names.

    Raises:
        RunError: a file cannot be written.
    """
    texts = {SPACE: asked.space_yaml, CONFIG: _config_text(asked.config)}
    lost = [name for name, text in texts.items() if not _is_sound(sums, name) and sums.is_expected(name, text)]
    for name in lost:
        sums.write(name, texts[name])
    return lost


def restore_environment(sums: Sums, known: dict[str, Any], run_id: str) -> str | None:
    """Write environment.json anew where it is damaged or gone; return its name where it was.

    Args:
        known: what it held beside the id of the run.
    Raises:
        RunError: it cannot be written.
    """
    if _is_sound(sums, ENVIRONMENT):
        return None
    write_environment(sums, known, run_id=run_id)
    return ENVIRONMENT


def write_environment(sums: Sums, known: dict[str, Any], *, run_id: str) -> None:
    """Write where a run is made, and the id that tells it from others.

    Raises:
        RunError: it cannot be written.
    """
    sums.write(ENVIRONMENT, json_text(known | {_ID: run_id}))


def run_id(folder: Path, sums: Sums) -> str:
    """Return what tells the run from all others.

    Raises:
        RunError: environment.json, which holds it, is missing or damaged.
    """
    path = folder / ENVIRONMENT
    return str(json_of(sums.read(ENVIRONMENT, hint=_RESTORE), path, hint=_RESTORE).get(_ID, "0"))


def _is_sound(sums: Sums, name: str) -> bool:
    try:
        sums.read(name, hint="")
    except RunError:
        return False
    return True


def _config_text(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
