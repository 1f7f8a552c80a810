"""A folder -> one run: what was asked, checkpoints, tables, the best network; the only place that names its files."""

import logging
import os
import platform
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pandas as pd
import yaml
from filelock import SoftFileLease
from torch import Tensor

from bnas.errors import RunError
from bnas.runs import best, checkpoint, documents, events, tables
from bnas.runs.asked import Asked, is_free, spelled
from bnas.runs.checkpoint import Checkpoint
from bnas.runs.environment import environment
from bnas.runs.files import cannot_write, previous_of, read_text, remove, set_aside, sweep
from bnas.runs.lock import check_held, driving
from bnas.runs.masking import without_secrets
from bnas.runs.names import check_empty, check_folder_name, checkpoint_parts, inside, table_file

_CONFIG, _SPACE, _ENVIRONMENT = "config.yaml", "space.yaml", "environment.json"
_LOG, _LOCK, _STUDY, _LEDGER = "log.jsonl", "driver.lock", "study.db", "ledger.json"
_RANKING = "ranking.json"
_BEST, _FIGURES, _REPORT, _WEIGHTS = "best", "figures", "report.html", "weights.safetensors"
_ID = "run_id"  # key of environment.json
_RESTORE = "put it back, or give another --out"
_SEARCH_AGAIN = "run the search again in this run folder, so that it ends"
_logger = logging.getLogger(__name__)


