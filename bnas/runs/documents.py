"""JSON, YAML and CSV files <-> plain values and tables, with the file and what to do named where one is damaged."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pandas.errors import EmptyDataError, ParserError

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


Rows = Sequence[Mapping[str, Any]] | pd.DataFrame


def write_table(path: Path, *, rows: Rows) -> None:
    """Write a table, whole or not at all; columns in the order in which the rows first name them.

    Raises:
        RunError: it cannot be written; the table before it is intact.
    """
    # As objects, so that a missing value in a column of integers does not turn the others into floats.
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), dtype=object)
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def read_table(path: Path) -> pd.DataFrame:
    """Return the table; the column `id` is text, for an id such as `12e5` is no number.

    Raises:
        RunError: it is missing or is no table.
    """
    try:
        # The engine written in Python reads floats exactly; the one in C does not on every pandas.
        return pd.read_csv(path, engine="python", dtype={"id": str}, encoding="utf-8")
    except EmptyDataError:
        return pd.DataFrame()
    except FileNotFoundError as problem:
        raise RunError(f"{path}: is missing; run the command that began this run again, so that it ends") from problem
    except (OSError, ParserError, UnicodeDecodeError) as problem:
        raise RunError(f"{path}: cannot be read as a table: {problem}; remove it and run the same command") from problem
