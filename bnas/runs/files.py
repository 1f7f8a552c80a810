"""Content -> a file or folder that is there whole or not at all: temporary beside it, fsync, rename, fsync."""

import errno
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bnas.errors import RunError
from bnas.runs.temporary import check_unchanged, is_abandoned, new_file, new_folder, target_of, temporaries

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
Check = Callable[[], object]  # raises where this process may not write after all


@contextmanager
def replacing(path: Path, *, previous: Path | None = None, check: Check = lambda: None) -> Iterator[Path]:
    """Give a temporary path beside `path`; the file written there takes the place of `path` when the block ends well.

    Killed or failed at any moment, `path` is the old file or the new one. A failure leaves no temporary file; that of a
    killed writer is removed by the next.

    Args:
        path: the file to write; its folder is made where it is missing.
        previous: where the file that `path` was is kept; where None, it is not.
        check: is called right before `path` is replaced.
    Raises:
        RunError: the disk is full, the folder cannot be written, and so on.
    """
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_up(path)
        with new_file(path) as temporary:
            yield temporary
            check()
            check_unchanged(temporary)
            _flush(temporary)
            check()
            if previous is not None:
                os.replace(path, previous)
            os.replace(temporary, path)
            _flush(path.parent)


@contextmanager
def replacing_folder(path: Path, *, check: Check = lambda: None) -> Iterator[Path]:
    """Give an empty temporary folder; it takes the place of the folder `path` when the block ends well.

    A folder cannot be swapped in one step: between two renames `path` is missing, and what it was lies in a hidden
    folder beside it. After a writer that was killed there, `clear_up` and `sweep` put it back.

    Args:
        check: is called right before `path` is replaced.
    Raises:
        RunError: the disk is full, the folder cannot be written, and so on; what was there is intact.
    """
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(path) as temporary:
            new, old = temporary / _NEW, temporary / _OLD
            try:
                new.mkdir()
                yield new
                check()
                _by_umask(new)
                for written in (*new.iterdir(), new):
                    _flush(written)
                check()
                if path.exists():
                    os.replace(path, old)
                os.replace(new, path)
                _flush(path.parent)
            finally:
                _undo(temporary)


def _by_umask(folder: Path) -> None:
    """Let whoever may read the folder read its files: libraries that write by a temporary file make them private."""
    readable = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(readable)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise cannot_write(path, problem) from problem


def append_line(path: Path, line: str, *, check: Check = lambda: None) -> None:
    """Append one line, on a line of its own even where a kill tore the line before; it outlasts a power cut.

    Args:
        check: is called right before the line is written.
    Raises:
        RunError: the file cannot be written; what it held is intact.
    """
    with _telling(path), path.open("a+b", buffering=0) as file:
        torn = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
        content = (b"\n" if torn else b"") + line.encode() + b"\n"
        check()
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())


def read_bytes(path: Path, *, hint: str) -> bytes:
    """Return what a file holds.

    Args:
        path: the file.
        hint: what to do where it is missing or damaged.
    Raises:
        RunError: it is missing, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # of a pipe, reading might never end
            raise RunError(f"{path}: is no file; {hint}")
        return path.read_bytes()
    except FileNotFoundError as problem:
        raise RunError(f"{path}: is missing; {hint}") from problem
    except OSError as problem:
        raise RunError(f"{path}: cannot be read: {problem.strerror}; {hint}") from problem


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
    aside = _free_beside(path)
    with _telling(aside):
        for ending in companions:
            with suppress(FileNotFoundError):
                os.replace(f"{path}{ending}", f"{aside}{ending}")
        os.replace(path, aside)
    return aside


def keep_copy(path: Path) -> Path:
    """Copy a damaged file to a name that is free; return the name.

    Raises:
        RunError: it cannot be copied.
    """
    aside = _free_beside(path)
    with replacing(aside) as temporary:
        shutil.copyfile(path, temporary)
    return aside


def _free_beside(path: Path) -> Path:
    return next(name for n in itertools.count(1) if not (name := path.with_name(f"{path.name}.damaged-{n}")).exists())


def sweep(folder: Path, *, shared: Sequence[Path] = ()) -> None:
    """Remove what killed writers left under `folder`.

    Call it while nobody else may write there: what a writer that is only asleep is about to put in place goes, too.

    Args:
        shared: files and folders that others may be writing at this moment; of theirs, what is in use stays.
    Raises:
        RunError: a left-over cannot be removed.
    """
    for left in temporaries(folder, deep=True):
        is_shared = any(path in left.parents or target_of(left) == path for path in shared)
        if is_shared and not is_abandoned(left):
            continue
        if left.is_dir() and not left.is_symlink():
            _undo(left)
        else:
            remove(left)


def clear_up(path: Path) -> None:
    """Undo what writers of the file or folder `path` that were killed have left half done beside it."""
    with suppress(OSError):  # a folder that cannot be listed: what is left stays
        for found in temporaries(path.parent):
            if target_of(found) == path and is_abandoned(found) and _is_ours(found):
                _undo(found)


def previous_of(path: Path) -> Path:
    """Where the version before the newest one is kept."""
    return path.with_name(f"{path.name}.previous")


def check_own(path: Path) -> None:
    """Check that a folder to write was not made by somebody else, where anybody may make one, as in /tmp.

    Raises:
        RunError: it was, or a folder on the way to it.
    """
    if not hasattr(os, "geteuid"):
        return
    whole = path.absolute()
    for here in (whole, *whole.parents[:-1]):
        with suppress(OSError):  # not there yet, or no folder: writing it says so
            found, around = here.lstat(), here.parent.stat()
            is_shared = around.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if is_shared and found.st_uid not in (0, os.geteuid(), around.st_uid):
                raise RunError(
                    f"{here}: somebody else made this (user {found.st_uid}), in a folder where others may write; "
                    "give another --out"
                )


def cannot_write(path: Path, problem: OSError) -> RunError:
    """Return the error that says which file could not be written, why, and what to do."""
    advice = _ADVICE.get(problem.errno or 0, "check the disk")
    reason = problem.strerror or str(problem)
    return RunError(
        f"{path}: cannot be written: {reason}; {advice}, then run the same command again (what was there is intact)"
    )


def _undo(temporary: Path) -> None:
    """Put back the folder that was moved away where nothing has taken its place; remove what else there is."""
    path, old = target_of(temporary), temporary / _OLD
    with suppress(OSError):  # a disk that refuses this too: nothing is removed
        if old.exists() and not path.exists():
            os.replace(old, path)
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink()


def _is_ours(temporary: Path) -> bool:
    """Whether it is a file, or a folder that holds nothing but what `replacing_folder` puts there, of this user."""
    if temporary.is_symlink() or (hasattr(os, "geteuid") and temporary.lstat().st_uid != os.geteuid()):
        return False
    return temporary.is_file() or {inner.name for inner in temporary.iterdir()} <= {_NEW, _OLD}


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
