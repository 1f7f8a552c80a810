"""`bnas rank-check`: a searched run -> can its proxy be trusted, and for what."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bnas.cli.columns import aligned
from bnas.cli.out import DEVICE, say_loading
from bnas.trust import TRUST

EXAMPLE = """
Example: bnas rank-check runs/digits --networks 24

Trains each candidate of a sample alone and compares the order of their accuracy with that of each score. The same
command resumes an interrupted run; with more networks it adds to those that are trained.
"""


def rank_check_command(
    run: Annotated[Path, typer.Argument(help="Run folder of a search.")],
    networks: Annotated[int, typer.Option(min=3, help="Candidates to train alone, spread evenly over ops.")] = 24,
    repeated: Annotated[
        int,
        typer.Option(
            min=0, help="How many of them to train from a second seed too, to measure noise: 0, or at least 2."
        ),
    ] = 8,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each training.", show_default="those of the run's recipe")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV of benchmarks/table.py, to look up networks trained by the same recipe.")
    ] = None,
    device: Annotated[str | None, DEVICE] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Say whether a search's proxy loss ranks networks as their accuracy does, and better than counting ops."""
    say_loading("rank-check")
    from bnas.api.progress_bars import ProgressBars
    from bnas.api.rank_checking import check_ranking  # torch is imported only when there is work for it
    from bnas.cli.stop import Stop

    with ProgressBars() as watch, Stop(watch) as progress:
        found = check_ranking(
            run, networks=networks, repeated=repeated, epochs=epochs, table=table, device=device, trust=trust,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print(json.dumps({"run": str(run)} | found.ranking.as_dict()))
    else:
        print(said(found.ranking, found.run))


def said(ranking: Any, run: Any) -> str:
    """Return the table of scores, the noise floor, the verdict, and where all lies."""
    return "\n".join([
        f"{ranking.networks} networks trained alone; tau-b of each score with their test accuracy, regret in points\n",
        *aligned(_rows(ranking), to_the_left=1),
        "",
        _noise(ranking.seeds),
        f"the proxy's tau less that of ops: {_interval(ranking.lead)}",
        ranking.sentence,
        f"to look at: {run.report}, {run.figures / 'ranking.png'}, {run.path / 'ranking.csv'}, "
        f"{run.path / 'ranking.json'}",
    ])  # fmt: skip


def _rows(ranking: Any) -> list[Sequence[str]]:
    first = ranking.measured[0]
    bands = [f"Q{number + 1}" for number in range(len(first.by_band))]
    tops = [f"top {k}" for k in first.regrets]
    told_apart = not all(math.isnan(row.tau) for row in ranking.measured)  # the accuracies, or no score has a tau
    return [("score", "tau", "95 % interval", "like ops", *bands, *tops)] + [
        (
            row.score, _number(row.tau), _spread(row, told_apart), _number(row.within),
            *map(_number, row.by_band), *(f"{100 * lost:.1f}" for lost in row.regrets.values()),
        )
        for row in ranking.measured
    ]  # fmt: skip


def _spread(row: Any, told_apart: bool) -> str:
    if math.isnan(row.tau):
        return "scores all alike" if told_apart else "-"
    return f"{_number(row.low)} to {_number(row.high)}"


def _noise(seeds: Any) -> str:
    if seeds is None:
        return "noise of the accuracy itself: not known; --repeated 8 trains some networks twice"
    return (
        f"noise of the accuracy itself: {seeds.networks} networks trained twice: tau {_number(seeds.tau)} between the "
        f"two, deviation {100 * seeds.deviation:.1f} points; a score without error would have tau "
        f"{_number(seeds.ceiling)}"
    )


def _interval(values: tuple[float, float, float]) -> str:
    value, low, high = map(_number, values)
    return f"{value} ({low} to {high})"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


rank_check_command.__doc__ = f"{rank_check_command.__doc__}\n{EXAMPLE}"
