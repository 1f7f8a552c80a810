"""The folder of a selection -> its pictures and one page: layers, what was chosen, and what it costs."""

import shlex
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from bnas.amounts import NONE, percent, show
from bnas.cost.totals import NOT_COUNTED
from bnas.report.ink import Ink, amounts, dress, legend
from bnas.report.page import rendered, write_figures
from bnas.report.selection_figure import draw_selection
from bnas.report.tables import TextTable
from bnas.runs.documents import records, table_of, taking, write_text
from bnas.runs.files import read_bytes
from bnas.runs.selection_folder import CURVE, DECISIONS, FIGURES, LAYERS, NETWORKS, PAGE, SELECTED
from bnas.select import Decisions
from bnas.select.metrics import ERROR_MEANT, PRECISION_MEANT, metric_meant
from bnas.trust import names_code

_HINT = "select again into another folder"
_ACCURACIES = {
    "accuracy": "validation accuracy",
    "finetuned": "fine-tuned",
    "finetuned_test": "test accuracy, fine-tuned",
}


class Picked(NamedTuple):
    """What the folder of a selection holds; of a folder from before it was kept, there is no curve."""

    folder: Path
    decisions: Decisions
    layers: pd.DataFrame
    networks: pd.DataFrame
    curve: pd.DataFrame | None

    @property
    def metric(self) -> str:
        """The name of what layers were scored by."""
        names = self.layers["scored_by"].dropna() if "scored_by" in self.layers else pd.Series(dtype=str)
        return str(names.iloc[0]) if len(names) else "metric"

    @property
    def selected(self) -> "pd.Series[Any]":
        """The network that was selected, beside those that it stands between."""
        return self.networks[self.networks["network"] == SELECTED].iloc[0]


def write_selection_report(folder: Path) -> Path:
    """Write figures/*.png and report.html of a selection; return the path of the page.

    Raises:
        RunError, SpecError: a file is missing or damaged, or the page cannot be written.
    """
    picked = read_picked(folder)
    rows = [{name: None if pd.isna(value) else value for name, value in row.items()} for row in records(picked.layers)]
    drawings = {"metric": partial(draw_selection, rows, metric=picked.metric)}
    if picked.curve is not None and len(picked.curve) > 1:
        drawings["curve"] = partial(draw_curve, picked)
    images = write_figures(folder / FIGURES, drawings)
    write_text(folder / PAGE, text=rendered("selection.html.j2", images=images, **_context(picked)))
    return folder / PAGE


def read_picked(folder: Path) -> Picked:
    """Return what the folder of a selection holds.

    Raises:
        RunError, SpecError: a file is missing or damaged.
    """
    decisions = Decisions.read(folder / DECISIONS)
    layers, networks = (_table(folder / name) for name in (LAYERS, NETWORKS))
    curve = _table(folder / CURVE) if (folder / CURVE).is_file() else None
    picked = Picked(folder, decisions, layers, networks, curve)
    with taking(folder / LAYERS, hint=_HINT):
        layers_table(picked)
    with taking(folder / NETWORKS, hint=_HINT):
        networks_table(picked)
        _headline(picked)
    if curve is not None:
        with taking(folder / CURVE, hint=_HINT):
            curve[["ops", "error"]].astype(float)
    return picked


def layers_table(picked: Picked) -> TextTable:
    """Return what is known of each layer, in the order in which they run, and what was decided."""
    rows = [
        (
            _layer(row) or "(itself)", PRECISION_MEANT[row["precision"]],
            percent(row["share"]), _number(row.get("error")), _number(row["metric"]), show(row["ops"]),
            show(row["bytes"]), str(row["why"]),
        )
        for row in records(picked.layers)
    ]  # fmt: skip
    header = ("layer", "decision", "share of MACs", "error", picked.metric, "ops", "bytes", "why")
    return TextTable(header, tuple(rows), 2, len(header) - 1)


