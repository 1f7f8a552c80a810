"""Rows of short texts -> lines of even columns."""

from collections.abc import Collection, Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]], *, to_the_left: int | Collection[int]) -> Iterator[str]:
    """Return lines of even columns, a rule under the first; plain text, as a table of rich takes 0.2 s to draw.

    Args:
        to_the_left: the columns whose texts are flush left, or how many of the first are.
    """
    left = range(to_the_left) if isinstance(to_the_left, int) else to_the_left
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = zip(row, widths, strict=True)
        yield "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(cells)).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)
