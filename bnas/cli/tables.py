"""A table of the report -> lines on a terminal."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

WIDE, NARROW = 140, 90  # columns where stdout is a file or a pipe; what tables need at least


def stdout() -> Console:
    """Return what prints results: as wide as the terminal, but never so narrow that a table would lose a column."""
    return Console(width=max(Console().width, NARROW) if sys.stdout.isatty() else WIDE)


def drawn(table: Any, title: str) -> Table:
    """Return a table of the report as rich draws it; no word is cut."""
    picture = Table(title=title, box=None, collapse_padding=True, pad_edge=False, title_justify="left")
    for index, name in enumerate(table.header):
        words = [word for cell in (name, *(row[index] for row in table.rows)) for word in cell.split(" ")]
        picture.add_column(
            name, justify="right" if index >= table.numbers_from else "left", min_width=max(map(len, words))
        )
    for row in table.rows:
        picture.add_row(*row)
    return picture
