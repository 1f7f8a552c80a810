"""Find, retrain and hand over the best network of a space under a budget."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from torch import nn

from bnas.api.best import write_best
from bnas.api.request import SearchRequest, load_matching, resolve
from bnas.arch import Architecture
from bnas.data import DataSet
from bnas.exporters import load
from bnas.feasible import sample_within
from bnas.network import build
from bnas.progress import Progress, silent
from bnas.report import write_report
from bnas.retrain import retrain
from bnas.runs import Run
from bnas.searcher import Candidate, MakeSampler, Score, Scorer, Search, front, ledger, paid
from bnas.searcher.sampler import RandomWithin
from bnas.space import SearchSpace
from bnas.spec import parse, parse_yaml
from bnas.train import train_supernet

SECONDS_BETWEEN_TABLES = 5.0


@dataclass(frozen=True)
class Best:
    """The network that a search hands over."""

    folder: Path
    architecture: Architecture
    manifest: dict[str, Any]

    def build(self) -> nn.Module:
        """Return a fresh network of the found architecture, to train from the start."""
        return build(self.architecture)

    def load(self) -> nn.Module:
        """Return the found network with its trained weights, checked against the manifest."""
        return load(self.folder)


@dataclass(frozen=True)
class SearchResult:
    """What a search found; everything is read from the run folder, so an old run gives one too."""

    run: Run

    @cached_property
    def front(self) -> pd.DataFrame:
        """The Pareto front over proxy accuracy and ops, cheapest first."""
        return self.run.read_table("pareto")

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """Every candidate with its fate."""
        return self.run.read_table("candidates")

    @cached_property
    def twin(self) -> pd.DataFrame:
        """The candidates of the random search that paid for as many."""
        return self.run.read_table("twin")

    @cached_property
    def retrained(self) -> pd.DataFrame:
        """The networks trained alone, the best on validation first."""
        return self.run.read_table("retrained")

    @property
    def ledger(self) -> dict[str, dict[str, int]]:
        """How many candidates had which fate, in the search and in its twin."""
        return self.run.read_ledger()

    @cached_property
    def best(self) -> Best:
        """The best network."""
        text, _, manifest = self.run.read_best()
        folder = self.run.path / "best"
        return Best(folder, parse(Architecture, parse_yaml(text, source=str(folder)), source=str(folder)), manifest)


def search(
    space: str | Path | SearchSpace,
    *,
    data: str = "digits",
    budget: Iterable[str] | Mapping[str, str | int | float] | None = None,
    trials: int | None = None,
    sampler: str | None = None,
    top: int | None = None,
    seed: int = 0,
    out: str | Path = "runs/search",
    storage: str | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> SearchResult:
    """Search a space under a budget, train the best alone, and write the run folder. Called again, it goes on.

    Args:
        space: a YAML file or a `SearchSpace`; its `search` section gives what is not given here.
        data: a data set's name, a path, or `file.py:attr`.
        budget: as `["ops=3M", "bytes=20k"]` or `{"ops": "3M"}`.
        trials: paid evaluations of the search; a random twin pays for as many.
        sampler: `evolution`, `nsga2`, `tpe`, `random`, or `pkg.mod:attr` of an Optuna sampler's maker.
        top: how many of the best candidates are trained alone.
        out: the run folder.
        storage: an Optuna storage URL; None keeps the study in the run folder.
        device: `cpu`, `cuda`, `cuda:1`; None takes a GPU where there is one.
    Raises:
        BnasError: one line that says where, which rule, which values, what to do.
    """
    request = resolve(
        space, data, budget=budget, trials=trials, sampler=sampler, top=top, seed=seed, device=device
    )  # fmt: skip
    sample_within(request.space, request.budget, Random(seed))  # a budget nothing fits is an error before any training
    images = load_matching(request)
    run = Run.open(out, config=request.config, space_yaml=request.space_yaml)
    with run.lock():
        if not run.has_best():
            _drive(run, request, images, storage or run.storage_url, _Logged(run, progress))
        write_report(run)
    return SearchResult(run)


def _drive(run: Run, request: SearchRequest, data: DataSet, storage: str, progress: Progress) -> None:
    """Train the supernet, search it, retrain the best alone, write what was found."""
    settings, space, device = request.settings, request.space, request.device
    supernet = train_supernet(
        space, settings.supernet, data, seed=request.seed, store=run, device=device, progress=progress
    )
    scorer = Scorer(supernet, data, settings.scoring, seed=request.seed, device=device)
    candidates = _explore(run, request, scorer, storage, progress)
    chosen = {c.id: c for c in paid(candidates)[: settings.retrain.top]}
    archs = [space.architecture(c.genes) for c in chosen.values()]
    trained = retrain(archs, settings.retrain, data, seed=request.seed, store=run, device=device, progress=progress)
    rows = [chosen[r.arch.id].facts() | r.row() for r in trained]
    run.write_table("retrained", rows)
    run.log("retrained", networks=rows)
    write_best(run, request, data, trained[0], chosen[trained[0].arch.id])


def _explore(run: Run, request: SearchRequest, scorer: Scorer, storage: str, progress: Progress) -> list[Candidate]:
    """Search, then let random search pay for as many; return the candidates of the search."""
    studies: dict[str, tuple[str, MakeSampler]] = {
        "search": ("candidates", request.make_sampler),
        "twin": ("twin", RandomWithin),
    }
    known: dict[str, Score | None] = {}
    found: dict[str, list[Candidate]] = {}
    for name, (table, make) in studies.items():
        study = Search(
            request.space, request.budget, sampler=make, seed=request.seed, storage=storage, name=name, known=known
        )
        found[name] = study.run(request.settings.trials, scorer, progress=progress, note=_Table(run, table))
        run.write_table(table, [c.row() for c in found[name]])
        run.log("searched", study=name, **ledger(found[name]))
    run.write_ledger({name: ledger(candidates) for name, candidates in found.items()})
    run.write_table("pareto", [c.facts() for c in front(found["search"])])
    return found["search"]


class _Table:
    """Writes a table of candidates now and then, so that a person can look at a search that is under way."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name, self._rows, self._written = run, name, list[dict[str, Any]](), time.monotonic()

    def __call__(self, candidate: Candidate) -> None:
        self._rows.append(candidate.row())
        if time.monotonic() - self._written > SECONDS_BETWEEN_TABLES:
            self._run.write_table(self._name, self._rows)
            self._written = time.monotonic()


class _Logged:
    """A progress that also writes the begin of each phase to the log."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self._run, self._progress, self._phase = run, progress, ""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        if phase != self._phase:
            self._run.log("phase", phase=phase, done=done, total=total)
            self._phase = phase
        self._progress(phase, done, total, note)
