"""`bnas report`: a run folder -> figures and one page."""

import json
from pathlib import Path
from typing import Annotated

import typer


def report_command(
    run: Annotated[Path, typer.Argument(help="Run folder, finished or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the page's path as JSON.")] = False,
) -> None:
    """Write the figures and the one-page report of a search or a training anew.

    Example: bnas report runs/digits
    """
    from bnas.cli.stop import ending_at_once
    from bnas.report import write_report, write_targets_report, write_training_report
    from bnas.runs import Run

    with ending_at_once():
        found = Run.read(run)
        write = write_targets_report if found.has_targets else write_report
        page = write_training_report(found) if found.is_training else write(found)
    print(json.dumps({"report": str(page)}) if as_json else page)
