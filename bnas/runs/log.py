"""The log of a run <-> its events; what it and the rest of the folder lost is made anew where that can be known."""

import logging
import secrets
from typing import Any

from bnas.runs.events import append_event, driver_began, last_sum, mend, read_events
from bnas.runs.lock import Access
from bnas.runs.settings import environment, restore_environment
from bnas.runs.sums import Sums

_LOG = "log.jsonl"
_logger = logging.getLogger(__name__)


class RunLog:
    """The log of one run folder."""

    def __init__(self, access: Access, sums: Sums) -> None:
        self._access, self._sums = access, sums
        self._told = set[str]()
        self.has_lost_events = False
        """Whether it lacked lines that it once had when it was mended: what they held is to be found again."""

    def append(self, event: str, fields: dict[str, Any]) -> None:
        """Append one event, with the time in UTC.

        Raises:
            RunError: it cannot be written.
        """
        append_event(self._access.target(_LOG), event=event, fields=fields, check=self._access.check)

    def warn(self, message: str) -> None:
        """Warn, and where the run may be written, keep that."""
        _logger.warning("%s", message)
        if not self._access.readonly:
            self.append("warning", {"message": message})

    def events(self) -> list[dict[str, Any]]:
        """Return the events, oldest first; what is torn or damaged is left out with a warning.

        Raises:
            RunError: it cannot be read.
        """
        path = self._access.inside(_LOG)
        told = read_events(path, end=self._sums.log_end)
        said = [f"line {number} is torn, skipped" for number in told.torn]
        said += [f"{what}; run the command that began this run again, so that it is mended" for what in told.damage]
        for what in said:
            if what not in self._told:
                _logger.warning("%s: %s", path, what)
                self._told.add(what)
        return told.events

    def began(self, pid: int) -> str | None:
        """Return when the driver of this process number last began; None where it never did."""
        return driver_began(self.events(), pid)

    def close(self) -> None:
        """Keep which line is the last, so that a cut end is seen.

        Raises:
            RunError: that cannot be written.
        """
        self._sums.log_end = last_sum(self._access.target(_LOG))

    def mend(self) -> list[str]:
        """Make the log, the checksums and environment.json anew where they are damaged; return what was.

        Raises:
            RunError: they cannot be written.
        """
        said = [self._sums.begin()]
        mended = mend(self._access.target(_LOG), end=self._sums.log_end, check=self._access.check)
        if mended:
            self.has_lost_events = True
            self.close()
        driven = [event for event in self.events() if event.get("event") == "driver" and event.get("run")]
        here = driven[0].get("environment") if driven else None
        run_id = str(driven[-1]["run"]) if driven else secrets.token_hex(4)
        lost = restore_environment(self._sums, here if isinstance(here, dict) else environment(), run_id)
        said += [mended, f"{self._access.inside(lost)}: was damaged or gone; made anew of the log" if lost else None]
        return [what for what in said if what]
