"""A bnas command in a process of its own that ends, by a signal of the test's choice, at the n-th thing it does.

Things that count: a step of the work, a file opened to be written, renamed or removed, a statement sent to a database.
Nothing of this is known to the program: audit hooks of Python and events of SQLAlchemy tell.
"""

import itertools
import multiprocessing
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import Engine

from bnas.cli.watch import Watch
from bnas.runs import Run

# A server that has imported everything forks a process in milliseconds; a fresh interpreter takes seconds.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["bnas.api", "bnas.cli.app", "bnas.cli.watch", "bnas.report", "sklearn.datasets"])
_TEMPORARY = re.compile(r"\.\d+\.tmp\.?")  # a process's number is another each time
_FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


class Ended(NamedTuple):
    """How a command ended."""

    code: int  # negative: the signal that ended it
    said: str  # on stderr
    done: list[str]  # what it did, in order, each with the phase in which it did it


def bnas(
    *command: object, folder: Path, at: int | str | None = None, number: int = signal.SIGKILL, report: bool = True
) -> Ended:
    """Run a command, which sends itself a signal at something it does.

    Args:
        at: the number or the line of what it does, as in `done`; None lets it end by itself.
        folder: where what it says and does is kept; not the run folder.
        report: False leaves out the report, which takes half the time.
    """
    said, log = folder / "stderr.txt", folder / "done.txt"
    process = _SERVER.Process(target=_live, args=([str(part) for part in command], said, log, at, number, report))
    process.start()
    process.join()
    assert process.exitcode is not None
    return Ended(process.exitcode, said.read_text(), log.read_text().splitlines())


def _live(command: list[str], said: Path, log: Path, at: int | str | None, number: int, report: bool) -> None:
    for stream, path in ((1, os.devnull), (2, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    from bnas.api import drive
    from bnas.cli.app import main

    phase, write = ["start"], drive.write_report

    def write_report(run: Run) -> None:
        phase[0] = "report"
        if report:
            write(run)

    drive.write_report = write_report
    _watch(phase, log, at, number)
    sys.argv = ["bnas", *command]
    main()


def _watch(phase: list[str], log: Path, at: int | str | None, number: int) -> None:
    count, notes = itertools.count(), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def happens(what: str) -> None:
        line = f"{phase[0]}: {_TEMPORARY.sub('.', what)}"
        os.write(notes, f"{line}\n".encode())
        if at in (next(count), line):
            os.kill(os.getpid(), number)

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or name in _FILE_EVENTS:
            happens(f"{name} {Path(str(arguments[0])).name}")

    def progress(self: Watch, now: str, done: int, total: int, note: str = "") -> None:
        phase[0] = now
        happens(f"{done} of {total}")

    Watch.__call__ = progress  # type: ignore[method-assign]
    event.listen(Engine, "before_cursor_execute", lambda *_: happens("sql"))
    event.listen(Engine, "commit", lambda *_: happens("commit"))
    sys.addaudithook(audit)
