"""A CSV file of results that grows row by row, so that a long benchmark can be stopped and goes on, or be shared."""

import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from bnas.searcher.ranking.table import append_row, read_rows

Job = TypeVar("Job")


class Rows:
    """Results in a file; texts hold no comma. A row that a kill tore does not count."""

    def __init__(self, path: Path, columns: tuple[str, ...], *, texts: tuple[str, ...]) -> None:
        self._path, self._columns = path, columns
        self._types = dict.fromkeys(texts, str)

    def frame(self) -> pd.DataFrame:
        """Return what is there."""
        if not self._path.exists() or not self._path.stat().st_size:
            return pd.DataFrame(columns=list(self._columns))
        return read_rows(self._path, types=self._types)

    def add(self, **row: object) -> None:
        """Append a row; several processes may do so at once."""
        append_row(self._path, columns=self._columns, cells=[_said(row[column]) for column in self._columns])

    def complete(self, jobs: Sequence[Job], row_of: Callable[[Job], dict[str, Any]], most: int | None = None) -> None:
        """Do the jobs whose rows are missing, and write each row down, here and on stderr, as it comes.

        Args:
            jobs: named tuples, of columns that tell rows apart.
            row_of: what does a job.
            most: do at most so many.
        """
        missing = (job for job in jobs if not self._has(job))  # looked at one by one: another process may add some
        for job in islice(missing, most):
            row = row_of(job)
            self.add(**row)
            print(*(row[column] for column in self._columns), sep="  ", file=sys.stderr, flush=True)

    def _has(self, job: Any) -> bool:
        frame = self.frame()
        return tuple(job) in set(zip(*(frame[name] for name in job._fields), strict=True))


def shard(jobs: Sequence[Job], part: str | None) -> Sequence[Job]:
    """Return the jobs of one process of several: `2/4` takes the second of four, and every fourth after it.

    None takes all.
    """
    if part is None:
        return jobs
    place, parts = map(int, part.split("/"))
    if not 1 <= place <= parts:
        raise SystemExit(f"--shard {part}: the first of four is 1/4, the last 4/4")
    return jobs[place - 1 :: parts]


def _said(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if "," in text:
        raise ValueError(f"results: {text!r} holds a comma, which parts cells; choose another name")
    return text
