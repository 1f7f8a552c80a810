"""A trained supernet -> every candidate of the search and of its random twin, each scored once, and written down."""

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from bnas.amounts import percent
from bnas.api.request import SearchRequest
from bnas.data import DataSet
from bnas.data.facts import Guessing
from bnas.data.split import Split
from bnas.errors import TrainingError
from bnas.progress import Progress
from bnas.runs import Run
from bnas.searcher.block_errors import with_metric
from bnas.searcher.candidate import Candidate, front, ledger
from bnas.searcher.executors.engine import Engine
from bnas.searcher.journal import Journal
from bnas.searcher.sampler import MakeSampler
from bnas.searcher.samplers import RandomWithin
from bnas.searcher.score import Scorer, scored_on
from bnas.searcher.storage import DamagedStorage, StoredStudy
from bnas.searcher.study import Search
from bnas.supernet import Supernet

SECONDS_BETWEEN_TABLES = 5.0
SHARE_OF_TABLES = 0.02  # of the time, at most, for writing them


class Studies(NamedTuple):
    """Where people look at the candidates of the search and of its twin."""

    search: StoredStudy
    twin: StoredStudy


def open_studies(run: Run, storage: str | None) -> Studies:
    """Return the run's two studies; a storage of its own that is damaged, or says other than the log, is set aside.

    Args:
        storage: an Optuna storage URL, which other runs may share; None keeps the studies in the run folder.
    Raises:
        RunError: the storage cannot be used.
    """
    prefix, url, journal = f"{run.label}-" if storage else "", storage or run.storage_url, Journal(run)
    try:
        found = Studies(*(StoredStudy(url, f"{prefix}{name}", check=run.check_driver) for name in Studies._fields))
        for study in found:
            study.check_against(journal)
        return found
    except DamagedStorage as problem:
        if storage:
            raise
        aside = run.set_study_aside()
        run.log("warning", message=f"{problem}; it was set aside as {aside.name} and filled again from the log")
    return open_studies(run, storage)


def explore(
    run: Run,
    request: SearchRequest,
    supernet: Supernet,
    data: DataSet,
    *,
    studies: Studies,
    engine: Engine,
    progress: Progress,
) -> dict[str, list[Candidate]]:
    """Search, then let random search pay for as many; return the candidates of the search and of its twin.

    Raises:
        BudgetError: nothing fits the budget.
        TrainingError: no candidate could be scored; says why the last could not.
        RunError: a storage or all workers are lost.
    """
    samplers: dict[str, MakeSampler] = {"search": request.make_sampler, "twin": RandomWithin}
    tables = {"search": "candidates", "twin": "twin"}
    journal = Journal(run)
    found: dict[str, list[Candidate]] = {}

    def scorer_on(device: torch.device) -> Scorer:
        return Scorer(supernet, data, request.settings.scoring, seed=request.seed, device=device)

    space = with_metric(request.space, partial(scorer_on, request.device), seed=request.seed, store=run)
    with engine.executor(scorer_on, request.device, run.log) as executor:
        for name, stored in studies._asdict().items():
            search = Search(
                space, request.budget, sampler=samplers[name], seed=request.seed, name=name, stored=stored,
                journal=journal, first=request.given if name == "search" else (),
                in_flight=engine.in_flight(request.device),
            )  # fmt: skip
            trials = _bought(found["search"]) if found else request.settings.trials
            found[name] = search.run(trials, executor.submit, progress=progress, note=_Table(run, tables[name]))
            if name == "search":
                _check_scored(found[name], journal)
            _warn_of_chance(run, scored_on(data, request.settings.scoring, seed=request.seed), found[name])
            run.write_table(tables[name], [c.row() for c in found[name]])
            run.log("searched", study=name, **_fates(found[name]))
    run.write_ledger({name: _fates(candidates) for name, candidates in found.items()})
    run.write_table("pareto", [c.facts() for c in front(found["search"])])
    return found


def _check_scored(candidates: Sequence[Candidate], journal: Journal) -> None:
    """Raise where every score failed: there is nothing to choose from."""
    if not any(candidate.score for candidate in candidates):
        failed = [candidate.id for candidate in candidates if candidate.status == "failed"]
        raise TrainingError(
            f"search: none of the {len(failed)} candidates that were paid for has a score; the last failed with: "
            f"{journal[failed[-1]]}; what failed is kept, so search again under another --out, where memory ran out "
            "with a smaller search.scoring.batch"
        )


def _warn_of_chance(run: Run, scored: Split, candidates: Iterable[Candidate]) -> None:
    """Say where no candidate is better than guessing: what ranks them is noise."""
    guessing = Guessing.on(scored.labels)
    best = max((c.score.proxy_accuracy for c in candidates if c.score), default=0.0)
    if not guessing.beaten_by(best):
        run.warn(
            f"the best of the candidates has a proxy accuracy of {percent(best)}{guessing.remark(best)}: with these "
            "shared weights their order means little; train the supernet for more epochs, or look at the images"
        )


def _fates(candidates: Iterable[Candidate]) -> dict[str, int]:
    return ledger(candidate.status for candidate in candidates)


def _bought(candidates: Iterable[Candidate]) -> int:
    """Return how many were paid for, those whose score failed among them."""
    return sum(candidate.status in ("paid", "failed") for candidate in candidates)


class _Table:
    """Writes a table of candidates now and then, so that a person can look at a search that is under way."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name, self._rows = run, name, list[dict[str, Any]]()
        self._next = time.monotonic() + SECONDS_BETWEEN_TABLES

    def __call__(self, candidate: Candidate) -> None:
        self._rows.append(candidate.row())
        begun = time.monotonic()
        if begun > self._next:
            self._run.write_table(self._name, sorted(self._rows, key=lambda row: row["number"]))
            now = time.monotonic()
            self._next = now + max(SECONDS_BETWEEN_TABLES, (now - begun) / SHARE_OF_TABLES)
