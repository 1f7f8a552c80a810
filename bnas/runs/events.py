"""Events <-> a log of one JSON object a line, which a kill can tear only at its end."""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bnas.errors import RunError
from bnas.runs.files import append_line
from bnas.runs.masking import strict_json

_logger = logging.getLogger(__name__)


def append_event(path: Path, *, event: str, fields: dict[str, Any]) -> None:
    """Append one event with the time in UTC, secrets masked.

    Raises:
        RunError: the log cannot be written.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    append_line(path, json.dumps(strict_json({"time": now, "event": event, **fields}), default=str))


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events, oldest first; none where there is no log, and a damaged line is skipped with a warning.

    Raises:
        RunError: the log cannot be read.
    """
    found = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            event = json.loads(line)  # a line at a time, so that bytes that are no text cost one event
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict):
            found.append(event)
        else:
            _logger.warning("%s: line %d is torn, skipped", path, number)
    return found


def driver_began(events: Sequence[Mapping[str, Any]], pid: int) -> str | None:
    """Return when the driver of this process number last began; None where it never did."""
    for event in reversed(events):
        if event.get("event") == "driver" and event.get("pid") == pid:
            return str(event["time"])
    return None


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise RunError(f"{path}: cannot be read: {problem.strerror}; make it readable") from problem
