"""A run folder and a name -> a path that is sure to lie inside that folder."""

import os
import re
from pathlib import Path

from bnas.errors import RunError
from bnas.runs.files import check_own
from bnas.runs.temporary import is_temporary

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_IN_URL = "?%{}"  # each means something in the URL of an Optuna storage, or in some version of SQLAlchemy


def check_folder(path: Path) -> None:
    """Check that a run can live in this folder.

    Raises:
        RunError: its name holds a character that the URL of its study could not, or somebody else made it.
    """
    check_own(path)
    bad = [character for character in _IN_URL if character in str(path.absolute())]
    if bad:
        raise RunError(f"{path}: the path of a run may not hold {' '.join(bad)}; give another --out")


def check_empty(path: Path, *, known: tuple[str, ...]) -> None:
    """Check that a new run may be made in this folder.

    Args:
        path: the folder; it need not exist.
        known: what a run that was killed while it was made may have left.
    Raises:
        RunError: the path is a file, or the folder holds something else.
    """
    if not os.path.exists(path):
        return
    if not path.is_dir():
        raise RunError(f"{path}: is a file; give a folder as --out")
    names = sorted(found.name for found in path.iterdir())
    foreign = [name for name in names if not (name.startswith(known) or is_temporary(name))]
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise RunError(f"{path}: the folder is not empty and holds no run (it holds {shown}); give another --out")


def inside(root: Path, *parts: str) -> Path:
    """Return the path of the parts under the run folder.

    Raises:
        RunError: a symbolic link leads it out of the folder.
    """
    path = root.joinpath(*parts)
    if not path.resolve().is_relative_to(root.resolve()):
        raise RunError(f"{path}: a symbolic link leads out of the folder, to {path.resolve()}; remove the link")
    return path


def checkpoint_parts(name: str, *, taken: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders of a checkpoint, as in `supernet` or `retrain/ID`.

    Raises:
        RunError: a part is no plain name, or the first is the name of something else in the folder.
    """
    parts = tuple(name.split("/"))
    if not all(_PART.fullmatch(part) for part in parts) or parts[0] in taken:
        raise RunError(
            f"checkpoint {name!r}: the name must be letters, digits and _ . - in parts parted by /, "
            f"no part may begin with . or -, and the first may not be {' or '.join(taken)}"
        )
    return parts


def table_file(name: str) -> str:
    """Return the file name of a table.

    Raises:
        RunError: the name is not plain.
    """
    if not _TABLE.fullmatch(name):
        raise RunError(f"table {name!r}: the name must be letters, digits, _ and -, without .csv, as in 'candidates'")
    return f"{name}.csv"
