"""A space and several budgets -> one supernet trained inside all of them, and a search of it under each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from bnas import report
from bnas.api.advice import hints
from bnas.api.appointing import appointed
from bnas.api.logged import Logged
from bnas.api.opening import load_matching, open_for
from bnas.api.progress_bars import say, watched
from bnas.api.request import Items, SearchRequest, check_admitted, check_timed, given_genes, resolve
from bnas.api.result import SearchResult, TargetResults
from bnas.api.searching import crew_of, search
from bnas.api.shared_weights import trained_supernet
from bnas.api.teacher import trained_teacher
from bnas.api.threads import threads_for
from bnas.cost.budget import Budget
from bnas.data import DataSet
from bnas.errors import SpecError
from bnas.progress import Progress, silent
from bnas.report.final_training import FINAL, is_final
from bnas.report.tables import BEFORE, best_of_each
from bnas.runs.contents import TARGETS
from bnas.searcher.feasible import cost_of
from bnas.space.arch import Architecture
from bnas.space.latency import LatencyTable
from bnas.space.space import SearchSpace
from bnas.train import ALONE, Ranks
from bnas.train.thread_count import using


def search_targets(
    space: str | Path | Mapping[str, Any] | SearchSpace,
    targets: Sequence[Items] | None = None,
    *,
    data: Any = "digits",
    latency: str | Path | LatencyTable | None = None,
    augment: str | Sequence[str] | None = None,
    seed: int = 0,
    out: str | Path = "runs/search",
    device: str | None = None,
    deploy: str | None = None,
    trust: bool = False,
    progress: Progress | bool = True,
    ranks: Ranks = ALONE,
    **each: Any,
) -> TargetResults:
    """Search a space under several budgets with one supernet, whose steps lie inside them in turn.

    The run folder holds the supernet, a table, a report, and in `targets/` a run folder for each budget, which is that
    of a search like any other. Called again, it goes on.

    Args:
        space: as in `search`.
        targets: a budget each, as `search` takes one; None takes `search.targets` of the space.
        data, augment, latency, seed, out, device, deploy, trust, progress, ranks: as in `search`.
        each: what else `search` takes, for each of the searches; of the networks to start with, those that fit it.
    Raises:
        SpecError: there are fewer than two targets, or two are the same.
        BudgetError: nothing fits a target, or a network to start with fits none of them.
        Stopped: progress asked for it.
        BnasError: one line that says where, which rule, which values, what to do.
    """
    _check_names(each)
    crew_of(each.get("engine", "in-process"), minutes=each.get("minutes"), storage=each.get("storage"), ranks=ranks)
    asked = resolve(space, data, augment=augment, latency=latency, seed=seed, device=device, deploy=deploy, trust=trust)
    budgets = _budgets(asked, targets)
    alone = _for_one(asked)
    given = _fitting((*asked.settings.start_with, *each.pop("start_with", ())), alone, budgets)
    for budget in budgets:  # what is asked amiss of a search is an error before any training
        how = {name: value for name, value in each.items() if name in signature(resolve).parameters}
        resolve(alone, data, budget=budget.as_dict(), start_with=given[budget], device=device, trust=trust, **how)
    request = replace(asked, targets=budgets)
    _ = request.draws  # a budget that nothing fits is an error before any training
    images = load_matching(request)
    request = appointed(request, images, trust=trust).on(images)
    run = open_for(images, out, config=request.config, space_yaml=request.space_yaml)
    for line in filter(None, (request.left_out, *hints(request.space, len(images.train), request.device))):
        say(line, progress)
    with run.lock(), watched(progress) as tell:
        ranks.call(partial(_beside, replace(request, images=images.facts())))
        logged = Logged(run, tell)
        with using(threads_for(run, request, images)):
            teacher = trained_teacher(run, request, images, logged, ranks)
            trained_supernet(run, request, images, logged, ranks, teacher=teacher)
    alone, results = _for_one(request), TargetResults(run, trust)
    for folder, budget in zip(results.folders.values(), budgets, strict=True):
        search(
            alone, data=data, budget=budget.as_dict(), seed=seed, out=folder, device=device,
            trust=trust, progress=progress, ranks=ranks, supernet_of=run.path, start_with=given[budget], **each,
        )  # fmt: skip
    with run.lock():
        run.write_table(TARGETS, [{"target": name, **_winner(found)} for name, found in results.items()])
        report.write_targets_report(run)
    return results


def _for_one(request: SearchRequest) -> SearchSpace:
    """Return the space for a search under one of the budgets, which says all that the space's own says and it keeps."""
    settings = request.settings.model_copy(update={"targets": (), "budget": {}, "start_with": ()})
    return request.space.model_copy(update={"search": settings})


def _check_names(each: Mapping[str, Any]) -> None:
    """Raise unless these are arguments of `search` that each of several may be given."""
    known = signature(search).parameters.keys() - signature(search_targets).parameters - {"budget", "supernet_of"}
    if unknown := sorted(each.keys() - known):
        raise TypeError(f"search_targets: does not take {unknown[0]!r}; choose from {', '.join(sorted(known))}")


def _fitting(
    given: Iterable[str | Path | Architecture], space: SearchSpace, budgets: Sequence[Budget]
) -> dict[Budget, list[Architecture]]:
    """Return the networks to start with that fit each budget.

    Raises:
        BudgetError: one fits none of them.
        SpecError: one is no network of the space.
    """
    found: dict[Budget, list[Architecture]] = {budget: [] for budget in budgets}
    for arch in given:
        genes = given_genes(arch, space)
        fits = [budget for budget in budgets if budget.admits(cost_of(space, genes))]
        if not fits:
            check_admitted(arch, genes, space, min(budgets, key=lambda budget: budget.excess(cost_of(space, genes))))
        for budget in fits:
            found[budget].append(space.architecture(genes))
    return found


def _budgets(request: SearchRequest, targets: Sequence[Items] | None) -> tuple[Budget, ...]:
    given = request.settings.targets if targets is None else targets
    found = [Budget.parse(items, source=f"targets[{place}]", over=request.budget) for place, items in enumerate(given)]
    for budget in found:
        check_timed(request.space, budget)
    if len(found) < 2 or len(set(found)) < len(found):
        raise SpecError(
            f"targets: two or more budgets are needed, each another one, but got {[str(budget) for budget in found]}; "
            "give --target ops=100k --target ops=350k, or search.targets in the space"
        )
    return tuple(found)


def _beside(request: SearchRequest, ranks: Ranks) -> None:
    """Do what the other ranks do of it."""
    images: DataSet = load_matching(request)
    teacher = trained_teacher(None, request, images, silent, ranks)
    trained_supernet(None, request, images, silent, ranks, teacher=teacher)


def _winner(found: SearchResult) -> dict[str, Any]:
    """Return what the table says of the winner of a budget, and of the best network that its random twin found."""
    best = found.best
    final = best.manifest.get(FINAL)
    before = {BEFORE: final["accuracy_before"]["test"] if is_final(best.manifest) else best.accuracy} if final else {}
    return {
        "id": best.architecture.id,
        "test_accuracy": best.accuracy,
        **before,
        "validation_accuracy": best.manifest["accuracy"]["validation"],
        "test_accuracy_of_twin": best_of_each(found.retrained).get("twin"),
        **best.cost.as_dict(),
    }
