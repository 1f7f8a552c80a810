"""A selection -> the picture of its metric: one bar a layer, coloured by what was decided on it."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnas.report.ink import PRECISION_FILL, PRECISION_SAID, SMALL, Ink, dress, legend
from bnas.space.values import PRECISIONS

_WIDE = 8  # bars that differ by more than this many times are drawn on a log scale

Rows = Sequence[dict[str, Any]]


def draw_selection(rows: Rows, ink: Ink, *, metric: str) -> Figure:
    """Return the metric of each layer, from the first to the last, beside its error and its share of the MACs.

    Args:
        rows: those of `Selection.rows`.
        metric: its name.
    """
    figure = ink.figure(10.5, 1.6 + 0.26 * len(rows))
    panels = figure.subplots(1, 3, sharey=True)
    columns = ((f"Metric: {metric}", "metric"), ("Error of a binary input", "error"), ("MACs (%)", "share"))
    for axes, (title, column) in zip(panels, columns, strict=True):
        dress(axes, ink, title=title, x="", y="")
        _bars(axes, rows, column, ink)
    panels[0].set_yticks(range(len(rows)), [row["layer"] or "(itself)" for row in rows], fontsize=SMALL)
    panels[0].invert_yaxis()
    handles = [panels[2].barh([0], [0], color=PRECISION_FILL[kind]) for kind in PRECISIONS]
    legend(figure, ink, handles, [PRECISION_SAID[kind] for kind in PRECISIONS])
    return figure


def _bars(axes: Axes, rows: Rows, column: str, ink: Ink) -> None:
    """Draw one bar a row, and where there is no number, say why the layer has no choice."""
    known = [(place, row, float(row[column])) for place, row in enumerate(rows) if row.get(column) is not None]
    unit = 100 if column == "share" else 1
    for place, row, value in known:
        axes.barh(place, unit * value, height=0.7, color=PRECISION_FILL[row["precision"]])
    values = [value for _, _, value in known if value > 0]
    if column == "metric" and values and max(values) > _WIDE * min(values):
        axes.set_xscale("log")
    if column == "metric":
        for place, row in enumerate(rows):
            if row.get(column) is None:
                axes.annotate(
                    row["why"], (0.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL,
                    color=ink.quiet,
                )  # fmt: skip
    axes.margins(y=0.01)
    axes.grid(visible=False, axis="y")
