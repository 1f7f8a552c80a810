"""A bnas command in a process of its own that ends, by a signal of the test's choice, at the n-th thing it does.

Things that count: a step of the work, a file opened to be written, renamed or removed, a statement sent to a database.
Nothing of this is known to the program: audit hooks of Python and events of SQLAlchemy tell.
"""

import itertools
import math
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import Engine

from bnas.api import exploring, searching
from bnas.api.progress_bars import ProgressBars
from bnas.cli.app import main
from bnas.report import page
from bnas.runs import Run, events
from bnas.searcher import evolution, sampler, storage
from bnas.ship import training as exporting
from bnas.train import loop
from tests.tiny import blank

# A server that has imported everything forks a process in milliseconds; a fresh interpreter takes seconds.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["bnas.api", "bnas.cli.app", "bnas.api.progress_bars", "bnas.report", "bnas.data.known"])
POPULATION = 3  # so that even a short search breeds from what was scored
_TEMPORARY = re.compile(r"\.[0-9a-f]+\.tmp\.?")  # another each time
_FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


class Ended(NamedTuple):
    """How a command ended."""

    code: int  # negative: the signal that ended it
    said: str  # on stderr
    done: list[str]  # what it did, in order, each with the phase in which it did it

    @property
    def lines(self) -> list[str]:
        """What it said of how it ended, beside its progress and what the images and the scores are."""
        assert "Traceback" not in self.said
        return [line for line in self.said.splitlines() if line.startswith("bnas: ")]


class Fate(NamedTuple):
    """What becomes of a command.

    Args:
        at: the number or the line of what it does, as in `done`, at which it sends itself the signal `number`.
        report: False leaves out the report and the proof of an export, which take half the time.
        clock: seconds that its clock is set ahead, at that same moment or from the start; then the signal may be 0.
        largest: bytes of the largest file that it may write.
    """

    at: int | str | None = None
    number: int = signal.SIGKILL
    report: bool = True
    clock: float = 0.0
    largest: int = resource.RLIM_INFINITY


def bnas(*command: object, folder: Path, **fate: Any) -> Ended:
    """Run a command to the end that is its fate; what it says and does is kept in a folder, not that of the run."""
    said, log = folder / "stderr.txt", folder / "done.txt"
    process = SERVER.Process(target=_live, args=([str(part) for part in command], said, log, Fate(**fate)))
    process.start()
    process.join()
    assert process.exitcode is not None
    return Ended(process.exitcode, said.read_text(), log.read_text().splitlines())


def _live(command: list[str], said: Path, log: Path, fate: Fate) -> None:
    for stream, path in ((1, os.devnull), (2, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    phase, write = ["start"], searching.report.write_report

    def write_report(run: Run) -> None:
        phase[0] = "report"
        if fate.report:
            write(run)

    searching.report.write_report = write_report
    for name, value in blank().items():
        _change(page, name, value)
    if not fate.report:
        _change(exporting, "prove_model_file", lambda *_, **__: {})
    _change(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)  # one after each step
    for owner, name in ((exploring, "SECONDS_BETWEEN_TABLES"), (storage, "BATCH_SECONDS")):
        _change(owner, name, math.inf)  # so that what is done does not depend on how fast it goes
    _change(sampler, "_POPULATION", (POPULATION, POPULATION))
    if fate.at is None:
        _shift_clocks(fate.clock)
    resource.setrlimit(resource.RLIMIT_FSIZE, (fate.largest, fate.largest))
    _watch(phase, log, fate)
    sys.argv = ["bnas", *command]
    main()


def _change(owner: Any, name: str, value: Any) -> None:
    assert hasattr(owner, name)
    setattr(owner, name, value)


def _shift_clocks(seconds: float) -> None:
    now = time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.fromtimestamp(time.time(), tz)

    time.time = lambda: now() + seconds
    events.datetime = Shifted  # type: ignore[misc]


def _watch(phase: list[str], log: Path, fate: Fate) -> None:
    count, notes = itertools.count(), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def happens(what: str) -> None:
        line = f"{phase[0]}: {_TEMPORARY.sub('.', what)}"
        with suppress(OSError):  # these notes are not to be larger than the fate allows, either
            os.write(notes, f"{line}\n".encode())
        if fate.at in (next(count), line):
            _shift_clocks(fate.clock)
            os.kill(os.getpid(), fate.number)

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or name in _FILE_EVENTS:
            happens(f"{name} {Path(str(arguments[0])).name}")

    def progress(self: ProgressBars, now: str, done: int, total: int, note: str = "") -> None:
        phase[0] = now
        happens(f"{done} of {total}")

    def breed(self: evolution.Evolution, *arguments: Any) -> Any:
        happens("breeds")
        return child(self, *arguments)

    child = evolution.Evolution._child
    evolution.Evolution._child = breed  # type: ignore[method-assign]
    ProgressBars.__call__ = progress  # type: ignore[method-assign]
    event.listen(Engine, "before_cursor_execute", lambda *_: happens("sql"))
    event.listen(Engine, "commit", lambda *_: happens("commit"))
    sys.addaudithook(audit)
