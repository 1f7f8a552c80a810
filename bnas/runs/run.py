"""A folder -> one run: what was asked, checkpoints, tables, the best network; the only place that names its files."""

import logging
import os
import platform
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pandas as pd
from torch import Tensor

from bnas.errors import RunError
from bnas.runs.asked import (
    BEFORE_CONFIG,
    Asked,
    environment,
    holds_run,
    is_free,
    read_asked,
    run_label,
    spelled,
    trains_a_model,
    write_asked,
    write_config,
)
from bnas.runs.checkpoint import Checkpoint, newest_checkpoint, write_checkpoint
from bnas.runs.documents import Rows, json_text, read_json, read_table, write_table, write_text
from bnas.runs.events import append_event, driver_began, read_events
from bnas.runs.files import cannot_write, previous_of, remove, set_aside, sweep
from bnas.runs.lock import LOCK, Access
from bnas.runs.masking import without_secrets
from bnas.runs.names import check_empty, check_folder_name, checkpoint_parts, table_file
from bnas.runs.saved_network import ANEW, SavedNetwork, read_network, write_network

_LOG, _STUDY, _LEDGER, _RANKING = "log.jsonl", "study.db", "ledger.json", "ranking.json"
_BEST, _FIGURES, _REPORT, _WEIGHTS = "best", "figures", "report.html", "weights.safetensors"
_logger = logging.getLogger(__name__)


def best_in(folder: Path) -> Path:
    """Return where the best network lies in a run folder; another folder is taken to be one that holds a network."""
    best = folder / _BEST
    return best if best.is_dir() else folder


