"""A CSV file of results that grows row by row, so that a long benchmark can be stopped and goes on."""

from pathlib import Path

import pandas as pd

from bnas.runs.files import append_line


class Rows:
    """Results in a file; texts must hold no comma. A row that a kill tore does not count."""

    def __init__(self, path: Path, columns: tuple[str, ...], *, texts: tuple[str, ...]) -> None:
        self._path, self._columns = path, columns
        self._types = dict.fromkeys(texts, str)

    def frame(self) -> pd.DataFrame:
        """Return what is there."""
        if not self._path.exists():
            return pd.DataFrame(columns=list(self._columns))
        return pd.read_csv(self._path, dtype=self._types, on_bad_lines="skip").dropna()

    def add(self, **row: object) -> None:
        """Append a row; several processes may do so at once."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._path.open("x", encoding="utf-8") as file:
                file.write(",".join(self._columns) + "\n")
        except FileExistsError:
            pass
        append_line(self._path, ",".join(_said(row[column]) for column in self._columns))


def _said(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
