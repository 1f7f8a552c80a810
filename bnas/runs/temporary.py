"""A path -> a new temporary file or folder beside it, whose name nobody can guess, and which says whether it is in use.

Who makes one keeps it locked until it is done with, and a killed process loses its locks: so what is left is known.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from bnas.errors import RunError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows knows no such locks; what is left there stays until its run is driven again
    fcntl = None

_NAME = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]+\.tmp(?P<suffix>\..+)?", re.DOTALL)
_TOKEN_BYTES = 8
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a new, empty temporary file beside `path`, of its suffix; it is removed where it is still there at the end.

    Raises:
        OSError: it cannot be made.
    """
    temporary = _name_beside(path)
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | _NO_LINK, 0o666)
    try:
        with suppress(OSError):  # some network disks know no locks
            _lock(handle)
        yield temporary
    finally:
        with suppress(OSError):  # already renamed; or the disk that refused the file refuses this too
            temporary.unlink()
        os.close(handle)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a new temporary folder beside `path`, which nobody else may enter; who asked for it removes it.

    Raises:
        OSError: it cannot be made.
    """
    temporary = _name_beside(path)
    temporary.mkdir(mode=0o700)
    handle = os.open(temporary, os.O_RDONLY) if fcntl else None
    try:
        if handle is not None:
            with suppress(OSError):
                _lock(handle)
        yield temporary
    finally:
        if handle is not None:
            os.close(handle)


def check_unchanged(temporary: Path) -> None:
    """Check that a temporary file is still one file of this user's, under one name.

    Raises:
        RunError: somebody put something else in its place.
    """
    found = temporary.lstat()
    foreign = hasattr(os, "geteuid") and found.st_uid != os.geteuid()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or foreign:
        raise RunError(
            f"{temporary}: somebody else put this in the place of what was being written; nothing was replaced: "
            "choose a folder that others cannot write"
        )


def temporaries(folder: Path, *, deep: bool = False) -> list[Path]:
    """Return the temporary files and folders in a folder, `deep` for those in the folders inside it too."""
    found = folder.rglob(".*.tmp*") if deep else folder.iterdir()
    return [path for path in found if is_temporary(path.name)]


def is_temporary(name: str) -> bool:
    """Whether this module gave this name."""
    return _NAME.fullmatch(name) is not None


def target_of(temporary: Path) -> Path:
    """Return the path that a temporary file or folder was to take the place of."""
    parts = _NAME.fullmatch(temporary.name)
    assert parts
    return temporary.with_name(parts["stem"] + (parts["suffix"] or ""))


def is_abandoned(temporary: Path) -> bool:
    """Whether whoever made it is gone; no where that cannot be told."""
    try:
        handle = os.open(temporary, os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return temporary.is_symlink()  # which this module never makes
    try:
        return _lock(handle)
    except OSError:
        return False
    finally:
        os.close(handle)


def _name_beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{secrets.token_hex(_TOKEN_BYTES)}.tmp{path.suffix}")


def _lock(handle: int) -> bool:
    """Lock an open file or folder until its handle is closed; say whether nobody else had.

    Raises:
        OSError: this disk knows no locks.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
