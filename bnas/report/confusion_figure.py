"""Which classes of the test images a network takes for which -> a picture."""

from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from bnas.report.classes import Classes
from bnas.report.ink import SMALL, Ink, dress

_WITH_NUMBERS = 15  # classes, up to which there is room for them


def draw_confusion(found: Classes, ink: Ink) -> Figure:
    """Return which share of each class is taken for which, a class a row."""
    shown = found.shown
    counts = found.counts[np.ix_(shown, shown)]
    shares = counts / np.maximum(found.images[shown], 1)[:, None]
    side = max(3.4, 0.34 * len(shown) + 1.6)
    figure = ink.figure(side + 0.6, side)
    axes = figure.subplots()
    dress(axes, ink, title="", x="taken for", y="class")
    axes.grid(visible=False)
    axes.imshow(shares, cmap=LinearSegmentedColormap.from_list("share", [ink.paper, ink.front]), vmin=0, vmax=1)
    names = [_short(found.names[place]) for place in shown]
    axes.set_xticks(range(len(shown)), names, fontsize=SMALL, rotation=90)
    axes.set_yticks(range(len(shown)), names, fontsize=SMALL)
    if len(shown) <= _WITH_NUMBERS:
        _write_counts(axes, counts, shares, ink)
    return figure


def _write_counts(axes: Any, counts: np.ndarray, shares: np.ndarray, ink: Ink) -> None:
    for row, column in np.argwhere(counts):
        colour = ink.paper if shares[row, column] > 0.5 else ink.text
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=SMALL, color=colour)


def _short(name: str, longest: int = 16) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
