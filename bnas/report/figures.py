"""What a run has found -> pictures: the Pareto front, the course of the search, where a network's cost lies."""

import math
from collections.abc import Callable, Iterable
from itertools import groupby

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnas.amounts import show
from bnas.cost.budget import QUANTITIES, Budget
from bnas.cost.plan import PlannedLayer
from bnas.cost.totals import BOPS_PER_OP, cost
from bnas.report.findings import Findings, paid_rows
from bnas.report.ink import PLAIN, PRECISION_FILL, PRECISION_SAID, SMALL, Ink, amounts, dress, legend
from bnas.space.values import PRECISIONS

SUPERNET, RETRAIN, ON_ALL = "supernet", "retrain", "retrain/on-all"  # phases of training as the log names them
PROXY = "proxy loss, shared weights"
_UNITS = {
    "ops": "ops for one image, counted",
    "bops": "BOPs for one image, counted",
    "flops": "FLOPs for one image, counted",
    "bytes": "bytes, counted",
    "latency_ms": "milliseconds for one image, predicted",
    "activation_bytes": "bytes of activations, counted",
}
_WIDE = 8  # a range of amounts that spans more than this many times its least is drawn on a log scale


def draw_pareto(found: Findings, ink: Ink) -> Figure:
    """Return proxy loss over ops, and over each other budgeted quantity, with the limits; better is up."""
    limited = [name for name, _ in found.budget.limits]
    shown = [name for name in QUANTITIES if name == "ops" or name in limited]
    figure = ink.figure(4.6 * max(len(shown), 1.7), 4.6)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for index, (name, axes) in enumerate(zip(shown, panels, strict=True)):
        dress(axes, ink, title="", x=_UNITS[name], y=PROXY if index == 0 else "")
        _scatter(axes, found, name, ink)
        _mark_limits(axes, found.budget, name, ink)
        amounts(axes)
    panels[0].invert_yaxis()
    legend(figure, ink, *panels[0].get_legend_handles_labels())
    return figure


def draw_search(found: Findings, ink: Ink) -> Figure:
    """Return the lowest proxy loss so far over the paid evaluations, of search and random twin; better is up."""
    figure = ink.figure(7.8, 4.2)
    axes = figure.subplots()
    dress(axes, ink, title="Best so far", x="paid evaluations", y=PROXY)
    kinds = (("random twin", found.twin, ink.quiet, 1), ("search", found.candidates, ink.front, 2))
    for name, table, colour, order in kinds:
        scores = _losses(table)
        if scores.empty:
            continue
        count = range(1, len(scores) + 1)
        axes.plot(count, scores, ".", color=colour, alpha=0.35, markersize=4, zorder=order)
        axes.step(count, scores.cummin(), where="post", color=colour, linewidth=2, zorder=order + 2, label=name)
    drawn = [_losses(table) for _, table, *_ in kinds if len(paid_rows(table))]
    low = min(float(losses.min()) for losses in drawn)
    high = max(float(losses.quantile(0.95)) for losses in drawn)
    margin = max(0.05 * (high - low), 1e-3)
    axes.set_ylim(high + margin, low - margin)  # the worst 5 % would hide the rest
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, ink, *axes.get_legend_handles_labels())
    return figure


def draw_losses(found: Findings, ink: Ink) -> Figure:
    """Return the training loss over the epochs: of the shared weights, and of each network trained alone."""
    figure = ink.figure(8.6, 3.6)
    shared, alone = figure.subplots(1, 2)
    dress(shared, ink, title="Shared weights", x="epoch", y="training loss")
    shared.plot(*_curve([found.losses.get(SUPERNET, {})]), color=ink.front, linewidth=2)
    dress(alone, ink, title="Trained alone", x="epoch, all stages", y="")
    for name in _retrained(found):
        stages = [found.losses[phase] for phase in sorted(found.losses) if phase.startswith(f"{name}-")]
        best = name == f"{RETRAIN}/{found.best_id}"
        on_all = name.startswith(f"{ON_ALL}/")
        colour, width, order = (ink.star, 2.0, 3) if best or on_all else (ink.quiet, 1.2, 2)
        label = "best when trained alone" if best else "the same, on all training images" if on_all else None
        alone.plot(
            *_curve(stages), color=colour, linewidth=width, zorder=order, label=label, linestyle=":" if on_all else "-"
        )
    for axes in (shared, alone):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if alone.get_legend_handles_labels()[0]:
        legend(figure, ink, *alone.get_legend_handles_labels())
    return figure


