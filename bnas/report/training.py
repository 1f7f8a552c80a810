"""The run folder of a training -> its figures and one page."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bnas.cost.budget import show
from bnas.cost.totals import NOT_COUNTED
from bnas.report.ink import Ink
from bnas.report.page import rendered, write_figures
from bnas.report.tables import TextTable, facts_table, percent
from bnas.report.training_figures import Epoch, draw_course, draw_filters, draw_usage
from bnas.runs import Run, replacing


def write_training_report(run: Run) -> Path:
    """Write figures/*.png and report.html of a training so far; return the path of the page.

    Raises:
        RunError: a file of the run is damaged, or the report cannot be written.
    """
    epochs = epochs_of(run.events())
    images = write_figures(run, _drawings(epochs))
    manifest = run.read_best()[2] if run.has_best() else None
    page = rendered(
        "training.html.j2",
        images=images,
        name=run.path.name,
        config=run.config,
        headline=_headline(run, manifest, epochs),
        tiles=_tiles(manifest) if manifest else [],
        counted=NOT_COUNTED,
        stages=_stages(run.config["recipe"]),
        settings=facts_table({key: value for key, value in run.config.items() if key != "recipe"}),
        proof=facts_table(manifest["reload"]) if manifest else None,
        again=None if manifest else "Run the same command again and it goes on.",
        load=f"bnas.load({str(run.path / 'best')!r})",
    )
    with replacing(run.report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run.report


def epochs_of(events: list[dict[str, Any]]) -> list[Epoch]:
    """Return the epochs of all stages in order; of one trained again after a stop, the last."""
    found = {(event["phase"], event["epoch"]): event for event in events if event.get("event") == "epoch"}
    return [found[key] for key in sorted(found, key=lambda key: (_stage(key[0]), key[1]))]


def _stage(phase: str) -> int:
    return int(phase.rpartition("-")[2])


def _drawings(epochs: list[Epoch]) -> dict[str, Callable[[Ink], Figure]]:
    """Return what can be drawn, by name of the figure."""
    drawings: dict[str, Callable[[Ink], Figure]] = {}
    if epochs:
        drawings["course"] = partial(draw_course, epochs)
    if epochs and epochs[-1].get("filters"):
        drawings["filters"] = partial(draw_filters, epochs)
    if any(epoch.get("usage") for epoch in epochs):
        drawings["usage"] = partial(draw_usage, epochs)
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


def _stages(recipe: dict[str, Any]) -> TextTable:
    """Return the stages of a recipe, one a line."""
    keys = ("epochs", "inputs", "weights", "experts", "optimizer", "rate", "weight_decay")
    rows = [
        (str(number), *(str(stage[key]) for key in keys), _taught(stage["distill"]))
        for number, stage in enumerate(recipe["stages"], start=1)
    ]
    return TextTable(("stage", *(key.replace("_", " ") for key in keys), "taught by"), tuple(rows), len(keys) + 2)


def _taught(distill: dict[str, Any] | None) -> str:
    if not distill:
        return "labels"
    parts = [name for name in ("logits", "attention") if distill[name]]
    return "labels, and the stage before: " + " and ".join(parts)