class Run:
    """One run folder, opened to be driven (`open`) or looked at (`read`)."""

    def __init__(self, path: Path, *, asked: Asked, readonly: bool) -> None:
        self.path = path
        self._asked = asked
        self._readonly = readonly
        self._lease: SoftFileLease | None = None

    @classmethod
    def open(
        cls, path: str | Path, *, config: dict[str, Any], space_yaml: str = "", mutable: Collection[str] = ()
    ) -> Self:
        """Create the run folder, or resume the run in it.

        Args:
            path: the folder.
            config: what was asked, resolved; JSON-able, without timings. Passwords in it are not written.
            space_yaml: the text of the space; nothing for a run that searches none.
            mutable: keys of config, nested ones as in `train.workers`, that a resumed run may change.
        Raises:
            RunError: the folder holds another run or something else, or cannot be written.
        """
        run = cls(Path(path), asked=Asked(without_secrets(config), space_yaml), readonly=False)
        check_folder_name(run.path)
        if run._holds_a_run():
            run._resume(mutable)
        else:
            run._create(mutable)
        return run

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Open an existing run to look at it; nothing can be written through this object.

        Raises:
            RunError: the folder or one of the files that make it a run is missing or damaged; says which.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunError(f"{path}: is no folder; give the folder of a run, as in runs/NAME")
        return cls(path, asked=_stored(path), readonly=True)

    @property
    def config(self) -> dict[str, Any]:
        """What was asked, resolved; passwords are masked."""
        return self._asked.config

    @property
    def space_yaml(self) -> str:
        """The text of the space; empty where a given model is trained."""
        return self._asked.space_yaml

    @property
    def is_training(self) -> bool:
        """Whether one given network is trained in this run; else a space is searched."""
        return _trains(self.config)

    @property
    def storage_url(self) -> str:
        """The URL of the run's own Optuna storage."""
        return f"sqlite:///{self._inside(_STUDY).absolute()}"

    @property
    def label(self) -> str:
        """A name for the run where many share one database: of its folder, and an id that no other run has.

        Raises:
            RunError: environment.json, which holds the id, is missing or damaged.
        """
        known = documents.read_json(self._inside(_ENVIRONMENT), hint=_RESTORE)
        return f"{self.path.absolute().name}-{known.get(_ID, '0')}"

    def set_study_aside(self) -> Path:
        """Give the run's own storage, which is damaged, another name, and return it.

        Raises:
            RunError: it cannot be renamed.
        """
        # A journal left beside a fresh file would be played into it, so it goes along.
        return set_aside(self._target(_STUDY), companions=("-journal", "-wal", "-shm"))

    @property
    def figures(self) -> Path:
        """The folder for figures; write them with `replacing`."""
        return self._inside(_FIGURES)

    @property
    def report(self) -> Path:
        """The page that reports on the run; write it with `replacing`."""
        return self._inside(_REPORT)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one driver of this run while the block runs; every write checks that this is still so.

        Raises:
            RunError: another driver is at work; says where and since when.
        """
        with self._driving():
            sweep(self.path, spare=(self.figures, self.report))
            self.log("driver", host=platform.node(), pid=os.getpid(), environment=environment())
            yield

    def log(self, event: str, **fields: Any) -> None:
        """Append one event, with the time in UTC, to the log.

        Raises:
            RunError: the log cannot be written.
        """
        events.append(self._target(_LOG), event=event, fields=fields)

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the log, oldest first; a line torn by a kill is skipped with a warning."""
        return events.read(self._inside(_LOG))

    def save_checkpoint(self, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, and keep the sound one before it.

        Args:
            name: what it belongs to, as `supernet` or `retrain/ID`.
            tensors: weights and optimizer tensors by flat name, of any device and dtype.
            state: JSON-able, with text as keys; floats come back exactly, tuples as lists.
        Raises:
            RunError: the name is not allowed, or it cannot be written; the one before it is intact.
        """
        checkpoint.write(self._target(*_place(name)), tensors=tensors, state=state)

    def load_checkpoint(self, name: str) -> Checkpoint | None:
        """Return the newest sound checkpoint, None where none was written; a damaged one is named in the log.

        Raises:
            RunError: the name is not allowed, or each checkpoint that is there is damaged.
        """
        return checkpoint.newest(self._inside(*_place(name)), warn=self._warn)

    def discard_checkpoint(self, name: str) -> None:
        """Remove a checkpoint and the one before it.

        Raises:
            RunError: the name is not allowed, or they cannot be removed.
        """
        path = self._target(*_place(name))
        # The older one first: killed in between, the newest is still what is found.
        remove(previous_of(path))
        remove(path)

    def write_table(self, name: str, rows: tables.Rows) -> None:
        """Write a table such as `candidates`, `pareto` or `retrained`; equal rows give equal bytes.

        Raises:
            RunError: the name is not plain, or it cannot be written; the table before it is intact.
        """
        tables.write(self._target(table_file(name)), rows=rows)

    def has_table(self, name: str) -> bool:
        """Whether the table was written."""
        return self._inside(table_file(name)).exists()

    def read_table(self, name: str) -> pd.DataFrame:
        """Return a table; its floats are exactly those that were written.

        Raises:
            RunError: it is missing or is no table.
        """
        return tables.read(self._inside(table_file(name)))

    def write_ledger(self, ledger: dict[str, Any]) -> None:
        """Write how many candidates had which fate.

        Raises:
            RunError: it cannot be written; the ledger before it is intact.
        """
        documents.write_text(self._target(_LEDGER), text=documents.json_text(ledger))

    def read_ledger(self) -> dict[str, Any]:
        """Return how many candidates had which fate.

        Raises:
            RunError: it is missing or damaged.
        """
        return documents.read_json(self._inside(_LEDGER), hint=_SEARCH_AGAIN)

    def write_ranking(self, ranking: dict[str, Any]) -> None:
        """Write how far the proxy can be trusted.

        Raises:
            RunError: it cannot be written; what was there is intact.
        """
        documents.write_text(self._target(_RANKING), text=documents.json_text(ranking))

    def read_ranking(self) -> dict[str, Any]:
        """Return how far the proxy can be trusted.

        Raises:
            RunError: it is missing or damaged.
        """
        return documents.read_json(self._inside(_RANKING), hint="run bnas rank-check on this run folder")

    def write_best(self, architecture_yaml: str, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> None:
        """Write the best network, its three files together or not at all.

        Args:
            architecture_yaml: its description.
            tensors: its weights by name.
            manifest: what is known of it; `weights_sha256` is added.
        Raises:
            RunError: it cannot be written; the best network before it is intact.
        """
        folder = self._target(_BEST)
        best.write(folder, architecture_yaml=architecture_yaml, tensors=tensors, manifest=manifest)

    def has_best(self) -> bool:
        """Whether a best network was written."""
        return best.is_there(self._inside(_BEST))

    def read_best(self) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
        """Return description, weights and manifest of the best network.

        Raises:
            RunError: there is none yet, or its weights are not those that were written.
        """
        return best.read(self._inside(_BEST))

    def _holds_a_run(self) -> bool:
        return (self.path / _CONFIG).exists()

    def _create(self, mutable: Collection[str]) -> None:
        check_empty(self.path, known=(_SPACE, _ENVIRONMENT, _LOCK))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise cannot_write(self.path, problem) from problem
        with self._driving():
            if not self._holds_a_run():
                if self.space_yaml:
                    documents.write_text(self._target(_SPACE), text=self.space_yaml)
                here = environment() | {_ID: secrets.token_hex(4)}
                documents.write_text(self._target(_ENVIRONMENT), text=documents.json_text(here))
                self._write_config()  # last, for it makes the folder a run
                return
        self._resume(mutable)  # another driver was faster

    def _resume(self, mutable: Collection[str]) -> None:
        stored = _stored(self.path)
        found = stored.differences(self._asked)
        fixed = {key: pair for key, pair in found.items() if not is_free(key, mutable)}
        if fixed:
            raise RunError(
                f"{self.path}: holds another run ({spelled(fixed)}); ask the same again, or give another --out"
            )
        self._asked = Asked(self.config, stored.space_yaml)
        if found:
            with self._driving():
                self._write_config()
                self.log("config", changed=spelled(found))

    def _write_config(self) -> None:
        text = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)
        documents.write_text(self._target(_CONFIG), text=text)

    @contextmanager
    def _driving(self) -> Iterator[None]:
        with driving(self._target(_LOCK), since=self._began) as lease:
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    def _began(self, pid: int) -> str | None:
        for event in reversed(self.events()):
            if event.get("event") == "driver" and event.get("pid") == pid:
                return str(event["time"])
        return None

    def _warn(self, message: str) -> None:
        _logger.warning("%s", message)
        if not self._readonly:
            self.log("warning", message=message)

    def _inside(self, *parts: str) -> Path:
        return inside(self.path, *parts)

    def _target(self, *parts: str) -> Path:
        if self._readonly:
            raise RunError(f"{self.path.joinpath(*parts)}: this run was opened to be read; open it with Run.open")
        if self._lease is not None:
            check_held(self._lease)
        return inside(self.path, *parts)


def _stored(path: Path) -> Asked:
    config = documents.read_yaml(path / _CONFIG, hint=_RESTORE)
    return Asked(config, "" if _trains(config) else read_text(path / _SPACE, hint=_RESTORE))


def _trains(config: dict[str, Any]) -> bool:
    return "model" in config


def _place(name: str) -> tuple[str, ...]:
    return (*checkpoint_parts(name, taken=(_BEST, _FIGURES)), _WEIGHTS)
