"""A request and its images -> how long the phases of a search take here, by some steps; and settings that fit a time.

What is measured is the work itself, as it is done later, on some batches of the images.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from bnas.api.making import maker
from bnas.api.request import SearchRequest
from bnas.api.teacher import lesson_of, stand_in
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import DataSet
from bnas.errors import SpecError
from bnas.searcher.score import Scorer
from bnas.seeds import seeded
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe, batch_for
from bnas.space.settings import Retraining, SearchSettings
from bnas.train import ALONE, SharedStore, build_for, train_staged, train_supernet
from bnas.train.halving import GIVEN, cuts_of, halved
from bnas.train.supernet_loss import Draws

BATCHES, NETWORKS = 6, 3  # that are tried of each phase
DRAWN_FOR_ONE = 4  # of so many draws the dearest stands for one that is trained alone: winners use most of a budget
FEWEST_TRIALS = 8
MOST = 1000.0  # times what a space asks for, which more minutes do not go beyond
NO_STORE = SharedStore(None, ALONE)


class Pace(NamedTuple):
    """Seconds of a step of the supernet's training, of scoring a candidate, of a step of a network or teacher alone."""

    supernet_step: float
    score: float
    alone_step: float
    teacher_step: float = 0.0


class Plan(NamedTuple):
    """Seconds that the phases of a search are expected to take."""

    supernet: float
    scoring: float
    retrain: float
    teacher: float = 0.0

    @property
    def seconds(self) -> float:
        """All of them."""
        return sum(self)


