"""The run folder of a command that was given none."""

from pathlib import Path

import typer


def named_after(file: Path) -> Path:
    """Return the run folder of a space, or of a model, called after its file.

    Raises:
        BadParameter: the file has no name to give it.
    """
    if not file.stem.strip("."):
        raise typer.BadParameter(f"{file} has no name to call a run folder after; give one", param_hint="--out")
    return Path("runs") / file.stem
