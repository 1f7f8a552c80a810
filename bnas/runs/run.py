"""A folder -> one run: what was asked, checkpoints, tables, the best network; the only place that names its files."""

import os
import platform
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd
from torch import Tensor

from bnas.errors import RunError
from bnas.masking import without_secrets
from bnas.runs.asked import Asked, trains_a_model
from bnas.runs.checkpoint import Checkpoint, newest_checkpoint, write_checkpoint
from bnas.runs.contents import SPACE, TARGETS
from bnas.runs.documents import Rows, json_of, json_text, table_of, table_text
from bnas.runs.files import previous_of, remove, set_aside, sweep
from bnas.runs.kept_network import KeptNetwork
from bnas.runs.lock import Access
from bnas.runs.log import RunLog
from bnas.runs.names import check_folder, checkpoint_parts, table_file
from bnas.runs.opening import take_up
from bnas.runs.saved_network import ANEW
from bnas.runs.settings import environment, read_asked, run_id
from bnas.runs.sums import Sums
from bnas.space.space import SearchSpace
from bnas.spec import parse, parse_yaml

_STUDY, _LEDGER, _RANKING = "study.db", "ledger.json", "ranking.json"
_BEST, _TEACHER, _FIGURES = "best", "teacher", "figures"
_REPORT, _WEIGHTS = "report.html", "weights.safetensors"
_BESIDE_STUDY = ("-journal", "-wal", "-shm")  # files that SQLite keeps beside the study


def best_in(folder: Path) -> Path:
    """Return where the best network lies in a run folder; another folder is taken to be one that holds a network."""
    best = folder / _BEST
    return best if best.is_dir() else folder


