"""The run folder of a search under several budgets -> one page: the winner of each, and the fronts over each other."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bnas.amounts import percent, show
from bnas.report.findings import read_findings
from bnas.report.ink import Ink, dress, legend
from bnas.report.page import rendered, write_figures
from bnas.report.tables import BEFORE, TextTable, settings_table
from bnas.runs import Run
from bnas.runs.contents import TARGETS
from bnas.runs.documents import taking, write_text


def write_targets_report(run: Run) -> Path:
    """Write figures/*.png and report.html of a search under several budgets; return the path of the page.

    Raises:
        RunError: the report cannot be written, or the run has not ended.
    """
    winners = run.read_table(TARGETS)
    with taking(run.file(f"{TARGETS}.csv")):
        table = targets_table(winners)
    fronts = {name: read_findings(Run.read(run.path / TARGETS / name)).front for name in winners["target"]}
    images = write_figures(run.figures, {"fronts": lambda ink: draw_fronts(fronts, ink)})
    page = rendered(
        "targets.html.j2", name=run.name, data=run.config.get("data", "unnamed data"), images=images,
        winners=table, final=BEFORE in winners, links=list(winners["target"]), settings=settings_table(run.config),
    )  # fmt: skip
    write_text(run.report, text=page)
    return run.report


def targets_table(winners: pd.DataFrame) -> TextTable:
    """Return the winner of each budget, as the page and the command line print it."""
    before = {BEFORE: "before, as the twin's"} if BEFORE in winners else {}
    shares = ("test_accuracy", *before, "test_accuracy_of_twin")
    rows = [
        (
            str(row["target"]), str(row["id"]), *(percent(row[key]) for key in shares), show(row["ops"]),
            show(row["bytes"]),
        )
        for _, row in winners.iterrows()
    ]  # fmt: skip
    header = ("target", "id", "test accuracy", *before.values(), "random twin's best", "ops", "bytes")
    return TextTable(header, tuple(rows), 2)


def draw_fronts(fronts: dict[str, pd.DataFrame], ink: Ink) -> Figure:
    """Return the front of proxy loss over ops under each budget."""
    figure = ink.figure(8.6, 4.2)
    axes = figure.subplots()
    dress(axes, ink, title="Proxy loss over ops: the front under each budget", x="ops", y="proxy loss")
    for name, front in fronts.items():
        axes.plot(front["ops"].astype(float), front["proxy_loss"].astype(float), marker="o", markersize=3, label=name)
    axes.set_xscale("log")
    legend(figure, ink, *axes.get_legend_handles_labels())
    return figure
