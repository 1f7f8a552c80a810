"""The URL of a storage -> a database with Optuna's tables, however many open it at once; what it says, in one line."""

import os
import random
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from bnas.errors import RunError
from bnas.runs.temporary import new_file
from bnas.searcher.storage_url import file_of, is_file, shown, without_secrets_of

DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
METRIC_NAMES = ["proxy accuracy", "ops"]
RETRY_SECONDS = 1.0
_OPENINGS = 5  # tries: drivers that open a database at once get into each other's way
_LOCKED_SECONDS = 60.0  # how long SQLite waits for another process that writes the file
_IN_THE_WAY = ("locked", "busy", "already exists")  # what SQLite says of what another did meanwhile


class DamagedStorage(RunError):
    """A file that should hold a study is no sound database, or holds other outcomes than were written."""


class _Unsound(Exception):
    """What a database holds is not what was written."""


@contextmanager
def reading() -> Iterator[None]:
    """Take whatever goes wrong in the block, beside what a database itself says, for damage of what it holds.

    Raises:
        _Unsound: for `naming` to name.
    """
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, AssertionError, OverflowError) as problem:
        raise _Unsound(f"what it holds is damaged: {problem!r}") from problem


def opened(url: str, name: str) -> tuple[RDBStorage, int]:
    """Return a storage, and the number of the study of this name in it, which is made where it is not there.

    Raises:
        SQLAlchemyError, StorageInternalError, OSError: the database cannot be used; see `naming`.
    """
    file = file_of(url)
    if file is not None and not file.exists():
        _make(file)
    for remaining in reversed(range(_OPENINGS)):
        try:
            storage = _connected(url)
            return storage, _study(storage, name)
        except (SQLAlchemyError, StorageInternalError) as problem:
            if not (remaining and _is_in_the_way(url, _cause(problem))):
                raise
        time.sleep(RETRY_SECONDS * random.uniform(0.1, 1.0))
    raise AssertionError  # the last try returns or raises


def _make(file: Path) -> None:
    """Put a database with its tables into place, in one step: processes that fill one file at once spoil each other's.

    Where another was faster, its database stays.
    """
    with new_file(file) as temporary:
        storage = RDBStorage(f"sqlite:///{temporary}")
        storage.remove_session()
        storage.engine.dispose()
        with suppress(FileExistsError):
            os.link(temporary, file)


def _connected(url: str) -> RDBStorage:
    if not is_file(url):
        # Two connections at most: many searches may share one server. A connection is tried before it is used.
        return RDBStorage(url, engine_kwargs={"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True})
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _LOCKED_SECONDS}})
    with storage.engine.connect() as connection:
        said = connection.execute(text("PRAGMA quick_check(1)")).scalar()
    if said != "ok":
        raise DatabaseError("PRAGMA quick_check", None, ValueError(said))
    return storage


def _study(storage: RDBStorage, name: str) -> int:
    study = optuna.create_study(storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True)
    if study.metric_names != METRIC_NAMES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # names that optuna-dashboard shows
            study.set_metric_names(METRIC_NAMES)
    return storage.get_study_id_from_name(name)


def _is_in_the_way(url: str, problem: BaseException) -> bool:
    """Whether it is something that another process did at this moment, and that a second look finds done."""
    if is_file(url):
        said = str(problem).lower()
        return isinstance(problem, IntegrityError) or any(word in said for word in _IN_THE_WAY)
    return isinstance(problem, SQLAlchemyError) and not isinstance(problem, OperationalError)


def may_pass(url: str, problem: Exception) -> bool:
    """Whether it is a server that is away, which may come back; a full disk or a damaged file does not mend itself."""
    return isinstance(_cause(problem), OperationalError | InterfaceError) and not is_file(url)


@contextmanager
def naming(url: str) -> Iterator[None]:
    """Turn what a database says into one line that names the storage, without its password.

    Raises:
        DamagedStorage: a file is no sound database.
        RunError: the database cannot be used.
    """
    try:
        yield
    except ImportError as problem:
        raise RunError(
            f"{shown(url)}: its driver is not installed; for postgresql+psycopg:// run: pip install 'bnas[postgres]'"
        ) from problem
    except (StorageInternalError, SQLAlchemyError, OSError, _Unsound) as problem:
        cause = _cause(problem)
        said = getattr(cause, "orig", None) or cause  # what the database itself says, not what is wrapped around it
        is_damage = type(cause) in (DatabaseError, _Unsound)
        kind = DamagedStorage if is_damage and is_file(url) else RunError
        line = without_secrets_of(url, (str(said).splitlines() or [type(said).__name__])[0])
        raise kind(
            f"{shown(url)}: cannot be used: {line}; what was scored before is kept: mend it and run the same command"
        ) from problem


def _cause(problem: BaseException) -> BaseException:
    return (isinstance(problem, StorageInternalError) and problem.__cause__) or problem
