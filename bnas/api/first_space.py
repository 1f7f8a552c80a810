"""A data set, a budget and a time -> a first space for them, as commented YAML that a person goes on with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bnas.amounts import show
from bnas.api.first_remarks import on_choices, on_search, written
from bnas.api.opening import load_matching
from bnas.api.pace import Plan, fitted, pace_of, planned
from bnas.api.progress_bars import say, say_images
from bnas.api.request import Items, SearchRequest, resolve
from bnas.api.threads import threads_here
from bnas.api.timing import SHARE, check_minutes
from bnas.cost.budget import Budget, Limit
from bnas.data import DataSet, Glance, glance_at
from bnas.errors import SpecError
from bnas.lookup import find
from bnas.progress import Progress
from bnas.runs.files import replacing
from bnas.searcher.proposal import SIDES, Proposal, Seen, proposed, sensible_size
from bnas.space.settings import SearchSettings
from bnas.space.space import SearchSpace
from bnas.space.targets import TARGETS
from bnas.space.values import Size
from bnas.spec import parse, parse_yaml
from bnas.train import ALONE
from bnas.train.thread_count import using

TRIALS = 100
HELD_OUT = 120  # validation images that tell networks apart, about, if that is no more than a quarter of all
SUPERNET = {"epochs": 16, "steps": 1500, "rate": 4.0e-3}
ALONE_STAGES = (
    {"epochs": 8, "steps": 600, "weights": "real", "rate": 4.0e-3},
    {"epochs": 20, "steps": 1500, "rate": 4.0e-3},
)
LONGEST = 4  # times as long as usual that is trained where there are minutes enough
LARGE = 96  # pixels a side from which fewer images than usual are scored at once


class FirstSpace(NamedTuple):
    """A space that was proposed, and how long its search is expected to take here."""

    space: SearchSpace
    minutes: float


def init(
    data: Any,
    *,
    budget: Items | None = None,
    minutes: float | None = None,
    deploy: str | None = None,
    size: Size | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    progress: Progress | bool = True,
) -> SearchSpace:
    """Return a first space for a data set, which `search` takes, and write it as YAML with a remark on each choice.

    Args:
        data: as `load_data` takes it.
        budget: as `search` takes it; None takes one that suits the images.
        minutes: that the search may take on this machine: how long is trained follows from them, by the pace that is
            measured here, up to some times as long as so many images want. None trains as long as they want.
        deploy: what the networks are for, `c`, `finn`, `hls4ml` or `packed`.
        size: height and width to which images are brought; None takes a sensible one.
        out: the YAML file, which must not be there yet; None writes nothing.
        device: `cpu`, `cuda`, `cuda:1`; None takes a GPU where there is one.
        progress: whether to say on stderr what the images are and how long it will take.
    Raises:
        DataError: the images are of one class, not known, too few, ...
        BudgetError: no network fits; says what the smallest needs.
        SpecError: the file is there already, or the minutes are too few.
    """
    return first_space(
        data, budget=budget, minutes=minutes, deploy=deploy, size=size, out=out, device=device, progress=progress
    ).space


def first_space(
    data: Any,
    *,
    budget: Items | None,
    minutes: float | None,
    deploy: str | None,
    size: Size | None,
    out: str | Path | None,
    device: str | None,
    progress: Progress | bool,
) -> FirstSpace:
    """Return what `init` writes, with the same arguments.

    Raises:
        SpecError: `out` is there already.
        BnasError: as of `init`.
    """
    if out is not None and Path(out).exists():
        raise SpecError(f"{out}: is there already; give another file, or remove it")
    check_minutes(minutes, ALONE)
    glance = glance_at(data)
    made = _proposed(glance, Budget.parse(budget or ()), deploy, size)
    asked = resolve(made.values | {"search": settings_for(made, glance)}, data, device=device)
    images = load_matching(asked)
    say_images(images, progress)
    request, plan = _in_time(asked.on(images), images, minutes)
    text = _text(made, glance, images, request.settings, plan, is_fitted=minutes is not None)
    say(_said(plan, minutes), progress)
    if out is not None:
        with replacing(Path(out)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    space = parse(SearchSpace, parse_yaml(text, source="space"), source="space")
    return FirstSpace(space, plan.seconds / 60)


def _proposed(glance: Glance, budget: Budget, deploy: str | None, size: Size | None) -> Proposal:
    """Return a space for images that were glanced at."""
    if deploy is not None:
        find(deploy, TARGETS, what="deployment target")
    if size is not None and min(size) < 1:
        raise SpecError(f"size: height and width of the input must be 1 or more pixels, but got {size}")
    if "latency_ms" in dict(budget.limits):
        raise SpecError(
            "budget latency_ms: needs a table of what the parts of a space take; write the space without this limit, "
            "measure with bnas latency-table SPACE -o FILE, and search with --latency FILE --budget latency_ms=..."
        )
    seen = Seen(glance.shapes[0][0], size or sensible_size([s[1:] for s in glance.shapes]), len(glance.class_names))
    return proposed(seen, budget, deploy=deploy, sides=() if size else SIDES)


def _text(
    made: Proposal, glance: Glance, images: DataSet, fitting: SearchSettings, plan: Plan, *, is_fitted: bool
) -> str:
    settings = settings_for(made, glance)
    if is_fitted:
        settings |= _counted(settings, fitting)
    remarks = on_choices(made, glance) | on_search(made, glance, fitting, len(images.train), plan)
    return written(made, settings, remarks, lead=images.summary())


def settings_for(made: Proposal, glance: Glance) -> dict[str, Any]:
    """Return how a proposed space is searched, as its YAML says it."""
    settings: dict[str, Any] = {
        "budget": {name: _short(limit) for name, limit in made.budget.limits},
        "trials": TRIALS,
    }
    if not glance.has_validation:
        settings["validation"] = share_held_out(glance.training)
    settings["augment"] = list(("shift",) if glance.augmentation is None else glance.augmentation)
    settings["supernet"] = dict(SUPERNET)
    if max(made.space.input[1:]) >= LARGE:
        settings["scoring"] = {"batch": 100}
    stages = [dict(stage) for stage in ALONE_STAGES]
    return settings | {"retrain": {"top": 1, "recipe": {"stages": stages}}}


def share_held_out(images: int) -> float:
    """Return the share of the training images to choose networks by: about `HELD_OUT`, a tenth to a quarter."""
    return round(min(0.25, max(0.1, HELD_OUT / images)), 2)


def _in_time(request: SearchRequest, images: DataSet, minutes: float | None) -> tuple[SearchRequest, Plan]:
    """Return the request that fits some minutes, or as it is, and how long it takes."""
    with using(threads_here(request, images)):
        pace = pace_of(request, images)
    usual = planned(request.settings, pace, images)
    if minutes is None:
        return request, usual
    seconds = min(SHARE * 60 * minutes, LONGEST * usual.seconds)
    request = fitted(request, pace, images, seconds, trials=None)
    return request, planned(request.settings, pace, images)


def _short(limit: Limit) -> str:
    """Return a limit as `Budget.parse` takes it, in a few digits where these say it exactly."""
    texts = [f"{show(limit.at_least)}..{show(limit.at_most)}", show(limit.at_most), f"{show(limit.at_least)}.."]
    return next((text for text in texts if _is(text, limit)), limit.written())


def _is(text: str, limit: Limit) -> bool:
    try:
        return Budget.parse({"ops": text}).limits[0][1] == limit
    except SpecError:  # inf is no amount
        return False


def _counted(settings: Mapping[str, Any], fitting: SearchSettings) -> dict[str, Any]:
    """Return the settings that fit some minutes, in epochs alone."""
    stages = settings["retrain"]["recipe"]["stages"][-len(fitting.retrain.recipe.stages) :]
    counted = [
        {"epochs": own.epochs} | {key: value for key, value in stage.items() if key not in ("epochs", "steps")}
        for stage, own in zip(stages, fitting.retrain.recipe.stages, strict=True)
    ]
    return {
        "trials": fitting.trials,
        "supernet": {"epochs": fitting.supernet.epochs, "rate": settings["supernet"]["rate"]},
        "retrain": settings["retrain"] | {"recipe": {"stages": counted}},
    }


def _said(plan: Plan, minutes: float | None) -> str:
    """Return in words how long a search takes."""
    return (
        f"a search of it takes about {plan.seconds / 60:.1f} minutes here: supernet {plan.supernet / 60:.1f}, scoring "
        f"{plan.scoring / 60:.1f}, the best alone {plan.retrain / 60:.1f}"
    ) + ("" if minutes is not None else "; --minutes makes it fit another time")
