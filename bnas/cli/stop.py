"""Ctrl-C or SIGTERM -> long work is put down where that loses nothing, and at once at a second one; short work ends."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from bnas.errors import Stopped
from bnas.progress import Progress

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STDERR = 2


class Stop:
    """A progress that raises `Stopped` once a signal came; use it as a context, in the main thread."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        self._progress(phase, done, total, note)
        if self._asked:
            raise Stopped(f"stopped at {phase}, {done} of {total} done, all of it saved; the same command goes on")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        # Not print: the signal may have come in the middle of one.
        os.write(STDERR, b"bnas: stopping after the step in hand; once more stops at once\n")


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C or SIGTERM end the block, which has no steps to finish and leaves nothing half written.

    Raises:
        Stopped: one of them came.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    try:
        yield
    except KeyboardInterrupt as problem:
        raise Stopped("stopped; nothing is half written; run the same command again") from problem
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
