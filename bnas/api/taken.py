"""A run that was searched -> its supernet, and the networks trained alone with it, for another search of the space."""

from collections.abc import Iterable
from pathlib import Path

import torch

from bnas.api.request import SearchRequest
from bnas.api.result import TargetResults
from bnas.cost.budget import Budget
from bnas.data import DataSet
from bnas.errors import BnasError, RunError
from bnas.runs import Run, holds_run
from bnas.runs.asked import Asked, is_free
from bnas.runs.contents import SPACE
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace
from bnas.train import oneshot
from bnas.train.reuse import take_trained

# What two searches may differ in, and train a network alone alike: which are chosen, and what is done to the winner.
BESIDE = (
    "budget", "retrain", "sampler", "start_with", "supernet_of", "supernet_run", "teacher", "trials",
    "space.search.budget", "space.search.retrain.final_on_all", "space.search.retrain.top", "space.search.retrain.twin",
    "space.search.sampler", "space.search.start_with", "space.search.targets", "space.search.trials",
)  # fmt: skip


def take_supernet(run: Run, request: SearchRequest) -> None:
    """Copy the trained supernet that a request names into a run that has none.

    Whether it was taught by the request's teacher is known already.

    Raises:
        RunError: it is not trained to the end, or that of a space with other choices.
    """
    if run.load_checkpoint(oneshot.NAME) is not None:
        return
    source, space = request.supernet_of, request.space
    other = Run.read(source)
    theirs = other.space
    for what, own, its in (
        ("choices", _choices(space), _choices(theirs)),
        ("settings of the supernet", space.search.supernet, theirs.search.supernet),
    ):
        if own != its:
            raise RunError(f"{source}: its space has other {what}; search the space of that run, {source}/{SPACE}")
    kept = other.load_checkpoint(oneshot.NAME)
    if kept is None or kept.state["epoch"] < theirs.search.supernet.epochs:
        raise RunError(f"{source}: its supernet is not trained to the end; run the command that began that run again")
    run.save_checkpoint(oneshot.NAME, kept.tensors, kept.state)
    run.log("supernet", taken_from=source)
    trained = [Budget.parse(items) for items in other.config.get("targets", [other.config["budget"]])]
    if not any(_is_inside(request.budget, budget) for budget in trained):
        inside = " or ".join(str(budget) for budget in trained)
        run.warn(f"{source}: its supernet was trained inside {inside}; of networks beyond that a proxy loss says less")


def take_alone(run: Run, request: SearchRequest, chosen: Iterable[Architecture]) -> None:
    """Copy what other searches of the same supernet have trained alone, on the same terms, of the chosen networks.

    These are the search of the run whose supernet it is, or those under each of its budgets. What cannot be read of
    them is trained anew, as if it were not there.
    """
    supernet_of = Path(request.supernet_of)
    if not request.supernet_of or not holds_run(supernet_of):  # moved since, perhaps
        return
    names = dict.fromkeys(arch.id for arch in chosen)
    stages = len(request.settings.retrain.recipe.stages)
    for folder in _searches(run, supernet_of):
        if (other := _alike(folder, run, request)) is None:
            continue
        taken = []
        for name in names:
            try:
                if take_trained(name, stages, source=other, into=run):
                    taken.append(name)
            except RunError as problem:
                run.warn(f"{problem}; {name} is trained anew")
        if taken:
            run.log("reused", taken_from=str(folder), networks=taken)


def check_held_out(request: SearchRequest, data: DataSet) -> None:
    """Raise unless the supernet that a request names was trained on the images that are trained on now, if it is known.

    Among the images that are held out now are then none that it has seen.

    Raises:
        RunError: it was trained on others.
    """
    source = request.supernet_of
    if not source or not Path(source).is_dir():  # moved since, perhaps; where it is needed, taking it says so
        return
    other = Run.read(source)
    before = other.config.get("images", {})
    known, now = before.get("checksums", {}).get("train"), data.facts()["checksums"]["train"]
    if known not in (None, now):
        raise RunError(
            f"{source}: its supernet was trained on other images than the {len(data.train)} of {data.name} that are "
            f"not held out now ({before.get('train')} then), so that it may have seen those that are; give the images "
            f"of that run, its seed {other.config.get('seed')}, and its search.validation and search.limit"
        )


def _searches(run: Run, supernet_of: Path) -> list[Path]:
    """Return the folders of other searches of a supernet."""
    try:
        source = Run.read(supernet_of)
        folders = [*TargetResults(source).folders.values()] if source.has_targets else [supernet_of]
    except BnasError as problem:
        run.warn(f"{problem}; nothing that it has trained alone is taken")
        return []
    return [folder for folder in folders if holds_run(folder) and not folder.samefile(run.path)]


def _alike(folder: Path, run: Run, request: SearchRequest) -> Run | None:
    """Return another search of the same supernet if it trains a network alone as this one does; None if it does not."""
    try:
        other = Run.read(folder)
        if any("minutes" in one.config for one in (run, other)):  # which decide how long
            return None
        differences = Asked(run.config, run.space_yaml).differences(Asked(other.config, other.space_yaml))
        same = all(is_free(key, BESIDE) for key in differences)
        if same and request.settings.teacher:
            same = _same_teacher(run, other)
        if same and request.settings.retrain.start == "supernet":
            same = _same_supernet(run, other)
    except BnasError as problem:
        run.warn(f"{problem}; nothing that it has trained alone is taken")
        return None
    return other if same else None


def _same_teacher(run: Run, other: Run) -> bool:
    weights = [one.teacher.read().manifest["weights_sha256"] for one in (run, other) if one.teacher.is_sound()]
    return len(weights) == 2 and weights[0] == weights[1]


def _same_supernet(run: Run, other: Run) -> bool:
    """Whether two runs have the same supernet; one may have been searched anew since the other took it."""
    ours, theirs = (one.load_checkpoint(oneshot.NAME) for one in (run, other))
    return (
        ours is not None
        and theirs is not None
        and ours.tensors.keys() == theirs.tensors.keys()
        and all(torch.equal(tensor, theirs.tensors[name]) for name, tensor in ours.tensors.items())
    )


def _choices(space: SearchSpace) -> dict[str, object]:
    return space.model_dump(exclude={"search", "latency"})


def _is_inside(budget: Budget, of: Budget) -> bool:
    """Whether what fits one budget fits another."""
    limits = dict(budget.limits)
    return all(
        name in limits and limits[name].at_most <= limit.at_most and limits[name].at_least >= limit.at_least
        for name, limit in of.limits
    )
