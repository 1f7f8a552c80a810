"""What was asked of a run <-> config.yaml, space.yaml and environment.json in its folder; they make it a run."""

import os
import secrets
from pathlib import Path
from typing import Any

import yaml

from bnas.runs.asked import Asked
from bnas.runs.documents import json_text, read_json, read_settings, write_text
from bnas.runs.environment import environment
from bnas.runs.files import read_text
from bnas.runs.names import inside

_CONFIG, _SPACE, _ENVIRONMENT = "config.yaml", "space.yaml", "environment.json"
BEFORE_CONFIG = (_SPACE, _ENVIRONMENT)  # what a run that was killed while it was made may have left
_ID = "run_id"  # key of environment.json
_RESTORE = "put it back, or give another --out"


def holds_run(folder: Path) -> bool:
    """Whether the folder holds a run."""
    return os.path.exists(folder / _CONFIG)  # false in a folder whose name is too long, too


def read_asked(folder: Path) -> Asked:
    """Return what was asked.

    Raises:
        RunError: a file is missing or damaged; says which.
    """
    config = read_settings(folder / _CONFIG, hint=_RESTORE)
    return Asked(config, "" if trains_a_model(config) else read_text(folder / _SPACE, hint=_RESTORE))


def write_asked(folder: Path, asked: Asked) -> None:
    """Make the folder that of a run.

    Raises:
        RunError: a file cannot be written.
    """
    if asked.space_yaml:
        write_text(inside(folder, _SPACE), text=asked.space_yaml)
    here = environment() | {_ID: secrets.token_hex(4)}
    write_text(inside(folder, _ENVIRONMENT), text=json_text(here))
    write_config(folder, asked.config)  # last, for it makes the folder a run


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the settings alone.

    Raises:
        RunError: they cannot be written; those before are intact.
    """
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_text(inside(folder, _CONFIG), text=text)


def run_label(folder: Path) -> str:
    """Return a name for the run where many share one database: of its folder, and an id that no other run has.

    Raises:
        RunError: environment.json, which holds the id, is missing or damaged.
    """
    known = read_json(inside(folder, _ENVIRONMENT), hint=_RESTORE)
    return f"{folder.absolute().name}-{known.get(_ID, '0')}"


def trains_a_model(config: dict[str, Any]) -> bool:
    """Whether one given network is to be trained; else a space is to be searched."""
    return "model" in config
