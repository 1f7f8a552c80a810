"""Find, retrain and hand over the best network of a space under a budget."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bnas.api.exploring import explore, open_studies
from bnas.api.manifest import manifest_of
from bnas.api.progress_bars import say_images, watched
from bnas.api.request import Items, SearchRequest, load_matching, name_of, open_for, resolve
from bnas.api.result import SearchResult
from bnas.data import DataSet
from bnas.data.facts import Guessing
from bnas.errors import RunError
from bnas.progress import Progress
from bnas.report import write_report
from bnas.runs import Run
from bnas.searcher.candidate import Candidate, paid
from bnas.searcher.executors.engine import Engine
from bnas.searcher.feasible import sample_within
from bnas.searcher.sampler import MakeSampler
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace
from bnas.spec import dump
from bnas.train import ALONE, Ranks, SharedStore, train_supernet
from bnas.train.retrain import Retrained, retrain

TABLES = ("candidates", "twin", "pareto", "retrained")  # of a run that has ended


def write_best(run: Run, request: SearchRequest, data: DataSet, best: Retrained, candidate: Candidate) -> None:
    """Write the best network and what is known of it.

    Raises:
        ExportError: the weights do not load back to the same network, or it costs other than was counted.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in best.network.state_dict().items()}
    assert candidate.score is not None
    accuracy = {
        "proxy": candidate.score.proxy_accuracy,
        "validation": best.validation_accuracy,
        "test": best.test_accuracy,
    }
    manifest = manifest_of(
        best.arch, best.network.cpu(), tensors, accuracy=accuracy, data=data, recipe=request.settings.retrain.recipe,
        epochs=best.epochs, seed=request.seed,
    )  # fmt: skip
    guessing = Guessing.on(data.test.labels)._asdict()
    known = {"budget": request.budget.as_dict(), "data": name_of(request.data), "guessing": guessing}
    run.write_best(dump(best.arch), tensors=tensors, manifest=manifest | known)


def search(
    space: str | Path | Mapping[str, Any] | SearchSpace,
    *,
    data: Any = "digits",
    budget: Items | None = None,
    trials: int | None = None,
    sampler: str | MakeSampler | None = None,
    retrain: int | None = None,
    seed: int = 0,
    out: str | Path = "runs/search",
    storage: str | None = None,
    device: str | None = None,
    engine: str | Engine = "in-process",
    progress: Progress | bool = True,
    ranks: Ranks = ALONE,
) -> SearchResult:
    """Search a space under a budget, train the best alone, and write the run folder. Called again, it goes on.

    Storage, device and engine may change between two calls; what was paid for is kept.

    Args:
        space: a YAML file, a mapping of its keys, or a `SearchSpace`; its `search` section gives what is left out here.
        data: whatever `bnas.load_data` takes: a data set's name, a path, a `DataSet`, arrays.
        budget: as `["ops=3M", "bytes=20k"]` or `{"ops": "3M"}`; the space's limits of other quantities stay, unless
            lifted, as by `bytes=none`.
        trials: paid evaluations of the search, fewer where no more networks fit; a random twin pays for as many.
        sampler: `evolution`, `nsga2`, `tpe`, `random`; or what makes an Optuna sampler for each proposal, a function
            (space, budget, seed) -> sampler or its `pkg.mod:attr`.
        retrain: how many of the best candidates are trained alone.
        seed: the same seed gives the same result.
        out: the run folder.
        storage: an Optuna storage URL, which runs may share; None keeps the studies in the run folder.
        device: `cpu`, `cuda`, `cuda:1`; None takes a GPU where there is one.
        engine: what scores candidates: `in-process`, `processes` or `ray`, or an `Engine` with workers and lease.
        progress: bars on stderr, False for none, or a `Progress` of one's own, which may raise `Stopped` to have the
            work put down, saved, so that the same call goes on.
        ranks: processes that train together, of which this is rank 0; the others must be in `Ranks.follow`.
    Raises:
        Stopped: progress asked for it.
        BnasError: one line that says where, which rule, which values, what to do.
    """
    request = resolve(
        space, data, budget=budget, trials=trials, sampler=sampler, retrain=retrain, seed=seed, device=device
    )  # fmt: skip
    crew = Engine(engine) if isinstance(engine, str) else engine
    crew.check()
    sample_within(request.space, request.budget, Random(seed))  # a budget nothing fits is an error before any training
    images = load_matching(request)
    run = open_for(images, out, config=request.config, space_yaml=request.space_yaml)
    say_images(images, progress)
    with run.lock(), watched(progress) as tell:
        if not _is_complete(run):
            ranks.call(partial(_beside, replace(request, images=images.facts())))
            _drive_search(run, request, images, storage, crew, _Logged(run, tell), ranks)
        write_report(run)
    return SearchResult(run)


def _is_complete(run: Run) -> bool:
    """Whether the run has ended, and what it found is still there and can be read; else it is made again."""
    try:
        for name in TABLES:
            run.read_table(name)
        run.read_ledger()
    except RunError:
        return False
    return run.has_best()


def _drive_search(
    run: Run,
    request: SearchRequest,
    data: DataSet,
    storage: str | None,
    engine: Engine,
    progress: Progress,
    ranks: Ranks,
) -> None:
    """Train the supernet, search it, retrain the best alone, write what was found."""
    settings, space, device = request.settings, request.space, request.device
    studies = open_studies(run, storage)  # a storage that cannot be used is an error before any training
    store = SharedStore(run, ranks)
    supernet = train_supernet(
        space, settings.supernet, data, seed=request.seed, store=store, device=device, progress=progress, ranks=ranks
    )
    candidates = explore(run, request, supernet, data, studies=studies, engine=engine, progress=progress)
    chosen = {c.id: c for c in paid(candidates)[: settings.retrain.top]}
    archs = ranks.told(lambda: [space.architecture(c.genes) for c in chosen.values()])
    trained = retrain(
        archs, settings.retrain, data, seed=request.seed, store=store, device=device, progress=progress, ranks=ranks
    )
    rows = [chosen[r.arch.id].facts() | r.row() for r in trained]
    run.write_table("retrained", rows)
    run.log("retrained", networks=rows)
    write_best(run, request, data, trained[0], chosen[trained[0].arch.id])


def _beside(request: SearchRequest, ranks: Ranks) -> None:
    """Do what the other ranks do of a search: train the supernet, wait for what is found with it, train that."""
    settings, data, store = request.settings, load_matching(request), SharedStore(None, ranks)
    train_supernet(
        request.space, settings.supernet, data, seed=request.seed, store=store, device=request.device, ranks=ranks
    )
    archs = ranks.told(lambda: list[Architecture]())  # rank 0 says which
    retrain(archs, settings.retrain, data, seed=request.seed, store=store, device=request.device, ranks=ranks)


class _Logged:
    """A progress that also writes the begin of each phase to the log."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self._run, self._progress, self._phase = run, progress, ""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        if phase != self._phase:
            self._run.log("phase", phase=phase, done=done, total=total)
            self._phase = phase
        self._progress(phase, done, total, note)