class _Clock:
    """A progress that notes when it was called, by phase."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        self._times.setdefault(phase, []).append(time.perf_counter())

    def step(self) -> float:
        """Return the seconds from one call to the next within a phase: their median."""
        return median(b - a for times in self._times.values() for a, b in pairwise(times))


def pace_of(request: SearchRequest, data: DataSet) -> Pace:
    """Return how fast the phases of a search go here; takes some seconds."""
    settings, draws, device = request.settings, request.draws, request.device
    with seeded(0):
        steps, teacher = _Clock(), stand_in(request)
        some = _some(data, settings.supernet.batch)
        supernet = train_supernet(
            request.space, settings.supernet.model_copy(update={"epochs": _passes(some, settings.supernet.batch)}),
            some, seed=0, store=NO_STORE, device=device, draws=draws, lesson=lesson_of(settings, teacher),
            progress=steps,
        )  # fmt: skip
        scorer = Scorer(supernet, data, settings.scoring, seed=0, device=device)
        archs = [draws(number) for number in range(NETWORKS)]
        score = median(_seconds(scorer, arch) for arch in archs)
        return Pace(steps.step(), score, alone_step(_dearest(draws), request, data), _teacher_step(request, data))


def _dearest(draws: Draws) -> list[Architecture]:
    """Return the dearest of some networks that are drawn, in ops."""
    drawn = [draws(number) for number in range(DRAWN_FOR_ONE * NETWORKS)]
    return sorted(drawn, key=lambda arch: cost(plan(arch)).ops)[-NETWORKS:]


def alone_step(archs: Sequence[Architecture], request: SearchRequest, data: DataSet) -> float:
    """Return the seconds of a training step of networks alone, over the stages of the recipe."""
    recipe, steps, teacher = request.settings.retrain.recipe, _Clock(), stand_in(request)
    some = _some(data, recipe.batch)
    short = recipe.lasting(_passes(some, recipe.batch) * len(recipe.stages))
    for arch in archs:
        train_staged(
            partial(build_for, arch), short, some, name=arch.id, seed=0, store=NO_STORE,
            device=request.device, teacher=teacher, progress=steps,
        )  # fmt: skip
    return steps.step()


def _teacher_step(request: SearchRequest, data: DataSet) -> float:
    """Return the seconds of a training step of the teacher; 0 where none is trained."""
    teacher, steps = request.settings.teacher, _Clock()
    if request.teacher is None or request.teacher.folder or teacher is None or teacher.recipe is None:
        return 0.0
    some = _some(data, teacher.recipe.batch)
    train_staged(
        maker(request.teacher.described, 0),
        teacher.recipe.lasting(_passes(some, teacher.recipe.batch) * len(teacher.recipe.stages)),
        some, name="teacher", seed=0, store=NO_STORE, device=request.device,
        progress=steps,
    )  # fmt: skip
    return steps.step()


def planned(settings: SearchSettings, pace: Pace, data: DataSet, *, is_trained: bool = False, given: int = 0) -> Plan:
    """Return how long the phases take with some settings.

    Args:
        given: how many networks to start with there are, which are trained to the end.
        is_trained: whether the supernet, and its teacher, are another run's, and not trained.
    """
    steps = _steps(data, settings.supernet.batch)
    tops = settings.retrain.tops | {GIVEN: given}
    taught = 0.0
    if settings.teacher and settings.teacher.recipe:
        taught = settings.teacher.recipe.epochs * _steps(data, settings.teacher.recipe.batch) * pace.teacher_step
    return Plan(
        0.0 if is_trained else settings.supernet.epochs * steps * pace.supernet_step,
        2 * settings.trials * pace.score,  # the search's and its twin's
        retrain_seconds(settings.retrain, tops, pace.alone_step, data),
        0.0 if is_trained else taught,
    )


def retrain_seconds(settings: Retraining, tops: Mapping[str, int], step: float, data: DataSet) -> float:
    """Return how long so many networks of each origin take alone, halved as the settings say."""
    recipe = settings.recipe
    before = recipe.epochs - recipe.stages[-1].epochs
    epochs = 0
    for origin, count in tops.items():
        epochs += before * count
        reached = 0
        for cut in cuts_of(settings):
            epochs += (cut - reached) * count
            count, reached = count if origin == GIVEN else halved(count), cut
    steps = epochs * _steps(data, recipe.batch)
    if settings.final_on_all:
        images = len(data.train) + len(data.validation)
        steps += recipe.epochs * (images // batch_for(recipe.batch, len(data.train)))
    return steps * step


def fitted(request: SearchRequest, pace: Pace, data: DataSet, seconds: float, *, trials: int | None) -> SearchRequest:
    """Return a request with as much of everything, in the proportions of its space, as fits a time.

    Args:
        trials: that were asked for, and stay as they are; None lets them grow and shrink like the epochs.
    Raises:
        SpecError: the least that a search does takes longer.
    """
    is_trained, low, high = bool(request.supernet_of), 1 / MOST, MOST

    def needed(factor: float) -> float:
        scaled = _scaled(request.settings, factor, trials, is_trained=is_trained)
        return planned(scaled, pace, data, is_trained=is_trained, given=len(request.given)).seconds

    if (least := needed(low)) > seconds:
        raise SpecError(
            f"minutes: {seconds / 60:.2g} are too few here, where the least takes {least / 60:.2g}; give more, or a "
            "space of smaller networks or fewer trials"
        )
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if needed(middle) <= seconds else (low, middle)
    return request.with_settings(_scaled(request.settings, low, trials, is_trained=is_trained))


def longest(settings: Retraining, tops: Mapping[str, int], step: float, data: DataSet, seconds: float) -> Retraining:
    """Return retraining whose last stage has the epochs that fit a time: at least one, at most twice those planned."""
    last = settings.recipe.stages[-1].epochs
    choices = [with_last(settings, epochs) for epochs in range(1, 2 * last + 1)]
    fits = [choice for choice in choices if retrain_seconds(choice, tops, step, data) <= seconds]
    return (fits or choices[:1])[-1]


def with_last(settings: Retraining, epochs: int) -> Retraining:
    """Return retraining whose last stage has so many epochs."""
    *before, last = settings.recipe.stages
    stages = (*before, last.model_copy(update={"epochs": epochs}))
    return settings.model_copy(update={"recipe": settings.recipe.model_copy(update={"stages": stages})})


def _scaled(settings: SearchSettings, factor: float, trials: int | None, *, is_trained: bool) -> SearchSettings:
    """Return settings with so many times the trials and epochs; what is trained already stays as it was."""
    scaled: dict[str, Any] = {
        "trials": max(FEWEST_TRIALS, round(settings.trials * factor)) if trials is None else trials,
        "retrain": settings.retrain.model_copy(update={"recipe": _lasting(settings.retrain.recipe, factor)}),
    }
    if not is_trained:
        epochs, teacher = max(1, round(settings.supernet.epochs * factor)), settings.teacher
        scaled["supernet"] = settings.supernet.model_copy(update={"epochs": epochs})
        if teacher and teacher.recipe:
            scaled["teacher"] = teacher.model_copy(update={"recipe": _lasting(teacher.recipe, factor)})
    return settings.model_copy(update=scaled)


def _lasting(recipe: Recipe, factor: float) -> Recipe:
    return recipe.lasting(max(1, round(recipe.epochs * factor)))


def _some(data: DataSet, batch: int | None) -> DataSet:
    """Return a data set with some batches of training images."""
    images = len(data.train)
    return replace(data, train=data.train.take(min(BATCHES * batch_for(batch, images), images), seed=0))


def _passes(data: DataSet, batch: int | None) -> int:
    """Return the epochs in which there are two steps, from one of which to the other there is a time."""
    return 1 if _steps(data, batch) > 1 else 2


def _steps(data: DataSet, batch: int | None) -> int:
    """Return the steps of an epoch."""
    return data.train.steps(batch_for(batch, len(data.train)))


def _seconds(scorer: Scorer, arch: Architecture) -> float:
    begun = time.perf_counter()
    scorer(arch)
    return time.perf_counter() - begun
