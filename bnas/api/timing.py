"""A search that may take so many minutes -> settings that fit, a plan that is said, and the moment when time is up."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bnas.api.pace import Plan, alone_step, fitted, longest, pace_of, planned, with_last
from bnas.api.progress_bars import say
from bnas.api.request import SearchRequest
from bnas.api.threads import threads_here
from bnas.data import DataSet
from bnas.errors import SpecError
from bnas.progress import Progress
from bnas.report.findings import work_of
from bnas.runs import Run
from bnas.runs.settings import holds_run
from bnas.space.arch import Architecture
from bnas.space.settings import Retraining, SearchSettings
from bnas.train import Ranks
from bnas.train.thread_count import using

LASTS_EVENT = "alone"  # the event of how many epochs the last stage has
SHARE = 0.9  # of the time that is planned with: steps vary, and reading images and writing reports take some


def check_minutes(minutes: float | None, ranks: Ranks) -> None:
    """Raise unless a search can be given so many minutes.

    Raises:
        SpecError: it cannot; says why.
    """
    if minutes is None:
        return
    if not 0 < minutes < math.inf:
        raise SpecError(f"minutes: a positive number is needed, but got {minutes}")
    if ranks.count > 1:
        raise SpecError(
            "minutes: are for a search in one process; with torchrun leave them out, and say epochs and trials"
        )


def in_time(
    request: SearchRequest, data: DataSet, out: str | Path, *, trials: int | None, progress: Progress | bool
) -> SearchRequest:
    """Return a request whose settings fit its minutes: those that its run was begun with, or by the pace of now."""
    assert request.minutes is not None
    if holds_run(Path(out)):
        return _as_begun(request, Run.read(out), trials=trials)
    with using(threads_here(request, data)):
        pace = pace_of(request, data)
    made = fitted(request, pace, data, SHARE * 60 * request.minutes, trials=trials)
    plan = planned(made.settings, pace, data, is_trained=bool(made.supernet_of), given=len(made.given))
    say(_said(made.settings, plan, request.minutes, out), progress)
    return made


class TimeUp:
    """Says when the minutes of a run are over, of which what it took before it was stopped counts too."""

    def __init__(self, run: Run, request: SearchRequest) -> None:
        self._run, self._request = run, request
        work = work_of(run.events())
        self._end = math.inf
        if request.minutes is not None:
            self._end = time.monotonic() + 60 * request.minutes - (work.seconds if work else 0.0)

    def __call__(self) -> bool:
        return time.monotonic() > self._end

    def retraining(self, chosen: Mapping[str, Sequence[Architecture]], data: DataSet) -> Retraining:
        """Return how the chosen networks are trained alone in what time is left, which the run keeps."""
        settings = self._request.settings.retrain
        if self._request.minutes is None:
            return settings
        tops = {origin: len(archs) for origin, archs in chosen.items()}
        if (known := known_retraining(self._run, settings)) is not None:
            return known
        step = alone_step([arch for archs in chosen.values() for arch in archs], self._request, data)
        made = longest(settings, tops, step, data, SHARE * (self._end - time.monotonic()))
        self._run.log(LASTS_EVENT, epochs=made.recipe.stages[-1].epochs)
        return made


def known_retraining(run: Run, settings: Retraining) -> Retraining | None:
    """Return how the networks of a run of some minutes are trained alone, as far as it was found; else None.

    Args:
        settings: of its space, which say what was planned.
    """
    known = [event["epochs"] for event in run.events() if event["event"] == LASTS_EVENT]
    return with_last(settings, known[-1]) if known else None


def _as_begun(request: SearchRequest, run: Run, *, trials: int | None) -> SearchRequest:
    """Return a request with the epochs and trials that a run was begun with.

    All else stays as it is asked now, so that a run which was asked something else is not taken for this one.
    """
    begun, own, teacher = run.space.search, request.settings, request.settings.teacher
    alone = own.retrain.recipe.lasting(begun.retrain.recipe.epochs)
    if teacher and teacher.recipe and begun.teacher and begun.teacher.recipe:
        lasting = teacher.recipe.lasting(begun.teacher.recipe.epochs)
        teacher = teacher.model_copy(update={"recipe": lasting})
    changes = {
        "trials": begun.trials if trials is None else trials,
        "supernet": own.supernet.model_copy(update={"epochs": begun.supernet.epochs}),
        "retrain": own.retrain.model_copy(update={"recipe": alone}),
        "teacher": teacher,
    }
    return request.with_settings(own.model_copy(update=changes))


def _said(settings: SearchSettings, plan: Plan, minutes: float, out: str | Path) -> str:
    retrain, teacher = settings.retrain, settings.teacher and settings.teacher.recipe
    taught = f"teacher {teacher.epochs} epochs, {plan.teacher / 60:.1f} min; " if teacher and plan.teacher else ""
    trained = f"supernet {settings.supernet.epochs} epochs, {plan.supernet / 60:.1f} min; " if plan.supernet else ""
    return (
        f"plan for {minutes:g} minutes, by the pace measured here: {taught}{trained}{settings.trials} trials and as "
        f"many of the random twin, {plan.scoring / 60:.1f} min; the best alone, {retrain.recipe.epochs} epochs at "
        f"most, {plan.retrain / 60:.1f} min; all of it in {out}"
    )
