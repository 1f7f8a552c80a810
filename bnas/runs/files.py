"""Content -> a file or folder that is there whole or not at all: temporary beside it, fsync, rename, fsync."""

import errno
import itertools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bnas.errors import RunError

_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.(?P<process>\d+)\.tmp(?P<suffix>\..+)?", re.DOTALL)
_NEW, _OLD = "new", "old"  # folders in the temporary of a folder
_NO_SPACE = "free some space on this disk"
_NO_PERMISSION = "make the folder writable or give another --out"
_ADVICE = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: _NO_PERMISSION,
}


@contextmanager
def replacing(path: Path, *, previous: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`; the file written there takes the place of `path` when the block ends well.

    Killed or failed at any moment, `path` is the old file or the new one, and a failure leaves no temporary file.

    Args:
        path: the file to write; its folder is made where it is missing.
        previous: where the file that `path` was is kept; where None, it is not.
    Raises:
        RunError: the disk is full, the folder cannot be written, and so on.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        if previous is not None:
            os.replace(path, previous)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    finally:
        with suppress(OSError):  # already renamed; or the disk that refused the file refuses this too
            temporary.unlink()


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder; it takes the place of the folder `path` when the block ends well.

    A folder cannot be swapped in one step: between two renames `path` is missing, and what it was lies in a hidden
    folder beside it. After a writer that was killed there, `clear_up` and `sweep` put it back.

    Raises:
        RunError: the disk is full, the folder cannot be written, and so on; what was there is intact.
    """
    temporary = _temporary(path)
    new, old = temporary / _NEW, temporary / _OLD
    try:
        new.mkdir(parents=True)
        yield new
        for written in (*new.iterdir(), new):
            _flush(written)
        if path.exists():
            os.replace(path, old)
        os.replace(new, path)
        _flush(path.parent)
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    finally:
        _undo(temporary)


def append_line(path: Path, line: str) -> None:
    """Append one line, on a line of its own even where a kill tore the line before; it outlasts a power cut.

    Raises:
        RunError: the file cannot be written; what it held is intact.
    """
    try:
        with path.open("a+b", buffering=0) as file:
            torn = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            content = (b"\n" if torn else b"") + line.encode() + b"\n"
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
    except OSError as problem:
        raise cannot_write(path, problem) from problem


def read_text(path: Path, *, hint: str) -> str:
    """Return the text of a file.

    Args:
        path: the file.
        hint: what to do where it is missing or damaged.
    Raises:
        RunError: it is missing, cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise RunError(f"{path}: is missing; {hint}") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise RunError(f"{path}: cannot be read: {problem}; {hint}") from problem


def remove(path: Path) -> None:
    """Remove a file if it is there.

    Raises:
        RunError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as problem:
        raise cannot_write(path, problem) from problem


def set_aside(path: Path, *, companions: Sequence[str]) -> Path:
    """Rename a damaged file to a name that is free, and files of its name and an ending with it; return the name.

    Raises:
        RunError: it cannot be renamed.
    """
    aside = next(name for n in itertools.count(1) if not (name := path.with_name(f"{path.name}.damaged-{n}")).exists())
    try:
        for ending in companions:
            with suppress(FileNotFoundError):
                os.replace(f"{path}{ending}", f"{aside}{ending}")
        os.replace(path, aside)
    except OSError as problem:
        raise cannot_write(aside, problem) from problem
    return aside


def sweep(folder: Path, *, spare: Sequence[Path]) -> None:
    """Remove what killed writers left under `folder`, save for the files and folders of `spare`.

    Raises:
        RunError: a left-over cannot be removed.
    """
    for left in [found for found in folder.rglob(".*.tmp*") if is_temporary(found.name)]:
        if any(path in left.parents or left.name.startswith(f".{path.stem}.") for path in spare):
            continue
        if left.is_dir() and not left.is_symlink():
            _undo(left)
        else:
            remove(left)


def clear_up(path: Path) -> None:
    """Undo what writers of the folder `path` that were killed have left half done beside it."""
    with suppress(OSError):  # a folder that cannot be listed: what is left stays
        for found in list(path.parent.iterdir()):
            parts = _TEMPORARY.fullmatch(found.name)
            if parts and _target(found) == path and not _lives(int(parts["process"])) and _is_ours(found):
                _undo(found)


def is_temporary(name: str) -> bool:
    """Whether `replacing` or `replacing_folder` gave this name."""
    return _TEMPORARY.fullmatch(name) is not None


def previous_of(path: Path) -> Path:
    """Where the version before the newest one is kept."""
    return path.with_name(f"{path.name}.previous")


def cannot_write(path: Path, problem: OSError) -> RunError:
    """Return the error that says which file could not be written, why, and what to do."""
    advice = _ADVICE.get(problem.errno or 0, "check the disk")
    reason = problem.strerror or str(problem)
    return RunError(
        f"{path}: cannot be written: {reason}; {advice}, then run the same command again (what was there is intact)"
    )


def _temporary(path: Path) -> Path:
    # The process in the name keeps two reports on one run apart; the suffix tells matplotlib the format.
    return path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")


def _undo(temporary: Path) -> None:
    """Put back the folder that was moved away where nothing has taken its place; remove what else there is."""
    path, old = _target(temporary), temporary / _OLD
    with suppress(OSError):  # a disk that refuses this too: nothing is removed
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(temporary, ignore_errors=True)


def _is_ours(temporary: Path) -> bool:
    """Whether it is a folder that holds nothing but what `replacing_folder` puts there."""
    if not temporary.is_dir() or temporary.is_symlink():
        return False
    return {inner.name for inner in temporary.iterdir()} <= {_NEW, _OLD}


def _target(temporary: Path) -> Path:
    parts = _TEMPORARY.fullmatch(temporary.name)
    assert parts
    return temporary.with_name(parts["stem"] + (parts["suffix"] or ""))


def _lives(process: int) -> bool:
    if os.name == "nt":
        return True  # there a signal of zero is no question; what is left stays
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()  # this one is only about to begin


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folder, and needs no flush to keep a rename
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        # Some network disks know no fsync of a folder; the rename is as safe there as they make it.
        if not (path.is_dir() and problem.errno == errno.EINVAL):
            raise
    finally:
        os.close(handle)
