"""A run folder -> the right to write it, held by one process at a time, on whatever machine it runs.

The lock is a lease: the holder touches the file every few seconds. A process that is gone from this machine loses it
at once; any other holder loses it when nobody has touched the file for a whole lease, timed by the watcher's own
monotonic clock. No clock is compared with another, so a clock set back changes nothing.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from bnas.errors import RunError
from bnas.runs.files import cannot_write
from bnas.runs.names import inside

LEASE_SECONDS = 30.0
EMPTY_SECONDS = 2.0  # within which a driver that makes the lock file has written it
_BEATS = 15  # touches in a lease
_POLL_SECONDS = 0.1
LOCK = "driver.lock"


@contextmanager
def driving(
    path: Path, *, since: Callable[[int], str | None], lease_seconds: float = LEASE_SECONDS
) -> Iterator[SoftFileLease]:
    """Hold the lock while the block runs.

    Args:
        path: the lock file; it is there only while the lock is held, or was when its holder died.
        since: the pid of a driver -> when it began, for the message.
        lease_seconds: how long an untouched lock is respected; a holder who set another time is not waited out.
    Raises:
        RunError: another driver is at work, or the lock file cannot be written.
    """
    lease = SoftFileLease(
        path, lease_duration=lease_seconds, heartbeat_interval=lease_seconds / _BEATS, thread_local=False
    )
    try:
        _spoil_empty(path)
        first = _mark(path)
        # First a look whether the folder can be written: of the lock of a dead driver in one that cannot, filelock
        # says only, and after a minute, that it did not get it.
        TemporaryFile(dir=path.parent).close()
        lease.acquire(
            timeout=2 * lease_seconds, poll_interval=_POLL_SECONDS, cancel_check=lambda: _is_touched(path, first)
        )
    except (Timeout, LeaseSettingsMismatch) as problem:
        raise _refusal(path, lease, since) from problem
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    try:
        yield lease
    finally:
        lease.release()


def _spoil_empty(path: Path) -> None:
    """Write into a lock file that stays empty, as after a kill, or a power cut, between making and writing it.

    To filelock an empty file is the lock of a holder that says nothing of itself, which is never taken over; one that
    is no record of a holder is taken over when nobody has touched it for some seconds.
    """
    begun, first = time.monotonic(), _mark(path)
    while first is not None and first.size == 0 and _mark(path) == first:
        if time.monotonic() - begun > EMPTY_SECONDS:
            with path.open("r+b") as file:
                if os.fstat(file.fileno()).st_ino == first.inode:
                    file.write(b"torn\n")
        time.sleep(_POLL_SECONDS)


def check_held(lease: SoftFileLease) -> None:
    """Check that the lock was not taken over, as after a sleep of this machine that outlasted the lease.

    Raises:
        RunError: another driver has it, or the lock file was removed.
    """
    # A second look: a contender that examines the lock may move it aside for an instant.
    for pause in (0.0, 2 * _POLL_SECONDS):
        time.sleep(pause)
        owner = lease.owner
        if owner is not None and owner.token == lease.token:
            return
    path = Path(lease.lock_file)
    now = "was removed" if owner is None else f"was taken over by host {_host(owner.hostname)}, pid {owner.pid}"
    raise RunError(f"{path}: the lock of this run {now}; this driver stops so as not to spoil the other's work")


class _Mark(NamedTuple):
    """What changes in a lock file when somebody touches it."""

    inode: int
    size: int
    modified: int
    changed: int


def _mark(path: Path) -> _Mark | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return _Mark(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_touched(path: Path, first: _Mark | None) -> bool:
    now = _mark(path)
    return now is not None and now != first


def _refusal(path: Path, lease: SoftFileLease, since: Callable[[int], str | None]) -> RunError:
    owner = lease.owner
    who = "its lock cannot be read"
    if owner is not None:
        began = since(owner.pid)
        who = f"host {_host(owner.hostname)}, pid {owner.pid}" + (f", since {began}" if began else "")
    return RunError(
        f"{path.parent}: another driver works on this run ({who}); wait until it ends, stop it, or give another --out"
    )


def _host(recorded: str) -> str:
    return recorded.partition("?")[0]  # in a container filelock adds the process namespace after a "?"


class Access:
    """Who reads a run folder, or writes it, perhaps as its one driver."""

    def __init__(self, folder: Path, *, readonly: bool) -> None:
        self.readonly = readonly
        self.path = folder
        self._lease: SoftFileLease | None = None

    def inside(self, *parts: str) -> Path:
        """Return a path to read.

        Raises:
            RunError: a symbolic link leads it out of the folder.
        """
        return inside(self.path, *parts)

    def target(self, *parts: str) -> Path:
        """Return a path to write.

        Raises:
            RunError: the run was opened to be read, or its lock was taken over, or a symbolic link leads out.
        """
        if self.readonly:
            path = self.path.joinpath(*parts)
            raise RunError(f"{path}: this run was opened to be read; open it with Run.open")
        self.check()
        return self.inside(*parts)

    def check(self) -> None:
        """Check that this process, where it is the one driver, still is.

        Raises:
            RunError: its lock was taken over, as after a sleep that outlasted the lease.
        """
        if self._lease is not None:
            check_held(self._lease)

    @contextmanager
    def driving(self, *, since: Callable[[int], str | None]) -> Iterator[None]:
        """Be the one driver while the block runs; every `target` checks that this is still so.

        Args:
            since: the pid of a driver -> when it began, for the message.
        Raises:
            RunError: another driver is at work.
        """
        with driving(self.target(LOCK), since=since) as lease:
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None
