"""Outcomes of a search -> a study in an Optuna storage, written behind, several at once; it waits for a lost database.

The log is what counts: it has every outcome at once. So the study may lag behind, is filled from the log after a kill,
and takes one transaction for many trials, where Optuna's own way takes some 70 statements for each.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages._rdb import models  # their tables; Optuna 5 has no public way to add several trials at once
from optuna.trial import TrialState
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from bnas.errors import RunError
from bnas.progress import Progress
from bnas.searcher.candidate import Candidate, Outcome, Score
from bnas.searcher.database import RETRY_SECONDS, DamagedStorage, may_pass, naming, opened, reading
from bnas.searcher.journal import Journal
from bnas.searcher.storage_url import check_url, shown

PATIENCE_SECONDS = 3600.0  # how long a database that went away is waited for
BATCH, BATCH_SECONDS = 50, 5.0  # trials that are stored together, and how long the first of them waits at most
Check = Callable[[], object]
Row = dict[str, Any]


class StoredStudy:
    """The outcomes of one search in an Optuna storage, each there once, as optuna-dashboard shows them."""

    def __init__(self, url: str | None, name: str, *, check: Check = lambda: None) -> None:
        """Open the study, or make it.

        Args:
            url: of an Optuna storage; None stores nothing.
            check: is called right before trials are stored; it raises where this process may not store them after all.
        Raises:
            DamagedStorage: the file is no sound database.
            RunError: it cannot be used; says why, without the password.
        """
        self._url, self._name, self._check = url, name, check
        self._waiting: list[_Paid] = []
        self._begun = time.monotonic()
        self.outcomes: Mapping[str, Outcome] = {}
        if url is not None:
            check_url(url)
            with naming(url), reading():
                self._storage, self._study = opened(url, name)
                self.outcomes = self._stored()
        self._ids = set(self.outcomes)

    def add(
        self,
        candidate: Candidate,
        outcome: Outcome,
        *,
        params: Mapping[str, int],
        distributions: Mapping[str, BaseDistribution],
        progress: Progress,
    ) -> None:
        """Store what was paid for, soon, unless it is stored; a server that went away is waited for.

        Args:
            params, distributions: of the Optuna trial.
            progress: is told of the waiting.
        Raises:
            RunError: it cannot be stored.
        """
        if self._url is None or candidate.id in self._ids:
            return
        self._ids.add(candidate.id)
        self._waiting.append(_Paid(candidate, outcome, params, distributions))
        if len(self._waiting) >= BATCH or time.monotonic() - self._begun > BATCH_SECONDS:
            self.flush(progress)

    def flush(self, progress: Progress) -> None:
        """Store what waits.

        Raises:
            RunError: it cannot be stored.
        """
        if self._url is not None and self._waiting:
            with naming(self._url):
                self._store(self._url, progress)
        self._waiting.clear()
        self._begun = time.monotonic()

    def check_against(self, journal: Journal) -> None:
        """Check that what is stored is what the log says.

        Raises:
            DamagedStorage: a trial has another outcome than a line of the log that is sure to be as it was written.
            RunError: or than a line of which nobody can tell, of a build that kept no checksums.
        """
        for arch_id, outcome in self.outcomes.items():
            if arch_id not in journal or journal[arch_id] == outcome:
                continue
            differ = (
                f"{shown(self._url or '')}: study {self._name}: candidate {arch_id} has {_said(outcome)}, but "
                f"{_said(journal[arch_id])} by the log"
            )
            if journal.is_sure(arch_id):
                raise DamagedStorage(differ)
            raise RunError(f"{differ}; take the line of log.jsonl, or this study, away, whichever is wrong")

    def _store(self, url: str, progress: Progress) -> None:
        deadline, waited = time.monotonic() + PATIENCE_SECONDS, False
        while True:
            try:
                # The server may have gone after it had stored the trials and before it said so.
                stored = self._stored() if waited else {}
                self._insert([paid for paid in self._waiting if paid.candidate.id not in stored])
                return
            except (StorageInternalError, SQLAlchemyError) as problem:
                if not may_pass(url, problem) or time.monotonic() > deadline:
                    raise
            waited = True
            progress("waiting for the storage", 0, 1, shown(url))
            time.sleep(RETRY_SECONDS)

    def _insert(self, paid: Sequence["_Paid"]) -> None:
        study, trial = models.StudyModel, models.TrialModel
        rows: dict[type[models.BaseModel], list[Row]] = {}
        with self._storage.engine.begin() as connection:
            # A write first: it takes the lock that others wait for; SQLite would not wait between a look and a write.
            connection.execute(update(study).where(study.study_id == self._study).values(study_name=self._name))
            count = connection.scalar(select(func.count()).where(trial.study_id == self._study)) or 0
            for number, each in enumerate(paid, start=count):
                whole = insert(trial).values(each.trial(self._study, number)).returning(trial.trial_id)
                trial_id = connection.scalar(whole)
                for kind, parts in each.parts().items():
                    rows.setdefault(kind, []).extend(part | {"trial_id": trial_id} for part in parts)
            for kind, parts in rows.items():
                connection.execute(insert(kind), parts)
            self._check()

    def _stored(self) -> dict[str, Outcome]:
        trial, attribute, value = models.TrialModel, models.TrialUserAttributeModel, models.TrialValueModel
        here = trial.study_id == self._study
        with self._storage.engine.connect() as connection:
            states = dict(connection.execute(select(trial.trial_id, trial.state).where(here)).all())
            known: dict[int, dict[str, Any]] = {number: {} for number in states}
            columns = select(attribute.trial_id, attribute.key, attribute.value_json).join(trial).where(here)
            for number, key, text in connection.execute(columns):
                known[number][key] = json.loads(text)
            columns = select(value.trial_id, value.objective, value.value).join(trial).where(here)
            for number, objective, reached in connection.execute(columns):
                known[number][f"value {objective}"] = reached
        return dict(self._outcomes(states, known))

    def _outcomes(
        self, states: Mapping[int, TrialState], known: Mapping[int, dict[str, Any]]
    ) -> Iterator[tuple[str, Outcome]]:
        for number, facts in known.items():
            if "id" not in facts:
                continue  # somebody else's trial
            is_scored = states[number] == TrialState.COMPLETE
            outcome = Score(facts["value 0"], facts["proxy_loss"]) if is_scored else str(facts["why"])
            if facts.get(_SUM, _digest(facts["id"], outcome)) != _digest(facts["id"], outcome):
                raise ValueError(f"the trial of candidate {facts['id']} is not as it was stored")
            yield facts["id"], outcome


class _Paid(NamedTuple):
    """What is to be stored of a candidate."""

    candidate: Candidate
    outcome: Outcome
    params: Mapping[str, int]
    distributions: Mapping[str, BaseDistribution]

    def trial(self, study: int, number: int) -> Row:
        """Return the row of the trial, as Optuna would write it."""
        now = datetime.now(UTC).replace(tzinfo=None)
        state = TrialState.COMPLETE if isinstance(self.outcome, Score) else TrialState.FAIL
        times = {"_datetime_start_utc": now, "_datetime_complete_utc": now}
        return {"study_id": study, "number": number, "state": state} | times

    def parts(self) -> dict[type[models.BaseModel], list[Row]]:
        """Return the rows of its parameters, values and attributes, without the number of the trial."""
        kinds = self.distributions
        params = [
            {"param_name": name, "param_value": kinds[name].to_internal_repr(value),
             "distribution_json": distribution_to_json(kinds[name])}
            for name, value in self.params.items()
        ]  # fmt: skip
        values = [
            {"objective": objective, "value": value, "value_type": models.TrialValueModel.TrialValueType.FINITE}
            for objective, value in enumerate(self._values())
        ]
        attributes = [{"key": key, "value_json": json.dumps(value)} for key, value in self._facts().items()]
        found: dict[type[models.BaseModel], list[Row]] = {
            models.TrialParamModel: params, models.TrialValueModel: values, models.TrialUserAttributeModel: attributes
        }  # fmt: skip
        return {kind: rows for kind, rows in found.items() if rows}

    def _values(self) -> list[float]:
        return [self.outcome.proxy_accuracy, self.candidate.cost.ops] if isinstance(self.outcome, Score) else []

    def _facts(self) -> Row:
        known = {"id": self.candidate.id, "cost": self.candidate.cost.as_dict()}
        reached = {"proxy_loss": self.outcome.proxy_loss} if isinstance(self.outcome, Score) else {"why": self.outcome}
        return known | reached | {_SUM: _digest(self.candidate.id, self.outcome)}


_SUM = "sum"  # the key of an outcome's checksum


def _digest(arch_id: str, outcome: Outcome) -> str:
    return hashlib.sha256(json.dumps([arch_id, outcome]).encode()).hexdigest()[:16]


def _said(outcome: Outcome) -> str:
    return f"proxy loss {outcome.proxy_loss:.10g}" if isinstance(outcome, Score) else f"failed ({outcome})"
