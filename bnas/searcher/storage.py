"""A URL and a name -> a study in an Optuna storage, which waits for a database that went away."""

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError, SQLAlchemyError

from bnas.errors import RunError
from bnas.progress import Progress
from bnas.runs import mask_secrets
from bnas.searcher.candidate import Candidate, Outcome, Score

DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
METRIC_NAMES = ["proxy accuracy", "ops"]
PATIENCE_SECONDS = 3600.0  # how long a database that went away is waited for
RETRY_SECONDS = 1.0
_OPENINGS = 5  # tries: two drivers that fill an empty database get into each other's way
_LOCKED_SECONDS = 60.0  # how long SQLite waits for another process that reads the file


class DamagedStorage(RunError):
    """A file that should hold a study is no sound database."""


class StoredStudy:
    """The outcomes of one search in an Optuna storage, each there once, as optuna-dashboard shows them."""

    def __init__(self, url: str | None, name: str) -> None:
        """Open the study, or make it.

        Args:
            url: of an Optuna storage; None keeps the study in memory alone.
        Raises:
            DamagedStorage: the file is no sound database.
            RunError: it cannot be used; says why, without the password.
        """
        if url is not None:
            _check(url)
        self._url = url
        with _named(url):
            self._study = _opened(url, name)
            self.outcomes: Mapping[str, Outcome] = self._stored()
        self._ids = set(self.outcomes)

    def add(
        self,
        candidate: Candidate,
        outcome: Outcome,
        *,
        params: dict[str, int],
        distributions: dict[str, BaseDistribution],
        progress: Progress,
    ) -> None:
        """Store what was paid for, unless it is stored; a server that went away is waited for.

        Args:
            params, distributions: of the Optuna trial.
            progress: is told of the waiting.
        Raises:
            RunError: it cannot be stored.
        """
        if candidate.id in self._ids:
            return
        # Few attributes: the storage takes a query or two for each.
        attributes: dict[str, Any] = {"id": candidate.id, "cost": candidate.cost.as_dict()}
        attributes |= {"proxy_loss": outcome.proxy_loss} if isinstance(outcome, Score) else {"why": outcome}
        trial = create_trial(
            state=TrialState.COMPLETE if isinstance(outcome, Score) else TrialState.FAIL,
            params=params,
            distributions=distributions,
            values=[outcome.proxy_accuracy, candidate.cost.ops] if isinstance(outcome, Score) else None,
            user_attrs=attributes,
        )
        with _named(self._url):
            self._add(trial, progress)
        self._ids.add(candidate.id)

    def _add(self, trial: FrozenTrial, progress: Progress) -> None:
        deadline, waited = time.monotonic() + PATIENCE_SECONDS, False
        while True:
            try:
                # The server may have gone after it had stored the trial and before it said so.
                if not (waited and trial.user_attrs["id"] in self._stored()):
                    self._study.add_trial(trial)
                return
            except (StorageInternalError, SQLAlchemyError) as problem:
                if not _may_pass(self._url, problem) or time.monotonic() > deadline:
                    raise
            waited = True
            progress("waiting for the storage", 0, 1, mask_secrets(self._url or ""))
            time.sleep(RETRY_SECONDS)

    def _stored(self) -> dict[str, Outcome]:
        trials = self._study.get_trials(deepcopy=False)
        return {trial.user_attrs["id"]: _outcome(trial) for trial in trials if "id" in trial.user_attrs}


def _opened(url: str | None, name: str) -> Study:
    for remaining in reversed(range(_OPENINGS)):
        try:
            study = optuna.create_study(
                storage=_storage(url) if url else None, study_name=name, directions=DIRECTIONS, load_if_exists=True
            )
            break
        except SQLAlchemyError as problem:
            if _is_file(url) or not remaining or isinstance(problem, OperationalError):
                raise
            time.sleep(RETRY_SECONDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # names that optuna-dashboard shows
        study.set_metric_names(METRIC_NAMES)
    return study


def _storage(url: str) -> RDBStorage:
    if not _is_file(url):
        # Two connections at most: many searches may share one server. A connection is tried before it is used.
        return RDBStorage(url, engine_kwargs={"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True})
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _LOCKED_SECONDS}})
    with storage.engine.connect() as connection:
        said = connection.execute(text("PRAGMA quick_check(1)")).scalar()
    if said != "ok":
        raise DatabaseError("PRAGMA quick_check", None, ValueError(said))
    return storage


def _outcome(trial: FrozenTrial) -> Outcome:
    if trial.state != TrialState.COMPLETE:
        return str(trial.user_attrs.get("why", "failed"))
    return Score(trial.values[0], trial.user_attrs["proxy_loss"])


def _may_pass(url: str | None, problem: Exception) -> bool:
    """Whether it is a server that is away, which may come back; a full disk or a damaged file does not mend itself."""
    cause = problem.__cause__ if isinstance(problem, StorageInternalError) else problem
    return isinstance(cause, OperationalError | InterfaceError) and not _is_file(url)


def _is_file(url: str | None) -> bool:
    return url is not None and make_url(url).get_backend_name() == "sqlite"


@contextmanager
def _named(url: str | None) -> Iterator[None]:
    """Turn what a database says into one line that names the storage, without its password."""
    shown = mask_secrets(url or "the study in memory")
    try:
        yield
    except ImportError as problem:
        raise RunError(
            f"{shown}: its driver is not installed; for postgresql+psycopg:// run: pip install 'bnas[postgres]'"
        ) from problem
    except (StorageInternalError, SQLAlchemyError, OSError) as problem:
        cause = (isinstance(problem, StorageInternalError) and problem.__cause__) or problem
        said = getattr(cause, "orig", None) or cause  # what the database itself says, not what is wrapped around it
        kind = DamagedStorage if type(cause) is DatabaseError and _is_file(url) else RunError
        raise kind(
            f"{shown}: cannot be used: {mask_secrets(str(said).splitlines()[0])}; "
            "what was scored before is kept: mend it and run the same command"
        ) from problem


def _check(url: str) -> None:
    """Refuse what is no URL of a database; of one with a raw @ in its password, a part would be taken for the host."""
    try:
        backend = make_url(url).get_backend_name()
        is_clear = backend == "sqlite" or url.partition("?")[0].count("@") <= 1
    except (SQLAlchemyError, ValueError):
        is_clear = False
    if not is_clear:
        raise RunError(
            f"storage {mask_secrets(url)}: must be the URL of a database, as in "
            "postgresql+psycopg://user:password@host/name, with @ : / in user and password written %40 %3A %2F"
        )
