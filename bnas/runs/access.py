"""A run folder -> paths of its files: to read for everybody, to write for who may."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease

from bnas.errors import RunError
from bnas.runs.lock import check_held, driving
from bnas.runs.names import inside

LOCK = "driver.lock"


class Access:
    """Who reads a run folder, or writes it, perhaps as its one driver."""

    def __init__(self, folder: Path, *, readonly: bool) -> None:
        self.readonly = readonly
        self._folder = folder
        self._lease: SoftFileLease | None = None

    def inside(self, *parts: str) -> Path:
        """Return a path to read.

        Raises:
            RunError: a symbolic link leads it out of the folder.
        """
        return inside(self._folder, *parts)

    def target(self, *parts: str) -> Path:
        """Return a path to write.

        Raises:
            RunError: the run was opened to be read, or its lock was taken over, or a symbolic link leads out.
        """
        if self.readonly:
            path = self._folder.joinpath(*parts)
            raise RunError(f"{path}: this run was opened to be read; open it with Run.open")
        if self._lease is not None:
            check_held(self._lease)
        return self.inside(*parts)

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
