"""Events <-> a log of one JSON object a line, which a kill can tear only at its end."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bnas.runs.files import append_line, read_text
from bnas.runs.masking import strict_json

_logger = logging.getLogger(__name__)


def append(path: Path, *, event: str, fields: dict[str, Any]) -> None:
    """Append one event with the time in UTC, secrets masked.

    Raises:
        RunError: the log cannot be written.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    append_line(path, json.dumps(strict_json({"time": now, "event": event, **fields}), default=str))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the events, oldest first; none where there is no log, and a torn line is skipped with a warning.

    Raises:
        RunError: the log cannot be read.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(read_text(path, hint="make it readable").splitlines(), start=1):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict):
            found.append(event)
        else:
            _logger.warning("%s: line %d is torn, skipped", path, number)
    return found
