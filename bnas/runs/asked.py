"""What was asked of a run <-> config.yaml, space.yaml, environment.json, which make a folder a run; how two differ."""

import json
import os
import platform
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from bnas.runs.documents import json_text, read_json, read_settings, write_text
from bnas.runs.files import read_text
from bnas.runs.names import inside

_LIBRARIES = ("bnas", "torch", "optuna", "numpy", "pandas", "safetensors")


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


_ABSENT = "nothing"
_SHOWN = 8  # differences named in one message
Difference = tuple[str, str]  # stored, asked; as JSON


@dataclass(frozen=True)
class Asked:
    """What was asked of a run: the settings, resolved, and the text of the space."""

    config: dict[str, Any]
    space_yaml: str

    def differences(self, other: "Asked") -> dict[str, Difference]:
        """Return this and the other value of every key that differs; comments and layout of the space do not count.

        Nested keys read as in `train.epochs` or `budgets[0]`; those of the space begin with `space`.
        """
        found = _compare(self.config, other.config)
        if self.space_yaml != other.space_yaml:
            spaces = ({"space": yaml.safe_load(text)} for text in (self.space_yaml, other.space_yaml))
            found |= _compare(*spaces)
        return found


def is_free(key: str, mutable: Collection[str]) -> bool:
    """Whether the key, or a key that it lies under, is among those that a resumed run may change."""
    return any(key == free or key.startswith((f"{free}.", f"{free}[")) for free in mutable)


def spelled(found: Mapping[str, Difference]) -> str:
    """Say differences in one line: `seed: stored 0, asked 1; ...`."""
    said = [f"{key}: stored {stored}, asked {asked}" for key, (stored, asked) in found.items()]
    rest = len(said) - _SHOWN
    return "; ".join(said[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")


def _compare(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Difference]:
    before, after = _flat(stored), _flat(asked)
    pairs = {key: (before.get(key, _ABSENT), after.get(key, _ABSENT)) for key in before | after}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    inner: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        inner = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        inner = [(f"{prefix}[{index}]", item) for index, item in enumerate(value)]
    if not inner:
        return {prefix: json.dumps(value, default=str)} if prefix else {}
    return {key: text for name, item in inner for key, text in _flat(item, name).items()}


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
