"""Scores of networks beside what they reach alone -> one picture: the two orders, and how well each score ranks."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bnas.amounts import show
from bnas.report.ink import PLAIN, SMALL, Ink, dress, legend
from bnas.searcher.ranking import Ranking

_SEEDS = "tau between two trainings of the same networks"


def draw_ranking(networks: pd.DataFrame, ranking: Ranking, ink: Ink) -> Figure:
    """Return proxy loss against accuracy, and tau of each score with its interval.

    Args:
        networks: columns proxy_loss, test_accuracy and ops, one network a row.
        ranking: how well scores rank these networks.
    """
    figure = ink.figure(10.5, 4.4)
    points, bars = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _scatter(figure, points, networks, ink)
    _taus(bars, ranking, ink)
    legend(figure, ink, *bars.get_legend_handles_labels())
    return figure


def _scatter(figure: Figure, axes: Axes, networks: pd.DataFrame, ink: Ink) -> None:
    dress(axes, ink, title="Two orders of the same networks", x="proxy loss", y="accuracy, trained alone (%)")
    drawn = axes.scatter(
        networks["proxy_loss"], 100 * networks["test_accuracy"], c=networks["ops"].astype(float), s=28,
        cmap="viridis", norm="log", edgecolors=ink.quiet, linewidths=0.5,
    )  # fmt: skip
    axes.invert_xaxis()  # better is to the right
    bar = figure.colorbar(drawn, ax=axes, pad=0.02)
    bar.set_label("ops for one image", color=ink.text, fontsize=SMALL)
    for axis in (bar.ax.yaxis.set_major_formatter, bar.ax.yaxis.set_minor_formatter):
        axis(FuncFormatter(lambda value, _: show(value)))
    bar.ax.tick_params(which="both", colors=ink.text, labelsize=SMALL)


def _taus(axes: Axes, ranking: Ranking, ink: Ink) -> None:
    """Draw tau over all networks with its interval as a bar, and tau among networks of like ops as a mark on it."""
    dress(axes, ink, title="How well each score ranks", x="Kendall's tau-b", y="")
    for place, row in enumerate(ranking.measured):
        colour = ink.front if row.score == ranking.proxy else ink.quiet
        axes.barh(place, row.tau, height=0.6, color=colour)
        axes.plot((row.low, row.high), (place, place), color=ink.text, linewidth=1.3)
        label = "tau among networks of like ops" if place == 0 else None
        axes.plot(row.within, place, marker="D", markersize=6, color=ink.star, linestyle="none", label=label)
    if ranking.seeds:
        axes.axvline(ranking.seeds.tau, color=ink.star, linestyle=(0, (4, 3)), linewidth=1.3, label=_SEEDS)
    axes.set_yticks(range(len(ranking.measured)), [row.score for row in ranking.measured], fontsize=PLAIN)
    axes.invert_yaxis()
