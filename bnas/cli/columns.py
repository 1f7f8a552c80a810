"""Rows of short texts -> lines of even columns, no longer than a terminal is wide."""

import shutil
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence

from bnas.amounts import broken, unbroken

_GAP = "  "
Row = Sequence[str]


def aligned(rows: Sequence[Row], *, to_the_left: int | Collection[int], width: int | None = None) -> Iterator[str]:
    """Return lines of even columns, a rule under the first; plain text, as a table of rich takes 0.2 s to draw.

    Where they would be longer than the terminal, cells are broken between words; and where words are too long for
    that, columns that have no room follow in a table below, which begins with the first column again.

    Args:
        to_the_left: the columns whose texts are flush left, or how many of the first are.
        width: the longest line; None takes that of the terminal, and where standard output is none, one line a row.
    """
    left = range(to_the_left) if isinstance(to_the_left, int) else to_the_left
    longest = room() if width is None else width
    for number, places in enumerate(_parts(rows, longest)):
        if number:
            yield ""
        part = [[unbroken(row[place]) for place in places] for row in rows]
        widths = _widths(part, longest)
        for index, row in enumerate(part):
            yield from _lines(row, widths, [place in left for place in places])
            if index == 0:
                yield _GAP.join("-" * width for width in widths)


def room() -> int | None:
    """Return how long a line of standard output may be; None where it is no terminal, and any length is right."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _parts(rows: Sequence[Row], longest: int | None) -> list[list[int]]:
    """Return which columns stand beside each other."""
    columns = list(range(len(rows[0])))
    if longest is None:
        return [columns]
    least = [_least([row[place] for row in rows], longest) for place in columns]
    parts = [columns[:1]]
    for place in columns[1:]:
        if len(parts[-1]) > 1 and sum(least[p] + len(_GAP) for p in parts[-1]) + least[place] > longest:
            parts.append(columns[:1])
        parts[-1].append(place)
    return parts


def _least(cells: Sequence[str], longest: int) -> int:
    """Return how narrow a column can be: as its longest word, but never more than half a line."""
    words = [word for cell in cells for word in unbroken(cell).split(" ")]
    return max(1, min(max(map(len, words)), (longest - len(_GAP)) // 2))


def _widths(rows: Sequence[Row], longest: int | None) -> list[int]:
    """Return how wide the columns are: as their texts, or where these are too long together, the widest less so."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    if longest is None:
        return widths
    least = [_least(column, longest) for column in columns]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > longest:
        spare = [width - few for width, few in zip(widths, least, strict=True)]
        if max(spare) <= 0:
            break
        widest = max((place for place in range(len(widths)) if spare[place] > 0), key=lambda place: widths[place])
        widths[widest] -= 1
    return widths


def _lines(row: Row, widths: Sequence[int], is_left: Sequence[bool]) -> Iterator[str]:
    """Yield the lines of one row."""
    cells = [
        textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
        if len(cell) > width else [cell] for cell, width in zip(row, widths, strict=True)
    ]  # fmt: skip
    for line in range(max(map(len, cells))):
        texts = [cell[line] if line < len(cell) else "" for cell in cells]
        laid = [
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(texts, widths, is_left, strict=True)
        ]
        yield broken(_GAP.join(laid)).rstrip()
