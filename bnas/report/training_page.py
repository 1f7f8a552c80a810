"""The run folder of a training -> its figures and one page."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnas.amounts import percent, show
from bnas.cost.totals import NOT_COUNTED
from bnas.report.classes import Classes, classes_context, images_sentence, read_classes
from bnas.report.confusion_figure import draw_confusion
from bnas.report.findings import check_manifest
from bnas.report.ink import SMALL, Ink, dress, legend
from bnas.report.page import rendered, write_figures
from bnas.report.tables import TextTable, facts_table, settings_table
from bnas.runs import Run
from bnas.runs.contents import CONFIG
from bnas.runs.documents import taking, write_text
from bnas.ship import parse_description
from bnas.trust import names_code

_STAGE = re.compile(r"-\d+$")  # the end of a phase: its stage
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


def write_training_report(run: Run) -> Path:
    """Write figures/*.png and report.html of a training so far; return the path of the page.

    Raises:
        RunError: a file of the run is damaged, or the report cannot be written.
    """
    epochs = epochs_of(run.events())
    manifest = _manifest(run)
    classes = read_classes(run) if manifest else None
    images = write_figures(run.figures, _drawings(epochs, classes))
    with taking(run.file(CONFIG)):
        stages = _stages(run.config["recipe"], _teacher(run.config))
    page = rendered(
        "training.html.j2",
        images=images,
        name=run.name,
        config=run.config,
        images_said=images_sentence(run.config.get("images", {})),
        **classes_context(classes),
        headline=_headline(run, manifest, epochs),
        tiles=_tiles(manifest) if manifest else [],
        counted=NOT_COUNTED,
        stages=stages,
        settings=settings_table({key: value for key, value in run.config.items() if key != "recipe"}),
        proof=facts_table(manifest["reload"]) if manifest else None,
        again=None if manifest else "Run the same command again and it goes on.",
        load=load_line(run),
    )
    write_text(run.report, text=page)
    return run.report


def load_line(run: Run) -> str:
    """Return the call that gives the network of a training.

    Raises:
        SpecError: the settings of the run describe no network.
    """
    described = parse_description(run.config.get("model"), source=f"{run.file('config.yaml')}: model")
    trusting = ", trust=True" if names_code(described) else ""
    return f"bnas.load({str(run.path / 'best')!r}{trusting})"


def _manifest(run: Run) -> dict[str, Any] | None:
    if not run.best.was_written():
        return None
    manifest = run.best.read()[2]
    with taking(run.best.folder / "manifest.json"):
        check_manifest(manifest)
        _tiles(manifest)
    return manifest


def epochs_of(events: list[dict[str, Any]]) -> list[Epoch]:
    """Return the epochs of all stages in order; of one trained again after a stop, the last."""
    found: dict[tuple[str, int], Epoch] = {}
    for event in events:
        match event:
            case {"event": "epoch", "phase": str(phase), "epoch": int(epoch)} if _STAGE.search(phase):
                found[phase, epoch] = event
    return [found[key] for key in sorted(found, key=lambda key: (_stage(key[0]), key[1]))]


def _stage(phase: str) -> int:
    return int(phase.rpartition("-")[2])


def _drawings(epochs: list[Epoch], classes: Classes | None) -> dict[str, Callable[[Ink], Figure]]:
    """Return what can be drawn, by name of the figure."""
    drawings: dict[str, Callable[[Ink], Figure]] = {}
    if epochs:
        drawings["course"] = partial(draw_course, epochs)
    if epochs and epochs[-1].get("filters"):
        drawings["filters"] = partial(draw_filters, epochs)
    if any(epoch.get("usage") for epoch in epochs):
        drawings["usage"] = partial(draw_usage, epochs)
    if classes:
        drawings["confusion"] = partial(draw_confusion, classes)
    return drawings


def _headline(run: Run, manifest: dict[str, Any] | None, epochs: list[Epoch]) -> str:
    """Return the answer in one line."""
    if manifest is None:
        total = sum(stage["epochs"] for stage in run.config["recipe"]["stages"])
        return f"Unfinished: {len(epochs)} of {total} epochs are trained"
    return f"{percent(manifest['accuracy']['test'])} test accuracy with {show(manifest['cost']['ops'])} ops"


def _tiles(manifest: dict[str, Any]) -> list[dict[str, str]]:
    accuracy, price = manifest["accuracy"], manifest["cost"]
    gap = 100 * (accuracy["validation_soft"] - accuracy["validation"])
    return [
        {"label": "test accuracy", "value": percent(accuracy["test"]), "note": "read once, at the end"},
        {"label": "validation accuracy", "value": percent(accuracy["validation"]),
         "note": f"soft weights, before they are made binary: {gap:+.2f} points"},
        {"label": "ops", "value": show(price["ops"]), "note": f"of them {show(price['bops'])} BOPs / 64"},
        {"label": "bytes", "value": show(price["bytes"]), "note": "of weights when packed"},
    ]  # fmt: skip


def _teacher(config: dict[str, Any]) -> str:
    """Return who teaches the first stage that is taught: what was given, or the original of a converted model."""
    if config.get("teacher"):
        return f"the teacher, {config['teacher']}"
    original = (config.get("model") or {}).get("original") if isinstance(config.get("model"), dict) else None
    return "the float model" if original and original.get("weights") else ""


def _stages(recipe: dict[str, Any], teacher: str) -> TextTable:
    """Return the stages of a recipe, one a line.

    Args:
        teacher: of the first stage that is taught; "" where that is the stage before, of which a first stage has none.
    """
    keys = ("epochs", "inputs", "weights", "experts", "optimizer", "rate", "weight_decay")
    rows = []
    for number, stage in enumerate(recipe["stages"], start=1):
        by = teacher or ("the stage before" if number > 1 else "")
        rows.append((str(number), *(str(stage[key]) for key in keys), _taught(stage["distill"], by)))
        teacher = "" if stage["distill"] else teacher
    return TextTable(("stage", *(key.replace("_", " ") for key in keys), "taught by"), tuple(rows), len(keys) + 2)


def _taught(distill: dict[str, Any] | None, by: str) -> str:
    if not distill or not by:
        return "labels"
    parts = [name for name in ("logits", "attention") if distill[name]]
    return f"labels, and {by}: {' and '.join(parts)}"
