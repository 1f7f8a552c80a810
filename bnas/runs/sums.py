"""The files of a run <-> their bytes, each checked against the sha256 that sums.json keeps of it.

A kill between two renames must not make a sound file look damaged: while a file is replaced, sums.json knows both what
it is and what it is to be next. Runs of builds that kept no checksums have none until they are driven again.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from bnas.errors import RunError
from bnas.runs.documents import check_seal, json_of, json_text, sealed
from bnas.runs.files import read_bytes, replacing
from bnas.runs.lock import Access

SUMS = "sums.json"
_FILES, _LOG, _SEAL = "files", "log", "sha256"  # keys of sums.json
_NOW, _NEXT = "now", "next"  # keys of a file
_SUFFIXES = (".yaml", ".json", ".csv")  # of the files that decide or are reported
_HINT = "run the command that began this run again, so that it is made anew"
_logger = logging.getLogger(__name__)


def sha256(data: bytes) -> str:
    """Return the checksum of some bytes, as `sha256sum` prints it."""
    return hashlib.sha256(data).hexdigest()


class Sums:
    """What the files of a run folder hold, by name."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._told = False

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return those of a folder, to be looked at."""
        return cls(Access(folder, readonly=True))

    def has(self, name: str) -> bool:
        """Whether a file was written; it may be gone since, of which `read` tells."""
        return _NOW in self._entry(name) or self._access.inside(name).exists()

    def read(self, name: str, *, hint: str) -> bytes:
        """Return what a file holds.

        Raises:
            RunError: it is missing, or not what was written.
        """
        path, entry = self._access.inside(name), self._entry(name)
        data = read_bytes(path, hint=hint)
        if entry and sha256(data) not in entry.values():
            raise RunError(f"{path}: is damaged: its sha256 is not that of {SUMS}; {hint}")
        return data

    def write(self, name: str, text: str) -> None:
        """Write a file, whole or not at all.

        Raises:
            RunError: it cannot be written; what was there is intact.
        """
        data = text.encode("utf-8", "backslashreplace")
        with (
            self.writing(name, sha256(data)),
            replacing(self._access.target(name), check=self._access.check) as temporary,
        ):
            temporary.write_bytes(data)

    @contextmanager
    def writing(self, name: str, sum_: str) -> Iterator[None]:
        """Let the block put a file with this checksum in the place of what is there."""
        entry = self._entry(name)
        kept = {_NEXT: sum_}
        with suppress(RunError):  # missing; or it cannot be read, and is to be replaced
            now = sha256(read_bytes(self._access.inside(name), hint=""))
            kept |= {_NOW: now} if not entry or now in entry.values() else {}
        self._keep(name, kept)
        yield
        self._keep(name, {_NOW: sum_})

    def is_expected(self, name: str, text: str) -> bool:
        """Whether a text is what a file held when it was written."""
        return sha256(text.encode("utf-8", "backslashreplace")) in self._entry(name).values()

    @property
    def log_end(self) -> str:
        """The checksum of the last line of the log when a driver last put the run down; "" where none did."""
        end = self._known()[_LOG]
        return end if isinstance(end, str) else ""

    @log_end.setter
    def log_end(self, sum_: str) -> None:
        self._replace(self._known() | {_LOG: sum_})

    def begin(self) -> str | None:
        """Take the files for what they are where sums.json is missing or damaged; say so of a damaged one."""
        path = self._access.inside(SUMS)
        with suppress(RunError):
            self._read()
            return None
        was_there = path.exists()
        names = [found.name for found in path.parent.iterdir() if found.suffix in _SUFFIXES and found.is_file()]
        now = {name: {_NOW: sha256(read_bytes(path.with_name(name), hint=_HINT))} for name in names if name != SUMS}
        self._replace({_FILES: now, _LOG: ""})
        return f"{path}: is damaged; made anew of the files as they are" if was_there else None

    def _entry(self, name: str) -> dict[str, str]:
        entry = self._known()[_FILES].get(name, {})
        return entry if isinstance(entry, dict) else {}

    def _known(self) -> dict[str, Any]:
        try:
            return self._read()
        except RunError as problem:
            if self._access.inside(SUMS).exists() and not self._told:
                _logger.warning("%s; until then its files are taken for what they are", problem)
                self._told = True
            return {_FILES: {}, _LOG: ""}

    def _read(self) -> dict[str, Any]:
        path = self._access.inside(SUMS)
        known = json_of(read_bytes(path, hint=_HINT), path, hint=_HINT)
        check_seal(known, key=_SEAL, path=path, hint=_HINT)
        if _SEAL not in known or not isinstance(known.get(_FILES), dict) or _LOG not in known:
            raise RunError(f"{path}: is damaged: it lacks what it must hold; {_HINT}")
        return known

    def _keep(self, name: str, entry: dict[str, str]) -> None:
        known = self._known()
        self._replace(known | {_FILES: known[_FILES] | {name: entry}})

    def _replace(self, known: dict[str, Any]) -> None:
        text = json_text(sealed(known, key=_SEAL))
        with replacing(self._access.target(SUMS), check=self._access.check) as temporary:
            temporary.write_text(text, encoding="utf-8")
