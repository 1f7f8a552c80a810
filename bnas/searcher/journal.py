"""A run's log <-> what was paid for: every score the moment it is known; and what was proposed, some at a time.

The log is the second copy of what the Optuna storage holds. So a damaged or a changed storage loses nothing: the next
start takes the scores from the log and fills the storage again; and what the log has lost it takes from the storage.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from bnas.searcher.candidate import Outcome, Score
from bnas.space.space import Genes, genes_of, genes_text

Windows = list[tuple[int, int]]  # (number of a proposal, candidates in flight from it on)


class Proposal(NamedTuple):
    """A genotype that a search proposed, and the id of its architecture."""

    genes: Genes
    id: str


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
        self._paid_in: dict[str, set[str]] = {}
        self._unsure: set[str] = set()  # ids of lines without a checksum, of builds that kept none
        self._begun: dict[str, int] = {}
        self._windows: dict[str, Windows] = {}
        self._proposals: dict[str, list[Proposal]] = {}
        for event in log.events() if log else []:
            self._read(event)

    def __contains__(self, arch_id: str) -> bool:
        return arch_id in self._outcomes

    def __getitem__(self, arch_id: str) -> Outcome:
        return self._outcomes[arch_id]

    def is_sure(self, arch_id: str) -> bool:
        """Whether the outcome is sure to be what was written."""
        return arch_id not in self._unsure

    def paid_in(self, search: str) -> set[str]:
        """Return the ids of what a search has paid for."""
        return self._paid_in.get(search, set())

    def add(self, arch_id: str, outcome: Outcome, *, search: str) -> None:
        """Keep the outcome of an architecture that a search has paid for, unless there is one."""
        if arch_id in self:
            return
        if isinstance(outcome, Score):
            self._write("scored", search=search, id=arch_id, **outcome._asdict())
        else:
            self._write("failed", search=search, id=arch_id, why=outcome)
        self._keep(arch_id, outcome, search)

    def learn(self, outcomes: Mapping[str, Outcome], *, search: str) -> None:
        """Add what a storage holds and the log does not, as after a power cut that took the log's last lines."""
        for arch_id, outcome in outcomes.items():
            self.add(arch_id, outcome, search=search)

    def begin(self, search: str, trials: int) -> int:
        """Return how many trials a search was first asked for, which is kept when it begins."""
        if search not in self._begun:
            self._write("begun", search=search, trials=trials)
            self._begun[search] = trials
        return self._begun[search]

    def windows(self, search: str) -> Windows:
        """Return how many candidates a search had in flight, from which proposal on."""
        return self._windows.get(search, [])

    def widen(self, search: str, number: int, in_flight: int) -> None:
        """Keep that a search has `in_flight` candidates in flight from proposal `number` on."""
        self._write("in flight", search=search, number=number, candidates=in_flight)
        self._windows.setdefault(search, []).append((number, in_flight))

    def proposals(self, search: str) -> Sequence[Proposal]:
        """Return what a search is known to have proposed, from its first proposal on."""
        return self._proposals.get(search, [])

    def propose(self, search: str, made: Sequence[Proposal]) -> None:
        """Keep the next proposals of a search."""
        known = self._proposals.setdefault(search, [])
        written = [[genes_text(genes), arch_id] for genes, arch_id in made]
        self._write("proposed", search=search, first=len(known), candidates=written)
        known.extend(made)

    def _keep(self, arch_id: str, outcome: Outcome, search: str) -> None:
        self._outcomes[arch_id] = outcome
        self._paid_in.setdefault(search, set()).add(arch_id)

    def _write(self, event: str, **fields: Any) -> None:
        if self._log:
            self._log.log(event, **fields)

    def _read(self, event: dict[str, Any]) -> None:
        if "sum" not in event:
            self._unsure.add(str(event.get("id")))
        match event:
            case {"event": "scored", "id": str(arch_id), "proxy_accuracy": float(accuracy), "proxy_loss": float(loss)}:
                self._keep(arch_id, Score(accuracy, loss), event.get("search", ""))
            case {"event": "failed", "id": str(arch_id), "why": str(why)}:
                self._keep(arch_id, why, event.get("search", ""))
            case {"event": "begun", "search": str(search), "trials": int(trials)}:
                self._begun.setdefault(search, trials)
            case {"event": "in flight", "search": str(search), "number": int(number), "candidates": int(in_flight)}:
                self._windows.setdefault(search, []).append((number, in_flight))
            case {"event": "proposed", "search": str(search), "first": int(first), "candidates": list(made)}:
                known = self._proposals.setdefault(search, [])
                if first == len(known):  # else lines before it are lost: what they held is proposed again
                    known.extend(_proposals(made))


def _proposals(made: Sequence[object]) -> Iterator[Proposal]:
    """Yield the proposals of a line, up to one that is none."""
    for each in made:
        match each:
            case [str(genes), str(arch_id)] if re.fullmatch(r"[0-9]{1,4}(-[0-9]{1,4})*", genes):
                yield Proposal(genes_of(genes), arch_id)
            case _:
                return
