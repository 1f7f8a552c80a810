"""Rows <-> a CSV file whose floats come back exactly and whose bytes depend on the rows alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.errors import EmptyDataError, ParserError

from bnas.errors import RunError
from bnas.runs.files import replacing

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
