"""`bnas report`: a run folder -> figures and one page."""

from pathlib import Path
from typing import Annotated

import typer


def report_command(run: Annotated[Path, typer.Argument(help="Run folder of a search, finished or not.")]) -> None:
    """Write a run's figures and its one-page report anew.

    Example: bnas report runs/digits
    """
    from bnas.report import write_report
    from bnas.runs import Run

    print(write_report(Run.read(run)))
