"""The epochs of a training -> pictures: its course, the values of filters, the experts' use."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnas.report.ink import SMALL, Ink, dress, legend

MOST_LAYERS = 6  # in one picture of filters

Epoch = dict[str, Any]  # an event of the log: phase, loss, and what was measured


def draw_course(epochs: Sequence[Epoch], ink: Ink) -> Figure:
    """Return training loss, validation accuracy and flipped bits over the epochs of all stages."""
    wanted = (
        ("loss", "Training loss", "", 1),
        ("validation_accuracy", "Validation accuracy", "%", 100),
        ("flips", "Binary weights that flip in an epoch", "%", 100),
    )
    shown = [panel for panel in wanted if any(panel[0] in epoch for epoch in epochs)]
    figure = ink.figure(4.3 * len(shown), 3.4)
    for axes, (key, title, unit, factor) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        dress(axes, ink, title=title, x="epoch, all stages", y=unit)
        points = [(place, factor * epoch[key]) for place, epoch in enumerate(epochs, start=1) if key in epoch]
        axes.plot(*zip(*points, strict=True), color=ink.front, linewidth=2)
        _mark_stages(axes, epochs, ink)
    return figure


def draw_filters(epochs: Sequence[Epoch], ink: Ink) -> Figure:
    """Return the two values of the first filter of some layers over the epochs: alpha above, beta below."""
    layers = spread(list(epochs[-1]["filters"]), MOST_LAYERS)
    figure = ink.figure(3.1 * min(3, len(layers)), 2.7 * -(-len(layers) // 3))
    grid = figure.subplots(-(-len(layers) // 3), min(3, len(layers)), squeeze=False).flatten()
    for axes, layer in zip(grid, layers, strict=False):
        dress(axes, ink, title="", x="epoch, all stages", y="")
        axes.set_title(layer, loc="left", color=ink.text, fontsize=SMALL)
        found = [(place, *e["filters"][layer]) for place, e in enumerate(epochs, 1) if layer in e.get("filters", {})]
        places, alphas, betas = zip(*found, strict=True)
        axes.plot(places, alphas, color=ink.front, linewidth=2, label="alpha, of the filter's larger weights")
        axes.plot(places, betas, color=ink.star, linewidth=2, label="beta, of the others")
        axes.axhline(0, color=ink.quiet, linewidth=0.8)
        _mark_stages(axes, epochs, ink)
    for axes in grid[len(layers) :]:
        axes.set_visible(False)
    legend(figure, ink, *grid[0].get_legend_handles_labels())
    return figure


def draw_usage(epochs: Sequence[Epoch], ink: Ink) -> Figure:
    """Return how evenly each layer's experts win over the epochs: 1 for equally often, 0 for a collapsed gate."""
    figure = ink.figure(7.8, 3.6)
    axes = figure.subplots()
    dress(axes, ink, title="Use of the experts", x="epoch, all stages", y="entropy over the largest possible")
    for layer in sorted({name for epoch in epochs for name in epoch.get("usage", {})}):
        found = [(place, e["usage"][layer]) for place, e in enumerate(epochs, 1) if layer in e.get("usage", {})]
        axes.plot(*zip(*found, strict=True), linewidth=1.4, label=layer)
    axes.set_ylim(-0.02, 1.02)
    _mark_stages(axes, epochs, ink)
    axes.legend(frameon=False, fontsize=SMALL, labelcolor=ink.text)
    return figure


def spread(names: Sequence[str], most: int) -> list[str]:
    """Return at most so many of the names, from the first to the last at even distances."""
    if len(names) <= most:
        return list(names)
    return [names[round(place * (len(names) - 1) / (most - 1))] for place in range(most)]


def _mark_stages(axes: Axes, epochs: Sequence[Epoch], ink: Ink) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for place in range(1, len(epochs)):
        if epochs[place]["phase"] != epochs[place - 1]["phase"]:
            axes.axvline(place + 0.5, color=ink.quiet, linestyle=(0, (2, 3)), linewidth=1)
