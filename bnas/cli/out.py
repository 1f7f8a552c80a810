"""The run folder of a command that was given none."""

from pathlib import Path

import typer


def named_after(what: str | Path) -> Path:
    """Return the run folder of a space, or of a model, called after its file.

    Raises:
        BadParameter: the file has no name to give it.
    """
    name = Path(str(what).partition(":")[0]).stem
    if not name.strip("."):
        raise typer.BadParameter(f"{what} has no name to call a run folder after; give one", param_hint="--out")
    return Path("runs") / name
