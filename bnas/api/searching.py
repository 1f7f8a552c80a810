"""Find, retrain and hand over the best network of a space under a budget."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bnas import report
from bnas.api.advice import hints
from bnas.api.appointing import appointed
from bnas.api.exploring import explore, open_studies
from bnas.api.logged import Logged
from bnas.api.making import untaught
from bnas.api.opening import load_matching, open_for
from bnas.api.progress_bars import say, say_at_once, say_images, watched
from bnas.api.request import Items, SearchRequest, name_of, resolve
from bnas.api.result import SearchResult
from bnas.api.shared_weights import trained_supernet
from bnas.api.taken import check_held_out, take_alone, take_supernet
from bnas.api.teacher import trained_teacher
from bnas.api.threads import threads_for
from bnas.api.timing import TimeUp, check_minutes, in_time
from bnas.api.winner import write_best
from bnas.data import DataSet
from bnas.errors import RunError, SpecError
from bnas.layers.blocks import Network
from bnas.progress import Progress, silent
from bnas.runs import Run
from bnas.runs.contents import CONFUSION
from bnas.searcher.candidate import Candidate
from bnas.searcher.executors.engine import Engine
from bnas.searcher.feasible import sample_within
from bnas.searcher.finalists import finalists
from bnas.searcher.sampler import MakeSampler
from bnas.searcher.score import Scorer
from bnas.searcher.storage_url import check_url
from bnas.space.arch import Architecture
from bnas.space.latency import LatencyTable
from bnas.space.recipe import Recipe, Stage
from bnas.space.space import SearchSpace
from bnas.supernet import Supernet
from bnas.train import ALONE, Ranks, SharedStore
from bnas.train.halving import GIVEN
from bnas.train.retrain import retrain
from bnas.train.thread_count import using

TABLES = ("candidates", "twin", "pareto", "retrained")  # of a run that has ended


def search(
    space: str | Path | Mapping[str, Any] | SearchSpace,
    *,
    data: Any = "digits",
    budget: Items | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    sampler: str | MakeSampler | None = None,
    top: int | None = None,
    final_on_all: bool | None = None,
    deploy: str | None = None,
    start_with: Iterable[str | Path | Architecture] = (),
    latency: str | Path | LatencyTable | None = None,
    augment: str | Sequence[str] | None = None,
    supernet_of: str | Path | SearchResult | None = None,
    seed: int = 0,
    out: str | Path = "runs/search",
    storage: str | None = None,
    device: str | None = None,
    engine: str | Engine = "in-process",
    trust: bool = False,
    progress: Progress | bool = True,
    ranks: Ranks = ALONE,
) -> SearchResult:
    """Search a space under a budget, train the best alone, and write the run folder. Called again, it goes on.

    Storage, device and engine may change between two calls, and more trials be asked for; what was paid for is kept.

    Args:
        space: a YAML file, the name of one of ours, a mapping of its keys, or a `SearchSpace`; its `search` section
            gives what is left out here.
        data: whatever `bnas.load_data` takes: a data set's name, a path, a `DataSet`, arrays.
        budget: as `["ops=3M", "bytes=20k"]` or `{"ops": "3M"}`; the space's limits of other quantities stay, unless
            lifted, as by `bytes=none`.
        trials: paid evaluations of the search, fewer where no more networks fit; a random twin pays for as many.
        minutes: that it may take in all, more or less: epochs and trials of the space, but for trials given here, grow
            or shrink alike to what fits, by the pace that is measured at the start, and again before networks are
            trained alone; when the time is up, the best so far is the result.
        sampler: `evolution`, `nsga2`, `tpe`, `random`; or what makes an Optuna sampler for each proposal, a function
            (space, budget, seed) -> sampler or its `pkg.mod:attr`.
        top: how many of the best candidates are trained alone, and as many of the random twin's.
        final_on_all: train the winner once more after it was chosen, on all training images, those held out among
            them; None: as the space says.
        deploy: what the networks are for, `c`, `finn`, `hls4ml` or `packed`: only what it takes is proposed, and what
            is left out of the space is said.
        start_with: networks of the space, or their YAML files, that are scored first and trained alone to the end, so
            that nothing worse is found.
        latency: what parts of the networks take on some machine, or the file that `bnas latency-table` wrote there; a
            budget of `latency_ms` needs it.
        supernet_of: a search, or its run folder, whose supernet is searched again, perhaps under another budget, by
            another sampler or with more trials, and not trained anew.
        augment: what training images go through, as `augment` of `bnas.load_data`; None: what the space says, or else
            what suits the data set.
        seed: the same seed gives the same result.
        out: the run folder.
        storage: an Optuna storage URL, which runs may share; None keeps the studies in the run folder.
        device: `cpu`, `cuda`, `cuda:1`; None takes a GPU where there is one.
        engine: what scores candidates: `in-process`, `processes` or `ray`, or an `Engine` with workers and lease.
        trust: run code that a file of the space names, as `file.py:attr`; look at it first.
        progress: bars on stderr, False for none, or a `Progress` of one's own, which may raise `Stopped` to have the
            work put down, saved, so that the same call goes on.
        ranks: processes that train together, of which this is rank 0; the others must be in `Ranks.follow`.
    Raises:
        Stopped: progress asked for it.
        BnasError: one line that says where, which rule, which values, what to do.
    """
    say_at_once(f"search: reads {name_of(data)}", progress)
    request = resolve(
        space, data, budget=budget, trials=trials, sampler=sampler, top=top, final_on_all=final_on_all,
        start_with=start_with, latency=latency, augment=augment, seed=seed, device=device, deploy=deploy, trust=trust,
    )  # fmt: skip
    if request.settings.targets and not supernet_of:
        raise SpecError(
            f"search.targets: the space has {len(request.settings.targets)} of them, and this searches under one "
            "budget; call bnas.search_targets, or leave them out of the space"
        )
    if supernet_of:
        source = _path_of(supernet_of)
        request = replace(request, supernet_of=str(source), supernet_run=Run.read(source).id)
    crew = crew_of(engine, minutes=minutes, storage=storage, ranks=ranks)
    sample_within(request.space, request.budget, Random(seed))  # a budget nothing fits is an error before any training
    images = load_matching(request)
    check_held_out(request, images)
    request = appointed(request, images, trust=trust).on(images)
    if minutes is not None:
        request = in_time(replace(request, minutes=minutes), images, out, trials=trials, progress=progress)
    run = open_for(images, out, config=request.config, space_yaml=request.space_yaml)
    if request.left_out:
        say(request.left_out, progress)
    say_images(images, progress)
    with run.lock(), watched(progress) as tell:
        if not (_is_complete(run, request.settings.trials) and (storage is not None or _is_stored(run))):
            for hint in () if request.supernet_of else hints(request.space, len(images.train), request.device):
                say(hint, progress)
            say(f"plan {_plan(request, images, run)}", progress)
            recipe, is_taught = request.settings.retrain.recipe, request.settings.teacher is not None
            if remark := untaught(recipe, is_taught=is_taught, remedy="give search.teacher, or leave distill out"):
                say(f"networks alone: {remark}", progress)
            ranks.call(partial(_beside, replace(request, images=images.facts())))
            with using(threads_for(run, request, images)):
                _drive_search(run, request, images, storage, crew, Logged(run, tell), ranks)
        report.write_report(run)
    return SearchResult(run, trust=True)  # what is run of it was given here


def crew_of(engine: str | Engine, *, minutes: float | None, storage: str | None, ranks: Ranks) -> Engine:
    """Return what scores candidates, where the way in which a search is to run is possible.

    Raises:
        BnasError: the engine, the minutes or the storage's URL cannot be used; nothing was done yet.
    """
    crew = Engine(engine) if isinstance(engine, str) else engine
    crew.check()
    check_minutes(minutes, ranks)
    if storage is not None:
        check_url(storage)
    return crew


def _plan(request: SearchRequest, images: DataSet, run: Run) -> str:
    """Return in words what a search does, phase by phase."""
    settings, count = request.settings, len(images.train)
    supernet = settings.supernet
    shared = Recipe(stages=(Stage(epochs=supernet.epochs),), batch=supernet.batch).said(count)
    first = f"supernet of {request.supernet_of}" if request.supernet_of else f"supernet: {shared}"
    if teacher := settings.teacher:
        trained = f": {teacher.recipe.said(count)}" if teacher.recipe and not request.supernet_of else ""
        first = f"teacher of {' and '.join(settings.taught)}, {teacher.model}{trained}; {first}"
    retrain = settings.retrain
    alone = sum(retrain.tops.values()) + len(request.given)
    on_all = f"; the best once more on all {count + len(images.validation)} images" if retrain.final_on_all else ""
    return (
        f"{first}; {settings.trials} candidates scored, and as many of a random search; up to {alone} networks trained "
        f"alone: {retrain.recipe.said(count)}{on_all}; written to {run.path}"
    )


def _path_of(run: str | Path | SearchResult) -> Path:
    return run.run.path if isinstance(run, SearchResult) else Path(run)


def _is_complete(run: Run, trials: int) -> bool:
    """Whether the run has ended, and what it found is still there as it was written; else it is made again."""
    ended = [event for event in run.events() if event["event"] == "retrained"]
    if run.has_lost_events or not ended or ended[-1].get("trials", trials) != trials:
        return False
    try:
        for name in (*TABLES, *((CONFUSION,) if run.has_table(CONFUSION) else ())):  # an older run has none
            run.read_table(name)
        run.read_ledger()
    except RunError:
        return False
    return run.best.is_sound()


def _is_stored(run: Run) -> bool:
    """Whether the run's own storage has all that was paid for; else it is filled again from the log."""
    studies = open_studies(run, None)
    tables = [(studies.search, run.read_table("candidates")), (studies.twin, run.read_table("twin"))]
    bought = [set(table.loc[table["status"].isin(("paid", "failed")), "id"]) for _, table in tables]
    return all(ids <= study.outcomes.keys() for ids, (study, _) in zip(bought, tables, strict=True))


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
    if request.supernet_of:
        take_supernet(run, request)
    teacher = trained_teacher(run, request, data, progress, ranks)
    supernet = trained_supernet(run, request, data, progress, ranks, teacher=teacher)
    found = explore(run, request, supernet, data, studies=studies, engine=engine, progress=progress)
    chosen, is_time_up = _chosen(found, request), TimeUp(run, request)
    archs = ranks.told(lambda: {o: [space.architecture(c.genes) for c in some] for o, some in chosen.items()})
    take_alone(run, request, itertools.chain(*archs.values()))
    request = request.retraining(is_time_up.retraining(archs, data))
    trained = retrain(
        archs, request.settings.retrain, data, seed=request.seed, store=store, device=device,
        inherited=_inherited(request, supernet, data), teacher=teacher, is_time_up=is_time_up,
        progress=progress, ranks=ranks,
    )  # fmt: skip
    facts = {c.id: c for some in reversed(chosen.values()) for c in some}
    rows = [facts[r.arch.id].facts() | r.row() for r in trained]
    if final := trained[0].final:
        rows = [row | {"final_test_accuracy": None} for row in rows]
        rows[0]["final_test_accuracy"] = final.test_accuracy
    run.write_table("retrained", rows)
    run.log("retrained", networks=rows, trials=settings.trials)
    write_best(run, request, data, trained[0], facts[trained[0].arch.id])


