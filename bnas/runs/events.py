"""Events <-> a log of one JSON object a line, each line with its own checksum and that of the line before it.

A kill can tear the log only at its end, and what it tears was not yet counted: the next line goes on from the last
whole one. Whatever else is not as it was written is found: a changed line, one that is gone or there twice, a cut end.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bnas.errors import RunError
from bnas.masking import strict_json
from bnas.runs.files import append_line, keep_copy, read_bytes, replacing

Event = dict[str, Any]
Check = Callable[[], object]
_SUM, _AFTER = "sum", "after"
_LINE = re.compile(rb'(?P<body>\{.*"after": "(?P<after>[0-9a-f]*)"), "sum": "(?P<sum>[0-9a-f]+)"\}', re.DOTALL)
_DIGITS = 16  # hexadecimal, of a checksum
_TAIL = 16384  # bytes at the end of a log, among which its last whole line is sought first
_READABLE = "make it readable"
_appending = threading.Lock()  # a pool tells of lost workers from threads of its own


class Told(NamedTuple):
    """What a log says."""

    events: list[Event]  # the sound ones, oldest first; those with a checksum have it under `sum`
    torn: list[int]  # numbers of lines that a kill tore, of which nothing is lost
    damage: list[str]  # what is not as it was written: in `damage` something may be lost


def append_event(path: Path, *, event: str, fields: dict[str, Any], check: Check = lambda: None) -> None:
    """Append one event with the time in UTC, secrets masked.

    Args:
        check: is called right before the line is written.
    Raises:
        RunError: the log cannot be written.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    with _appending:
        line, _ = _summed(json.loads(_dumped({"time": now, "event": event, **fields})), after=last_sum(path))
        append_line(path, line, check=check)


def read_events(path: Path, *, end: str = "") -> Told:
    """Return the events, oldest first; none where there is no log.

    Args:
        end: the checksum of a line that the log must hold, for it was once its last; "" where none is known.
    Raises:
        RunError: the log cannot be read.
    """
    found = Told([], [], [])
    last, bad, sums = "", list[int](), set[str]()
    for number, line in enumerate(_lines(path), start=1):
        event, after = _parsed(line)
        if event is None or (_SUM not in event and sums):  # once there are checksums, every line has one
            bad.append(number)
        elif event.get(_SUM, number) in sums:
            found.damage.append(f"line {number} is there twice")
        else:
            _judge(found, bad, number, is_next=after == last)
            found.events.append(event)
            last = event.get(_SUM, "")
            sums |= {last} - {""}
            bad = []
    lost = end and end not in sums
    _judge(found, bad, None, is_next=not lost)
    if lost and not bad:
        found.damage.append("lines at its end are gone")
    return found


def _judge(found: Told, bad: Sequence[int], number: int | None, *, is_next: bool) -> None:
    """Say what became of the lines between two whole ones: only what a kill tore leaves the chain as it was."""
    if is_next:
        found.torn.extend(bad)
    elif bad:
        found.damage.extend(f"line {line} is damaged" for line in bad)
    elif number is not None:
        found.damage.append(f"lines before line {number} are gone")


def mend(path: Path, *, end: str, check: Check) -> str | None:
    """Write a damaged log anew of its sound lines, and keep what it was; return what was wrong with it.

    Raises:
        RunError: it cannot be read, or written.
    """
    told = read_events(path, end=end)
    if not told.damage:
        return None
    kept = f", what it was is in {keep_copy(path).name}" if path.exists() else ""
    lines, last = list[str](), ""
    for event in told.events:
        line, last = _summed(event, after=last) if _SUM in event else (_dumped(event), "")
        lines.append(line)
    with replacing(path, check=check) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"{path}: {'; '.join(told.damage)}; made anew of its sound lines{kept}"


def last_sum(path: Path) -> str:
    """Return the checksum of the last whole line; "" where there is none.

    Raises:
        RunError: the log cannot be read.
    """
    reach = _TAIL
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            while True:
                file.seek(max(0, size - reach))
                lines = file.read().split(b"\n")
                for line in reversed(lines if reach >= size else lines[1:]):
                    event, _ = _parsed(line)
                    if event is not None and _SUM in event:
                        return str(event[_SUM])
                if reach >= size:
                    return ""
                reach *= 16
    except FileNotFoundError:
        return ""
    except OSError as problem:
        raise RunError(f"{path}: cannot be read: {problem.strerror}; {_READABLE}") from problem


def driver_began(events: Sequence[Mapping[str, Any]], pid: int) -> str | None:
    """Return when the driver of this process number last began; None where it never did."""
    for event in reversed(events):
        if event.get("event") == "driver" and event.get("pid") == pid:
            return str(event["time"])
    return None


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines; not parted at what else ends a line of text, for such bytes may be damage."""
    if not path.exists():
        return
    content = read_bytes(path, hint=_READABLE)
    yield from content.removesuffix(b"\n").split(b"\n") if content else ()


def _parsed(line: bytes) -> tuple[Event | None, str]:
    """Return the event of a line and the checksum that it follows; None where it is not as it was written."""
    match = _LINE.fullmatch(line)
    if match and match["sum"].decode() != _digest(match["body"]):
        return None, ""
    try:
        event = json.loads(line)
        moment = datetime.fromisoformat(event["time"])
        if moment.tzinfo is None or not isinstance(event["event"], str) or (_SUM in event) != bool(match):
            return None, ""
        event.pop(_AFTER, None)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None, ""
    return event, match["after"].decode() if match else ""


def _summed(event: Event, *, after: str) -> tuple[str, str]:
    """Return the line of an event and its checksum."""
    plain = {key: value for key, value in event.items() if key not in (_SUM, _AFTER)}
    body = _dumped(plain | {_AFTER: after})[:-1]
    digest = _digest(body.encode())
    return f'{body}, "{_SUM}": "{digest}"}}', digest


def _dumped(event: Event) -> str:
    return json.dumps(strict_json(event), default=str)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:_DIGITS]