def draw_layers(layers: Iterable[PlannedLayer], ink: Ink) -> Figure:
    """Return which share of MACs, ops and bytes each part of a network has, by precision."""
    parts = [(name, list(group)) for name, group in groupby(layers, key=part_of)]
    figure = ink.figure(8.6, 1.7 + 0.42 * len(parts))
    panels = figure.subplots(1, 3, sharey=True)
    for index, (title, count) in enumerate(_COUNTED.items()):
        axes = panels[index]
        dress(axes, ink, title=title, x="share (%)", y="")
        _bars(axes, parts, count, ink)
    panels[0].set_yticks(range(len(parts)), [name for name, _ in parts], fontsize=PLAIN)
    panels[0].invert_yaxis()
    handles = [panels[0].barh([0], [0], color=PRECISION_FILL[kind]) for kind in PRECISIONS]
    legend(figure, ink, handles, [PRECISION_SAID[kind] for kind in PRECISIONS])
    return figure


def part_of(layer: PlannedLayer) -> str:
    """Return the part of the network that a planned layer belongs to: stem, stage 1, ..., classifier."""
    first, second, *_ = layer.name.split(".")
    return f"stage {int(second) + 1}" if first == "stages" else {"head": "classifier"}.get(first, first)


_COUNTED: dict[str, Callable[[PlannedLayer], float]] = {
    "MACs": lambda layer: layer.macs,
    f"ops = FLOPs + BOPs / {BOPS_PER_OP}": lambda layer: cost([layer]).ops,
    "bytes": lambda layer: layer.bytes,
}


def _retrained(found: Findings) -> list[str]:
    """Return the names under which networks were trained alone: the phases without their stage."""
    return sorted({phase.rpartition("-")[0] for phase in found.losses if phase.startswith(f"{RETRAIN}/")})


def _curve(stages: Iterable[dict[int, float]]) -> tuple[list[int], list[float]]:
    """Return epochs and losses of stages that follow each other, the epochs counted through."""
    losses = [loss for stage in stages for _, loss in sorted(stage.items())]
    return list(range(1, len(losses) + 1)), losses


def _scatter(axes: Axes, found: Findings, name: str, ink: Ink) -> None:
    """Draw the twin's candidates, the search's, the front and the best network."""
    others, ours, front = paid_rows(found.twin), paid_rows(found.candidates), found.front
    axes.scatter(
        others[name], others["proxy_loss"].astype(float), s=14, color=ink.quiet, alpha=0.55, linewidths=0,
        label=f"random twin ({len(others)} paid)",
    )  # fmt: skip
    axes.scatter(ours[name], ours["proxy_loss"].astype(float), s=18, color=ink.search, linewidths=0,
                 label=f"search ({len(ours)} paid)")  # fmt: skip
    heights = front["proxy_loss"].astype(float)
    line = "-" if name == "ops" else "none"  # a front over ops is no front over bytes
    axes.plot(
        front[name], heights, linestyle=line, marker="o", markersize=5, color=ink.front, linewidth=1.4,
        drawstyle="steps-post", label="front over ops",
    )  # fmt: skip
    either = pd.concat([ours, others])  # the twin's draws are finalists too
    best = either[either["id"] == found.best_id].head(1)
    axes.scatter(
        best[name], best["proxy_loss"].astype(float), s=190, marker="*", color=ink.star, edgecolors=ink.paper,
        linewidths=0.8, zorder=6, label="best when trained alone" if len(best) else None,
    )  # fmt: skip
    amounts_shown = pd.concat([others[name], ours[name]]).astype(float)
    if not amounts_shown.empty and amounts_shown.max() > _WIDE * amounts_shown.min():
        axes.set_xscale("log")


def _mark_limits(axes: Axes, budget: Budget, name: str, ink: Ink) -> None:
    limit = dict(budget.limits).get(name)
    if limit is None:
        return
    for value, said in ((limit.at_least, "at least"), (limit.at_most, "at most")):
        if not 0 < value < math.inf:
            continue
        axes.axvline(value, color=ink.star, linestyle=(0, (4, 3)), linewidth=1.3)
        axes.annotate(
            f"budget: {said} {show(value)}", (value, 1.0), xycoords=("data", "axes fraction"), xytext=(3, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=SMALL, color=ink.star,
        )  # fmt: skip


def _bars(
    axes: Axes, parts: list[tuple[str, list[PlannedLayer]]], count: Callable[[PlannedLayer], float], ink: Ink
) -> None:
    """Draw one bar a part, stacked by precision; together they make 100 %."""
    whole = sum(count(layer) for _, layers in parts for layer in layers) or 1
    ends = [0.0] * len(parts)
    for kind in PRECISIONS:
        shares = [100 * sum(count(a) for a in layers if a.precision == kind) / whole for _, layers in parts]
        axes.barh(range(len(parts)), shares, left=ends, height=0.66, color=PRECISION_FILL[kind])
        ends = [end + share for end, share in zip(ends, shares, strict=True)]
    for row, end in enumerate(ends):
        axes.annotate(
            f"{end:.0f}" if end >= 1 or end == 0 else "<1", (end, row), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=SMALL, color=ink.text,
        )  # fmt: skip
    axes.set_xlim(0, 1.15 * max(ends))
    axes.grid(visible=False, axis="y")


def _losses(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the proxy loss of each paid candidate."""
    return paid_rows(table)["proxy_loss"].astype(float)