def _chosen(found: Mapping[str, Sequence[Candidate]], request: SearchRequest) -> dict[str, list[Candidate]]:
    """Return the candidates that are trained alone, by the study that found them; the twin's as many, unless said."""
    tops = request.settings.retrain.tops
    chosen = {name: finalists(found[name], request.space, top=top) for name, top in tops.items()}
    given = [candidate for candidate in found["search"] if candidate.genes in request.given and candidate.score]
    return {GIVEN: given, **chosen} if given else chosen


def _inherited(request: SearchRequest, supernet: Supernet, data: DataSet) -> Callable[[Architecture], Network] | None:
    """Return what gives a network its weights from the supernet, where the settings say so; batch norm is set anew."""
    if request.settings.retrain.start == "scratch":
        return None
    return Scorer(supernet, data, request.settings.scoring, seed=request.seed, device=request.device).network


def _beside(request: SearchRequest, ranks: Ranks) -> None:
    """Do what the other ranks do of a search: train the supernet, wait for what is found with it, train that."""
    settings, data, store = request.settings, load_matching(request), SharedStore(None, ranks)
    teacher = trained_teacher(None, request, data, silent, ranks)
    supernet = trained_supernet(None, request, data, silent, ranks, teacher=teacher)
    archs = ranks.told(lambda: dict[str, list[Architecture]]())  # rank 0 says which
    retrain(
        archs, settings.retrain, data, seed=request.seed, store=store, device=request.device,
        inherited=_inherited(request, supernet, data), teacher=teacher, ranks=ranks,
    )  # fmt: skip
