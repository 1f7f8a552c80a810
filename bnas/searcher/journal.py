"""A run's log <-> what was paid for: every score the moment it is known, and how far ahead proposals ran.

The log is the second copy of what the Optuna storage holds. So a damaged or a changed storage loses nothing: the next
start takes the scores from the log and fills the storage again.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from bnas.searcher.candidate import Outcome, Score

Windows = list[tuple[int, int]]  # (number of a proposal, candidates in flight from it on)


class Log(Protocol):
    """Where events are kept; a run folder is one."""

    def log(self, event: str, **fields: Any) -> None:
        """Append one event."""

    def events(self) -> list[dict[str, Any]]:
        """Return the events, oldest first."""


class Journal:
    """Outcomes by architecture id, shared by all searches with one supernet; without a log it forgets them."""

    def __init__(self, log: Log | None = None) -> None:
        self._log = log
        self._outcomes: dict[str, Outcome] = {}
        self._windows: dict[str, Windows] = {}
        for event in log.events() if log else []:
            self._read(event)

    def __contains__(self, arch_id: str) -> bool:
        return arch_id in self._outcomes

    def __getitem__(self, arch_id: str) -> Outcome:
        return self._outcomes[arch_id]

    def add(self, arch_id: str, outcome: Outcome) -> None:
        """Keep the outcome of an architecture, unless there is one."""
        if arch_id in self:
            return
        if isinstance(outcome, Score):
            self._write("scored", id=arch_id, **outcome._asdict())
        else:
            self._write("failed", id=arch_id, why=outcome)
        self._outcomes[arch_id] = outcome

    def learn(self, outcomes: Mapping[str, Outcome]) -> None:
        """Add what a storage holds and the log does not, as after a power cut that took the log's last lines."""
        for arch_id, outcome in outcomes.items():
            self.add(arch_id, outcome)

    def windows(self, search: str) -> Windows:
        """Return how many candidates a search had in flight, from which proposal on."""
        return self._windows.get(search, [])

    def widen(self, search: str, number: int, in_flight: int) -> None:
        """Keep that a search has `in_flight` candidates in flight from proposal `number` on."""
        self._write("in flight", search=search, number=number, candidates=in_flight)
        self._windows.setdefault(search, []).append((number, in_flight))

    def _write(self, event: str, **fields: Any) -> None:
        if self._log:
            self._log.log(event, **fields)

    def _read(self, event: dict[str, Any]) -> None:
        match event:
            case {"event": "scored", "id": str(arch_id), "proxy_accuracy": float(accuracy), "proxy_loss": float(loss)}:
                self._outcomes[arch_id] = Score(accuracy, loss)
            case {"event": "failed", "id": str(arch_id), "why": str(why)}:
                self._outcomes[arch_id] = why
            case {"event": "in flight", "search": str(search), "number": int(number), "candidates": int(in_flight)}:
                self._windows.setdefault(search, []).append((number, in_flight))
