"""Rows <-> a CSV file that grows one row at a time, by several processes, and stays sound where a kill tears a row."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bnas.runs.files import append_line, cannot_write


def append_row(path: Path, *, columns: Sequence[str], cells: Iterable[object]) -> None:
    """Append a row, its cells free of commas; the first one comes after the names of the columns.

    A torn row before it gets more cells than there are columns, so that it never passes for a whole one.

    Raises:
        RunError: the file cannot be written; what it held is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            if file.tell() == 0:
                file.write(",".join(columns).encode() + b"\n")
            elif _is_torn(path.read_bytes()):
                file.write(b"," * len(columns))
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    append_line(path, ",".join(map(str, cells)))


def read_rows(path: Path, *, types: Mapping[str, type]) -> pd.DataFrame:
    """Return the whole rows of a file.

    Args:
        types: of columns whose cells are no numbers, or look like some.
    Raises:
        OSError, ValueError: it cannot be read, or is no table.
    """
    content = path.read_bytes()
    lines = content.decode().splitlines()[: -1 if _is_torn(content) else None]
    whole = [line for line in lines if line.count(",") == lines[0].count(",")]
    return pd.read_csv(io.StringIO("\n".join(whole)), dtype=dict(types)).dropna()


def _is_torn(content: bytes) -> bool:
    return not content.endswith(b"\n")