class Run:
    """One run folder, opened to be driven (`open`) or looked at (`read`).

    Attributes:
        path: the folder.
        best: the best network that was found, or the one that was trained.
        teacher: the network that teaches the others.
    """

    def __init__(self, path: Path, *, asked: Asked, readonly: bool) -> None:
        self.path = path
        self._asked = asked
        self._access = Access(path, readonly=readonly)
        self._sums = Sums(self._access)
        self._log = RunLog(self._access, self._sums)
        self.best = KeptNetwork(_BEST, self._access, self._sums, self._log)
        self.teacher = KeptNetwork(_TEACHER, self._access, self._sums, self._log)

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
        check_folder(run.path)
        run._asked = take_up(run._access, run._sums, run._log, run._asked, mutable)
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
        return cls(path, asked=read_asked(path, Sums.of(path)), readonly=True)

    @property
    def config(self) -> dict[str, Any]:
        """What was asked, resolved; passwords are masked."""
        return self._asked.config

    @property
    def space_yaml(self) -> str:
        """The text of the space; empty where a given model is trained."""
        return self._asked.space_yaml

    @cached_property
    def space(self) -> SearchSpace:
        """The space that is searched, with the settings that were asked for.

        Raises:
            RunError: one given network was trained here.
        """
        if self.is_training:
            raise RunError(f"{self.path}: one given network was trained here; give the run folder of a search")
        source = str(self.file(SPACE))
        return parse(SearchSpace, parse_yaml(self.space_yaml, source=source), source=source)

    @property
    def is_training(self) -> bool:
        """Whether one given network is trained in this run; else a space is searched."""
        return trains_a_model(self.config)

    @property
    def has_targets(self) -> bool:
        """Whether several budgets are searched under, each in a run of its own below this one."""
        return bool(self.config.get("targets"))

    @property
    def storage_url(self) -> str:
        """The URL of the run's own Optuna storage."""
        for ending in _BESIDE_STUDY:
            self._access.inside(f"{_STUDY}{ending}")  # a link would lead SQLite, too
        return f"sqlite:///{self._access.inside(_STUDY).absolute()}"

    @property
    def id(self) -> str:
        """What no other run has, wherever its folder lies.

        Raises:
            RunError: environment.json, which holds it, is missing or damaged.
        """
        return run_id(self.path, self._sums)

    @property
    def name(self) -> str:
        """The name of its folder, also where that is the current one."""
        return os.path.basename(os.path.abspath(self.path))

    @property
    def label(self) -> str:
        """A name for the run where many share one database: of its folder, and its id.

        Raises:
            RunError: as `id`.
        """
        return f"{self.name}-{self.id}"

    def set_study_aside(self) -> Path:
        """Give the run's own storage, which is damaged, another name, and return it.

        Raises:
            RunError: it cannot be renamed.
        """
        # A journal left beside a fresh file would be played into it, so it goes along.
        return set_aside(self._access.target(_STUDY), companions=_BESIDE_STUDY)

    def file(self, name: str) -> Path:
        """Return the path of a file of the run, for a message about it."""
        return self._access.inside(name)

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
        with self._access.driving(since=self._log.began):
            sweep(self.path, shared=(self.figures, self.report, self.file(TARGETS)))
            damage = self._log.mend()
            self.log(
                "driver",
                host=platform.node(),
                pid=os.getpid(),
                environment=environment(),
                run=self.id,
            )
            for said in damage:
                self.warn(said)
            try:
                yield
            finally:
                with suppress(RunError):  # another has the lock, or the disk is full: there is an error to tell already
                    self._log.close()

    @property
    def has_lost_events(self) -> bool:
        """Whether the log lacked lines when the lock was taken: what they held is to be found again."""
        return self._log.has_lost_events

    def check_driver(self) -> None:
        """Check that this process, where it has the lock, has it still; for what is written outside the folder.

        Raises:
            RunError: another driver has taken over.
        """
        self._access.check()

    def log(self, event: str, **fields: Any) -> None:
        """Append one event, with the time in UTC, to the log.

        Raises:
            RunError: the log cannot be written.
        """
        self._log.append(event, fields)

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the log, oldest first; what is torn or damaged is left out with a warning."""
        return self._log.events()

    def save_checkpoint(self, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, and keep the sound one before it.

        Args:
            name: what it belongs to, as `supernet` or `retrain/ID`.
            tensors: weights and optimizer tensors by flat name, of any device and dtype.
            state: JSON-able, with text as keys; floats come back exactly, tuples as lists.
        Raises:
            RunError: the name is not allowed, or it cannot be written; the one before it is intact.
        """
        path = self._access.target(*_place(name))
        write_checkpoint(path, tensors=tensors, state=state, check=self._access.check)

    def load_checkpoint(self, name: str) -> Checkpoint | None:
        """Return the newest sound checkpoint, None where none was written; a damaged one is named in the log.

        Raises:
            RunError: the name is not allowed, or each checkpoint that is there is damaged.
        """
        return newest_checkpoint(self._access.inside(*_place(name)), warn=self.warn)

    def discard_checkpoint(self, name: str) -> None:
        """Remove a checkpoint and the one before it.

        Raises:
            RunError: the name is not allowed, or they cannot be removed.
        """
        path = self._access.target(*_place(name))
        # The older one first: killed in between, the newest is still what is found.
        remove(previous_of(path))
        remove(path)
        with suppress(OSError):  # as soon as a folder is not empty
            for folder in path.relative_to(self.path).parents[:-1]:
                (self.path / folder).rmdir()

    def write_table(self, name: str, rows: Rows) -> None:
        """Write a table such as `candidates`, `pareto` or `retrained`; equal rows give equal bytes.

        Raises:
            RunError: the name is not plain, or it cannot be written; the table before it is intact.
        """
        self._sums.write(table_file(name), table_text(rows))

    def has_table(self, name: str) -> bool:
        """Whether the table was written; it may be damaged, or gone since."""
        return self._sums.has(table_file(name))

    def read_table(self, name: str) -> pd.DataFrame:
        """Return a table; its floats are exactly those that were written.

        Raises:
            RunError: it is missing, or not as it was written.
        """
        return table_of(self._sums.read(table_file(name), hint=ANEW), self._access.inside(table_file(name)))

    def write_ledger(self, ledger: dict[str, Any]) -> None:
        """Write how many candidates had which fate.

        Raises:
            RunError: it cannot be written; the ledger before it is intact.
        """
        self._sums.write(_LEDGER, json_text(ledger))

    def read_ledger(self) -> dict[str, Any]:
        """Return how many candidates had which fate.

        Raises:
            RunError: it is missing or damaged.
        """
        return json_of(self._sums.read(_LEDGER, hint=ANEW), self._access.inside(_LEDGER), hint=ANEW)

    def write_ranking(self, ranking: dict[str, Any]) -> None:
        """Write how far the proxy can be trusted.

        Raises:
            RunError: it cannot be written; what was there is intact.
        """
        self._sums.write(_RANKING, json_text(ranking))

    def read_ranking(self) -> dict[str, Any]:
        """Return how far the proxy can be trusted.

        Raises:
            RunError: it is missing or damaged.
        """
        hint = "run bnas rank-check on this run folder"
        return json_of(self._sums.read(_RANKING, hint=hint), self._access.inside(_RANKING), hint=hint)

    def warn(self, message: str) -> None:
        """Warn, and where this run may be written, keep that in the log."""
        self._log.warn(message)


def _place(name: str) -> tuple[str, ...]:
    return (*checkpoint_parts(name, taken=(_BEST, _TEACHER, _FIGURES)), _WEIGHTS)