def networks_table(picked: Picked) -> TextTable:
    """Return the selected network and those that it stands between, with what was measured of them."""
    shown = [name for name in _ACCURACIES if name in picked.networks]
    rows = [
        (
            str(row["network"]), show(row["ops"]), percent(row["ops_share"]), show(row["bytes"]),
            percent(row["bytes_share"]), *(percent(row[name]) for name in shown),
        )
        for row in records(picked.networks)
    ]  # fmt: skip
    header = ("network", "ops", "of real", "bytes", "of real", *(_ACCURACIES[name] for name in shown))
    return TextTable(header, tuple(rows))


def draw_curve(picked: Picked, ink: Ink) -> Figure:
    """Return the error that is left over ops, as inputs are kept real one by one; and where the selection stands."""
    assert picked.curve is not None
    figure = ink.figure(7.8, 4.2)
    axes = figure.subplots()
    dress(axes, ink, title="", x="ops for one image, counted", y="error of binary inputs left, %")
    axes.plot(
        picked.curve["ops"], 100 * picked.curve["error"], color=ink.front, marker="o", markersize=4, linewidth=1.6,
        label=f"the highest by {picked.metric} kept real, one by one",
    )  # fmt: skip
    if "error" in picked.networks:
        chosen = picked.selected
        axes.plot(
            [chosen["ops"]], [100 * chosen["error"]], color=ink.star, marker="*", markersize=15, linestyle="none",
            label="selected",
        )  # fmt: skip
    amounts(axes)
    legend(figure, ink, *axes.get_legend_handles_labels())
    return figure


def _context(picked: Picked) -> dict[str, Any]:
    file, original = picked.folder / DECISIONS, picked.decisions.original
    model = original.model if original else "MODEL"
    trusting = ["--trust"] if names_code(picked.decisions) else []
    tuned = "finetuned" in picked.networks
    return {
        "name": picked.folder.absolute().name,
        "model": original.model if original else "a model given in Python",
        "headline": _headline(picked),
        "edited": _edited(picked),
        "counted": NOT_COUNTED,
        "layers": layers_table(picked),
        "networks": networks_table(picked),
        "error": ERROR_MEANT,
        "metric": picked.metric,
        "meant": metric_meant(picked.metric),
        "train": shlex.join(["bnas", "train", str(file), "--data", "D", *trusting]),
        "again": shlex.join(["bnas", "select", model, "--selection", str(file), "-o", "DIR"]),
        "export": shlex.join(["bnas", "export", str(picked.folder), "--to", "training", "-o", "DIR", *trusting])
        if tuned else "",
    }  # fmt: skip


def _headline(picked: Picked) -> str:
    chosen = picked.selected
    said = f"{show(chosen['ops'])} ops, {percent(chosen['ops_share'])} of the real network's"
    if "has_choice" in picked.layers:
        free = picked.layers[picked.layers["has_choice"].astype(bool)]
        kept = int((free["precision"] != "binary").sum())
        said = f"{kept} of {len(free)} layers with a choice keep real inputs: {said}"
    known = chosen.get("finetuned_test")
    return said if known is None or pd.isna(known) else f"{said}; {percent(known)} test accuracy"


def _edited(picked: Picked) -> str:
    """Say which layers the file of decisions has otherwise than the tables, which are from before it was edited."""
    now = {name: decision.precision for name, decision in picked.decisions.layers.items()}
    then = {_layer(row): row["precision"] for row in records(picked.layers)}
    changed = [name or "(itself)" for name in now if name in then and now[name] != then[name]]
    if not changed:
        return ""
    return f"{DECISIONS} was edited since ({', '.join(changed)}); this page is of the selection before that."


def _table(path: Path) -> pd.DataFrame:
    return table_of(read_bytes(path, hint=_HINT), path)


def _number(value: Any) -> str:
    return NONE if value is None or pd.isna(value) else f"{value:.3g}"


def _layer(row: dict[str, Any]) -> str:
    """Return the path of a layer, which is empty where the model is the layer itself."""
    return "" if pd.isna(row["layer"]) else str(row["layer"])
