"""The bytes of JSON, YAML and CSV files <-> plain values and tables, with the file named where they are damaged."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.errors import EmptyDataError, ParserError

from bnas.errors import RunError, SpecError
from bnas.masking import strict_json
from bnas.runs.files import read_bytes, replacing
from bnas.spec import parse_yaml

_TEXTS = {"id": str, "layer": str}  # columns of what looks like a number at times, and is none
Rows = Sequence[Mapping[str, Any]] | pd.DataFrame


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, their values by the names of the columns."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict(orient="records")]


def json_text(value: dict[str, Any]) -> str:
    """Return strict JSON for people and machines, secrets masked."""
    return json.dumps(strict_json(value), indent=2, allow_nan=False) + "\n"


def sealed(value: dict[str, Any], *, key: str) -> dict[str, Any]:
    """Return strict JSON values with the sha256 of all others under a key, so that a file knows its own checksum."""
    plain = strict_json({name: inner for name, inner in value.items() if name != key})
    return plain | {key: _digest(plain)}


def check_seal(value: dict[str, Any], *, key: str, path: Path, hint: str) -> None:
    """Check the sha256 under a key, where there is one: files of builds before this one have none.

    Raises:
        RunError: it is not that of the other values.
    """
    if key in value and value[key] != _digest({name: inner for name, inner in value.items() if name != key}):
        raise RunError(f"{path}: is damaged: its {key} is not that of what it holds; {hint}")


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def text_of(data: bytes, path: Path, *, hint: str) -> str:
    """Return the text that the bytes of a file are.

    Raises:
        RunError: they are none.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise RunError(f"{path}: is damaged: {problem}; {hint}") from problem


def json_of(data: bytes, path: Path, *, hint: str) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        RunError: it holds anything else, a name twice, or text that cannot be written again.
    """
    try:
        value = json.loads(data, object_pairs_hook=_each_once)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # neither nan nor half a character
        return _mapping(value)
    except (ValueError, RecursionError) as problem:
        raise RunError(f"{path}: is damaged: {problem}; {hint}") from problem


def settings_of(data: bytes, path: Path, *, hint: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        RunError: it holds anything else.
    """
    try:
        return _mapping(parse_yaml(data.decode("utf-8"), source="its YAML"))
    except (ValueError, SpecError) as problem:
        raise RunError(f"{path}: is damaged: {problem}; {hint}") from problem


def table_of(data: bytes, path: Path) -> pd.DataFrame:
    """Return the table that a CSV file holds; ids and layers are text, for an id such as `12e5` is no number.

    Raises:
        RunError: it holds none.
    """
    try:
        # The engine written in Python reads floats exactly; the one in C does not on every pandas.
        return pd.read_csv(io.BytesIO(data), engine="python", dtype=_TEXTS, encoding="utf-8")
    except EmptyDataError:
        return pd.DataFrame()
    except (ParserError, ValueError, MemoryError, OverflowError) as problem:
        raise RunError(
            f"{path}: is damaged: no table: {' '.join(str(problem).split())}; remove it and run the same command"
        ) from problem


def table_text(rows: Rows) -> str:
    """Return a table as CSV; columns in the order in which the rows first name them."""
    # As objects, so that a missing value in a column of integers does not turn the others into floats.
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), dtype=object)
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text


@contextmanager
def taking(
    path: Path, *, hint: str = "run the command that began this run again, so that it is made anew"
) -> Iterator[None]:
    """Take it for damage of a file where what it holds has not the form in which the block takes it.

    Files of builds that kept no checksums may be sound JSON, YAML or CSV, and hold anything.

    Raises:
        RunError: it has not; names the file.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as problem:
        said = " ".join(f"{type(problem).__name__}: {problem}".split())
        raise RunError(f"{path}: is damaged: what it holds cannot be used ({said}); {hint}") from problem


def read_json(path: Path, *, hint: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        RunError: it is missing, or holds anything else.
    """
    return json_of(read_bytes(path, hint=hint), path, hint=hint)


def write_text(path: Path, *, text: str) -> None:
    """Write a text, whole or not at all.

    Raises:
        RunError: it cannot be written; the file before it is intact.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))  # half a character in a name of others


def write_table(path: Path, *, rows: Rows) -> None:
    """Write a table, whole or not at all.

    Raises:
        RunError: it cannot be written; the table before it is intact.
    """
    write_text(path, text=table_text(rows))


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"it must hold keys and values, but holds {type(value).__name__}")
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)
