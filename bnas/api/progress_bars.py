"""Progress on stderr: one bar a phase, with rate and time left; plain lines where stderr is no terminal."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from bnas.data import DataSet
from bnas.errors import SpecError
from bnas.progress import Progress, silent

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def watched(progress: Progress | bool) -> Iterator[Progress]:
    """Give what long work tells how it goes: bars for True, nothing for False, or what the caller has of its own.

    Raises:
        SpecError: it is none of these.
    """
    if progress is True:
        with ProgressBars() as bars:
            yield bars
    elif progress is False or callable(progress):
        yield progress or silent
    else:
        raise SpecError(
            f"progress: must be True, False or a function (phase, done, total, note), but is {type(progress).__name__}"
        )


def say(line: str, progress: Progress | bool) -> None:
    """Say a line at the start of long work: on stderr where the bars are ours, and to the logger `bnas.images`."""
    logging.getLogger("bnas.images").info(line)
    if progress is True:
        print(line, file=sys.stderr)


def say_images(images: DataSet, progress: Progress | bool) -> None:
    """Say in one line what the images are: on stderr where the bars are ours, and to the logger `bnas.images`."""
    images.announce()
    if progress is True:
        print(f"data {images.summary()}", file=sys.stderr)


class ProgressBars:
    """A progress to hand to long work; use it as a context."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description:<36}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            refresh_per_second=5,
        )
        self._tasks: dict[str, tuple[TaskID, float, int]] = {}
        self._line = (0.0, "")

    def __enter__(self) -> "ProgressBars":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if phase not in self._tasks:
            self._tasks[phase] = (self._bars.add_task(phase, total=total, rate="", note=""), now, done)
        task, began, first = self._tasks[phase]
        rate = f"{(done - first) / (now - began):.1f}/s" if now - began > 1 and done > first else ""
        if self._console.is_terminal:
            self._bars.update(task, completed=done, rate=rate, note=note)
        elif done == total or phase != self._line[1] or now - self._line[0] > SECONDS_BETWEEN_LINES:
            print(f"{phase}: {done}/{total} {rate} {note}".rstrip(), file=sys.stderr, flush=True)
            self._line = (now, phase)
