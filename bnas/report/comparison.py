"""Several finished runs on the same images -> one page: their networks over each other, and which run is ahead where.

Networks are compared by what they reach trained alone, on test images. Proxy losses come from the supernet of each run,
and say little about another's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from bnas.amounts import percent, show
from bnas.errors import RunError
from bnas.report.ink import Ink, dress, legend
from bnas.report.page import rendered, write_figures
from bnas.report.tables import TextTable
from bnas.runs import Run
from bnas.runs.documents import write_text

PAGE = "report.html"
ROOM = 1.05  # times the most ops of any network: where the area that a run covers ends


class Point(NamedTuple):
    """A network trained alone: what it costs, and the share of test images that it gets right."""

    ops: float
    accuracy: float


Points = Mapping[str, Sequence[Point]]  # by run


class Lead(NamedTuple):
    """From which ops on, up to the next such place, which run has the best network that costs no more."""

    ops: float
    run: str
    accuracy: float


def write_comparison(runs: Sequence[Run], folder: Path) -> Path:
    """Write figures and a page that compare runs; return the path of the page.

    Raises:
        RunError: fewer than two runs, one that has not ended or is no search, or runs on different images.
    """
    names = _names(runs)
    _check_alike(runs)
    points = {name: points_of(run) for name, run in zip(names, runs, strict=True)}
    images = write_figures(folder / "figures", {"fronts": lambda ink: draw_points(points, ink)})
    page = rendered(
        "comparison.html.j2", names=names, data=runs[0].config.get("data", "unnamed data"), images=images,
        runs=runs_table(points, runs), leads=leads_table(leads(points)),
    )  # fmt: skip
    write_text(folder / PAGE, text=page)
    return folder / PAGE


def points_of(run: Run) -> list[Point]:
    """Return the networks of a run that were trained alone to the end.

    Raises:
        RunError: there are none yet.
    """
    if not run.has_table("retrained"):
        raise RunError(
            f"{run.path}: no network was trained alone yet; run the command that began it again, then compare"
        )
    rows = run.read_table("retrained")
    ended = rows[rows["epochs"] == rows["epochs"].max()]
    return [Point(float(row["ops"]), float(row["test_accuracy"])) for _, row in ended.iterrows()]


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats at its cost or less, the cheapest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.ops, -point.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def covered(points: Sequence[Point], most: float) -> float:
    """Return the hypervolume: the share of the area up to `most` ops and 100 % that lies under the front."""
    steps = front(points)
    ends = [point.ops for point in steps[1:]] + [most]
    return sum(point.accuracy * (end - point.ops) for point, end in zip(steps, ends, strict=True)) / most


def leads(points: Points) -> list[Lead]:
    """Return which run is ahead, by ops; of equal ones the first."""
    found: list[Lead] = []
    for ops in sorted({point.ops for run in points.values() for point in run}):
        best = max(
            (Lead(ops, name, max(p.accuracy for p in run if p.ops <= ops)) for name, run in points.items()
             if any(p.ops <= ops for p in run)),
            key=lambda lead: lead.accuracy,
        )  # fmt: skip
        if not found or best.accuracy > found[-1].accuracy:
            found.append(best)
    return found


def runs_table(points: Points, runs: Sequence[Run]) -> TextTable:
    """Return what each run asked and reached."""
    most = ROOM * max(point.ops for run in points.values() for point in run)
    rows = []
    for (name, own), run in zip(points.items(), runs, strict=True):
        best = max(own, key=lambda point: point.accuracy)
        others = [point for other, some in points.items() if other != name for point in some]
        beaten = sum(any(o.ops <= p.ops and o.accuracy >= p.accuracy and o != p for o in others) for p in front(own))
        limits = ", ".join(f"{key} {value}" for key, value in run.config.get("budget", {}).items())
        rows.append((
            name, limits, str(run.config.get("trials", "")), percent(best.accuracy), show(best.ops),
            percent(covered(own, most)), f"{beaten} of {len(front(own))}",
        ))  # fmt: skip
    heads = ("run", "budget", "trials", "best test accuracy", "ops", "hypervolume", "of its front beaten by others")
    return TextTable(heads, tuple(rows), 2)


def leads_table(found: Sequence[Lead]) -> TextTable:
    """Return which run is ahead from which ops on."""
    rows = [(show(lead.ops), lead.run, percent(lead.accuracy)) for lead in found]
    return TextTable(("from ops", "ahead", "test accuracy"), tuple(rows), 2)


def draw_points(points: Points, ink: Ink) -> Figure:
    """Return test accuracy over ops: all networks of each run, and its front as a line."""
    figure = ink.figure(8.6, 4.2)
    axes = figure.subplots()
    dress(
        axes, ink, title="Trained alone: test accuracy over ops", x="ops for one image, counted", y="test accuracy, %"
    )
    for name, own in points.items():
        table = pd.DataFrame(front(own))
        (line,) = axes.step(table["ops"], 100 * table["accuracy"], where="post", marker="o", markersize=4, label=name)
        axes.plot([p.ops for p in own], [100 * p.accuracy for p in own], ".", color=line.get_color(), alpha=0.5)
    axes.set_xscale("log")
    legend(figure, ink, *axes.get_legend_handles_labels())
    return figure


def _names(runs: Sequence[Run]) -> list[str]:
    """Return what runs are called: the names of their folders, or where two are alike the whole paths."""
    if len(runs) < 2:
        raise RunError("a comparison needs two runs or more; give their folders")
    places = [run.path.resolve() for run in runs]
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise RunError(f"{twice}: was given twice; a comparison needs different runs")
    short = [run.name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.path) for run in runs]


def _check_alike(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs:
        if run.is_training or run.has_targets:
            raise RunError(f"{run.path}: is no search under one budget; give the folders of such searches")
        if _test_images(run) != _test_images(first):
            raise RunError(
                f"{run.path}: was tested on other images than {first.path} ({run.config.get('data')} and "
                f"{first.config.get('data')}); compare runs on the same ones"
            )


def _test_images(run: Run) -> object:
    """Return what tells test images apart; of a run from before that was kept, the name of the data set."""
    return run.config.get("images", {}).get("checksums", {}).get("test", run.config.get("data"))
