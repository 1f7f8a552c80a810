"""`bnas report`: the folder of a run or a selection -> figures and one page; several runs -> a page that compares."""

import json
from pathlib import Path
from typing import Annotated

import typer


def report_command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folder of a run, finished or not, or of a selection; several finished searches."
        ),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the comparison of several runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the page's path as JSON.")] = False,
) -> None:
    """Write figures and the one-page report of a search, training or selection anew; or compare several searches.

    Examples: bnas report runs/digits; bnas report runs/digits runs/wider -o runs/compared
    """
    from bnas.cli.stop import ending_at_once

    if (out is None) != (len(runs) == 1):
        raise typer.BadParameter(
            "several runs are compared in a folder of its own; one has its page in its own", param_hint="--out"
        )
    with ending_at_once():
        page = _one(runs[0]) if out is None else _compared(runs, out)
    print(json.dumps({"report": str(page)}) if as_json else page)


def _one(run: Path) -> Path:
    from bnas.report import write_report, write_selection_report, write_targets_report, write_training_report
    from bnas.runs import Run
    from bnas.runs.selection_folder import DECISIONS

    if (run / DECISIONS).is_file():
        return write_selection_report(run)
    found = Run.read(run)
    write = write_targets_report if found.has_targets else write_report
    return write_training_report(found) if found.is_training else write(found)


def _compared(runs: list[Path], out: Path) -> Path:
    from bnas.report import write_comparison
    from bnas.runs import Run
    from bnas.runs.files import check_own

    check_own(out)
    return write_comparison([Run.read(run) for run in runs], out)
