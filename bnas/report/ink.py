"""The colours and the lettering that every figure shares, on light and on dark paper."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bnas.amounts import show
from bnas.space.values import Precision


class Ink(NamedTuple):
    """Colours of a figure, apart for the colour-blind (after Okabe and Ito, 2008) and by lightness as well."""

    paper: str
    text: str
    quiet: str  # axes, grid, what is there to compare with
    search: str
    front: str
    star: str

    def figure(self, width: float, height: float) -> Figure:
        """Return an empty figure, its size in inches; no global state of pyplot is touched."""
        return Figure(figsize=(width, height), facecolor=self.paper, layout="constrained")


LIGHT = Ink(paper="#ffffff", text="#1d2733", quiet="#8a93a0", search="#56b4e9", front="#0072b2", star="#d55e00")
DARK = Ink(paper="#161b22", text="#e6edf3", quiet="#7d8794", search="#2f7fae", front="#6cc4f5", star="#ff8a3d")
INKS = {"": LIGHT, "-dark": DARK}  # by what is added to a figure's file name

PRECISION_FILL: dict[Precision, str] = {"binary": "#0072b2", "weight": "#56b4e9", "real": "#e69f00"}
PRECISION_TEXT: dict[Precision, str] = {"binary": "#ffffff", "weight": "#10151b", "real": "#10151b"}
PRECISION_SAID: dict[Precision, str] = {
    "binary": "binary input and weight",
    "weight": "real input, binary weight",
    "real": "real input and weight",
}

SMALL, PLAIN, LARGE = 8.5, 10.0, 12.0  # points
DPI = 160


def dress(axes: Axes, ink: Ink, *, title: str, x: str, y: str) -> None:
    """Give axes their title, labels and colours, without a frame."""
    axes.set_title(title, loc="left", color=ink.text, fontsize=LARGE, pad=10)
    axes.set_xlabel(x, color=ink.text, fontsize=PLAIN)
    axes.set_ylabel(y, color=ink.text, fontsize=PLAIN)
    axes.set_facecolor(ink.paper)
    axes.tick_params(colors=ink.text, labelsize=SMALL, length=0)
    axes.grid(color=ink.quiet, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def amounts(axes: Axes) -> None:
    """Write the horizontal axis as 2.5M."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: show(value)))


def legend(figure: Figure, ink: Ink, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Name what was drawn, in one line under the axes."""
    figure.legend(
        handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=SMALL,
        labelcolor=ink.text,
    )  # fmt: skip