class Run:
    """One run folder, opened to be driven (`open`) or looked at (`read`)."""

    def __init__(self, path: Path, *, asked: Asked, readonly: bool) -> None:
        self.path = path
        self._asked = asked
        self._access = Access(path, readonly=readonly)

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
        if holds_run(run.path):
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
        if not os.path.isdir(path):
            raise RunError(f"{path}: is no folder; give the folder of a run, as in runs/NAME")
        return cls(path, asked=read_asked(path), readonly=True)

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
        return trains_a_model(self.config)

    @property
    def storage_url(self) -> str:
        """The URL of the run's own Optuna storage."""
        return f"sqlite:///{self._access.inside(_STUDY).absolute()}"

    @property
    def label(self) -> str:
        """A name for the run where many share one database: of its folder, and an id that no other run has.

        Raises:
            RunError: environment.json, which holds the id, is missing or damaged.
        """
        return run_label(self.path)

    def set_study_aside(self) -> Path:
        """Give the run's own storage, which is damaged, another name, and return it.

        Raises:
            RunError: it cannot be renamed.
        """
        # A journal left beside a fresh file would be played into it, so it goes along.
        return set_aside(self._access.target(_STUDY), companions=("-journal", "-wal", "-shm"))

    @property
    def best_folder(self) -> Path:
        """The folder of the best network; read it with `read_best`, or `bnas.load`."""
        return self._access.inside(_BEST)

    @property
    def figures(self) -> Path:
        """The folder for figures; write them with `replacing`."""
        return self._access.inside(_FIGURES)

    @property
    def report(self) -> Path:
        """The page that reports on the run; write it with `replacing`."""
        return self._access.inside(_REPORT)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one driver of this run while the block runs; every write checks that this is still so.

        Raises:
            RunError: another driver is at work; says where and since when.
        """
        with self._access.driving(since=self._begin):
            sweep(self.path, spare=(self.figures, self.report))
            self.log("driver", host=platform.node(), pid=os.getpid(), environment=environment())
            yield

    def log(self, event: str, **fields: Any) -> None:
        """Append one event, with the time in UTC, to the log.

        Raises:
            RunError: the log cannot be written.
        """
        append_event(self._access.target(_LOG), event=event, fields=fields)

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the log, oldest first; a line torn by a kill is skipped with a warning."""
        return read_events(self._access.inside(_LOG))

    def save_checkpoint(self, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, and keep the sound one before it.

        Args:
            name: what it belongs to, as `supernet` or `retrain/ID`.
            tensors: weights and optimizer tensors by flat name, of any device and dtype.
            state: JSON-able, with text as keys; floats come back exactly, tuples as lists.
        Raises:
            RunError: the name is not allowed, or it cannot be written; the one before it is intact.
        """
        write_checkpoint(self._access.target(*_place(name)), tensors=tensors, state=state)

    def load_checkpoint(self, name: str) -> Checkpoint | None:
        """Return the newest sound checkpoint, None where none was written; a damaged one is named in the log.

        Raises:
            RunError: the name is not allowed, or each checkpoint that is there is damaged.
        """
        return newest_checkpoint(self._access.inside(*_place(name)), warn=self._warn)

    def discard_checkpoint(self, name: str) -> None:
        """Remove a checkpoint and the one before it.

        Raises:
            RunError: the name is not allowed, or they cannot be removed.
        """
        path = self._access.target(*_place(name))
        # The older one first: killed in between, the newest is still what is found.
        remove(previous_of(path))
        remove(path)

    def write_table(self, name: str, rows: Rows) -> None:
        """Write a table such as `candidates`, `pareto` or `retrained`; equal rows give equal bytes.

        Raises:
            RunError: the name is not plain, or it cannot be written; the table before it is intact.
        """
        write_table(self._access.target(table_file(name)), rows=rows)

    def has_table(self, name: str) -> bool:
        """Whether the table was written."""
        return self._access.inside(table_file(name)).exists()

    def read_table(self, name: str) -> pd.DataFrame:
        """Return a table; its floats are exactly those that were written.

        Raises:
            RunError: it is missing or is no table.
        """
        return read_table(self._access.inside(table_file(name)))

    def write_ledger(self, ledger: dict[str, Any]) -> None:
        """Write how many candidates had which fate.

        Raises:
            RunError: it cannot be written; the ledger before it is intact.
        """
        write_text(self._access.target(_LEDGER), text=json_text(ledger))

    def read_ledger(self) -> dict[str, Any]:
        """Return how many candidates had which fate.

        Raises:
            RunError: it is missing or damaged.
        """
        return read_json(self._access.inside(_LEDGER), hint=ANEW)

    def write_ranking(self, ranking: dict[str, Any]) -> None:
        """Write how far the proxy can be trusted.

        Raises:
            RunError: it cannot be written; what was there is intact.
        """
        write_text(self._access.target(_RANKING), text=json_text(ranking))

    def read_ranking(self) -> dict[str, Any]:
        """Return how far the proxy can be trusted.

        Raises:
            RunError: it is missing or damaged.
        """
        return read_json(self._access.inside(_RANKING), hint="run bnas rank-check on this run folder")

    def write_best(self, architecture_yaml: str, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> None:
        """Write the best network, its three files together or not at all.

        Args:
            architecture_yaml: its description.
            tensors: its weights by name.
            manifest: what is known of it; the checksums of the other two files are added.
        Raises:
            RunError: it cannot be written; the best network before it is intact.
        """
        place = self._access.target(_BEST)
        write_network(place, architecture_yaml=architecture_yaml, tensors=tensors, manifest=manifest)

    def has_best(self) -> bool:
        """Whether a best network is there and sound; one that is damaged is named in the log."""
        if not self.best_folder.exists():
            return False
        try:
            self.read_best()
        except RunError as problem:
            self._warn(str(problem))
            return False
        return True

    def read_best(self) -> SavedNetwork:
        """Return description, weights and manifest of the best network.

        Raises:
            RunError: there is none yet, or one of its files is not the one that was written.
        """
        return read_network(self.best_folder)

    def _create(self, mutable: Collection[str]) -> None:
        check_empty(self.path, known=(*BEFORE_CONFIG, LOCK))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise cannot_write(self.path, problem) from problem
        with self._access.driving(since=self._begin):
            if not holds_run(self.path):
                write_asked(self._access.target(), self._asked)
                return
        self._resume(mutable)  # another driver was faster

    def _resume(self, mutable: Collection[str]) -> None:
        stored = read_asked(self.path)
        found = stored.differences(self._asked)
        fixed = {key: pair for key, pair in found.items() if not is_free(key, mutable)}
        if fixed:
            raise RunError(
                f"{self.path}: holds another run ({spelled(fixed)}); ask the same again, or give another --out"
            )
        self._asked = Asked(self.config, stored.space_yaml)
        if found:
            with self._access.driving(since=self._begin):
                write_config(self._access.target(), self.config)
                self.log("config", changed=spelled(found))

    def _begin(self, pid: int) -> str | None:
        return driver_began(self.events(), pid)

    def _warn(self, message: str) -> None:
        _logger.warning("%s", message)
        if not self._access.readonly:
            self.log("warning", message=message)


def _place(name: str) -> tuple[str, ...]:
    return (*checkpoint_parts(name, taken=(_BEST, _FIGURES)), _WEIGHTS)
