"""JSON and YAML files <-> plain values, with the file and what to do named where one is damaged."""

import json
from pathlib import Path
from typing import Any

import yaml

from bnas.errors import RunError
from bnas.runs.files import read_text, replacing
from bnas.runs.masking import strict_json


def json_text(value: dict[str, Any]) -> str:
    """Return strict JSON for people and machines, secrets masked."""
    return json.dumps(strict_json(value), indent=2, allow_nan=False) + "\n"


def write_text(path: Path, *, text: str) -> None:
    """Write a text, whole or not at all.

    Raises:
        RunError: it cannot be written; the file before it is intact.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, *, hint: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        RunError: it is missing, or holds anything else.
    """
    try:
        return _mapping(json.loads(read_text(path, hint=hint)))
    except ValueError as problem:
        raise RunError(f"{path}: is damaged: {problem}; {hint}") from problem


def read_settings(path: Path, *, hint: str) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        RunError: it is missing, or holds anything else.
    """
    try:
        return _mapping(yaml.safe_load(read_text(path, hint=hint)))
    except (ValueError, yaml.YAMLError) as problem:
        said = str(problem).replace("\n", " ")
        raise RunError(f"{path}: is damaged: {said}; {hint}") from problem


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"it must hold keys and values, but holds {type(value).__name__}")
    return value
