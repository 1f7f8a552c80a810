"""Progress on stderr: a bar for what is under way, and a line for each phase that has ended.

A terminal and a notebook show the bar in place; anywhere else a line is printed now and then.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bnas.amounts import clock, duration
from bnas.data import DataSet
from bnas.errors import SpecError
from bnas.progress import Progress, silent

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_PICTURES = 0.2
SHORTEST_BAR, LONGEST_BAR = 8, 40  # letters
WIDTH_OF_NOTEBOOKS = 80
GAP = "  "


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


def say_at_once(line: str, progress: Progress | bool) -> None:
    """Say on stderr that a call is at work, where the bars are ours: what it reads first may take a while."""
    if progress is True:
        print(line, file=sys.stderr, flush=True)


def say_images(images: DataSet, progress: Progress | bool) -> None:
    """Say in one line what the images are: on stderr where the bars are ours, and to the logger `bnas.images`."""
    images.announce()
    if progress is True:
        print(f"data {images.summary()}", file=sys.stderr)


class Stand(NamedTuple):
    """How far a phase is, and the whole work with it."""

    phase: str
    done: int
    total: int
    note: str
    seconds: float  # since the phase began
    new: int  # steps done since then; others were done before the work was stopped
    whole: float  # seconds since all of the work began

    @property
    def rate(self) -> str:
        """Steps a second, once they are known."""
        return f"{self.new / self.seconds:.1f}/s" if self.seconds > 1 and self.new else ""

    @property
    def left(self) -> str:
        """How long the phase will take yet, once that is known."""
        if not self.new or self.seconds <= 1:
            return ""
        return f"{clock((self.total - self.done) * self.seconds / self.new)} left"

    @property
    def in_all(self) -> str:
        """How long the whole work took so far."""
        return f"{clock(self.whole)} in all"

    def line(self) -> str:
        """Return it as a line of its own."""
        parts = (f"{self.phase}: {self.done}/{self.total}", self.rate, self.left, self.note, self.in_all)
        return ", ".join(filter(None, parts))

    def ended(self, width: int | None = None) -> str:
        """Return the line of a phase that has ended, cut to a width where there is one."""
        end = f": {self.done}/{self.total}, in {duration(self.seconds)}"
        phase = self.phase if width is None else _cut(self.phase, width - len(end))
        whole = f"{phase}{end}, {self.note}" if self.note else f"{phase}{end}"
        return whole if width is None or len(whole) <= width else f"{phase}{end}"

    def picture(self, width: int, *, full: str = "\u2501", empty: str = "\u2500") -> str:
        """Return two lines: what is done; and a bar, with the times that fit beside it."""
        first = _joined([self.phase, self.note], width)
        counts = f"{self.done}/{self.total}"
        beside = _joined([counts, self.left, self.in_all, self.rate], width - SHORTEST_BAR - len(GAP))
        length = min(LONGEST_BAR, width - len(beside) - len(GAP))
        filled = length * min(self.done, self.total) // max(self.total, 1)
        return f"{first}\n{full * filled}{empty * (length - filled)}{GAP}{beside}"


def _joined(parts: list[str], width: int) -> str:
    """Return the first part, and the others as far as they fit."""
    line = _cut(parts[0], width)
    for part in filter(None, parts[1:]):
        if len(line) + len(GAP) + len(part) <= width:
            line += GAP + part
    return line


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 3]}..."


class ProgressBars:
    """A progress to hand to long work; use it as a context."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._screen: Screen
        if self._console.is_jupyter:
            self._screen = Notebook()
        elif self._console.is_terminal:
            self._screen = Terminal(self._console)
        else:
            self._screen = Lines()
        self._began = time.monotonic()
        self._phase, self._since, self._first = "", self._began, 0
        self._last: Stand | None = None

    def __enter__(self) -> "ProgressBars":
        self._screen.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()
        self._screen.close()

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if phase == self._phase and self._last is None and done >= total:
            return  # its end was said
        if phase != self._phase or self._last is None or done < self._last.done:
            self._end()
            # The first call comes when a step is done, or nothing is; what was done before it took no time now.
            self._phase, self._since, self._first = phase, now, done
        self._last = Stand(phase, done, total, note, now - self._since, done - self._first, now - self._began)
        self._screen.show(self._last)
        if done >= total:
            self._end()

    def _end(self) -> None:
        """Say that the phase under way has ended."""
        if self._last is not None:
            self._screen.end(self._last)
        self._last = None


class Screen:
    """Where progress is shown."""

    def open(self) -> None:
        """Begin to show it."""

    def close(self) -> None:
        """Leave nothing behind but the lines of what has ended."""

    def show(self, stand: Stand) -> None:
        """Show how far a phase is; is called often."""
        raise NotImplementedError

    def end(self, stand: Stand) -> None:
        """Keep a line of a phase that has ended."""
        raise NotImplementedError


class Lines(Screen):
    """A pipe or a file: a line when a phase begins, then every ten seconds, and when it ends."""

    def __init__(self) -> None:
        self._phase, self._next = "", 0.0

    def show(self, stand: Stand) -> None:
        """Print a line, unless the last one was printed a moment ago."""
        now = time.monotonic()
        if stand.phase != self._phase or now > self._next:
            if stand.done < stand.total:  # else the line of its end follows
                print(stand.line(), file=sys.stderr, flush=True)
            self._phase, self._next = stand.phase, now + SECONDS_BETWEEN_LINES

    def end(self, stand: Stand) -> None:
        """Print the line of its end."""
        self._phase = ""
        print(stand.ended(), file=sys.stderr, flush=True)


class Terminal(Screen):
    """A bar at the foot of a terminal, under the lines of what has ended; between phases the clock alone."""

    def __init__(self, console: Console) -> None:
        self._console, self._began = console, time.monotonic()
        self._stand: Stand | None = None
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=5, transient=True)

    def open(self) -> None:
        """Begin to show it."""
        self._live.start()

    def close(self) -> None:
        """Take the bar away."""
        self._live.stop()

    def show(self, stand: Stand) -> None:
        """Keep what the next picture shows."""
        self._stand = stand

    def end(self, stand: Stand) -> None:
        """Print the line of its end above the bar."""
        self._stand = None
        self._console.print(Text(stand.ended(self._console.width)), soft_wrap=True)

    def _picture(self) -> Text:
        stand, whole = self._stand, time.monotonic() - self._began  # the clock goes on while a step takes long
        if stand is None:
            return Text(f"{clock(whole)} in all")
        signs = {} if self._console.encoding.startswith("utf") else {"full": "#", "empty": "-"}
        return Text(stand._replace(whole=whole).picture(self._console.width, **signs), no_wrap=True)


class Notebook(Screen):
    """One output of a cell that changes in place: what has ended, and the bar."""

    def __init__(self) -> None:
        self._ended: list[str] = []
        self._next = 0.0
        self._handle: Any = None

    def show(self, stand: Stand) -> None:
        """Change the output, unless it changed a moment ago."""
        if time.monotonic() > self._next:
            self._change([*self._ended, stand.picture(WIDTH_OF_NOTEBOOKS)])
            self._next = time.monotonic() + SECONDS_BETWEEN_PICTURES

    def end(self, stand: Stand) -> None:
        """Add the line of its end."""
        self._ended.append(stand.ended())
        self._change(self._ended)

    def _change(self, lines: list[str]) -> None:
        from IPython.display import display  # a notebook has it

        shown = {"text/plain": "\n".join(lines)}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
