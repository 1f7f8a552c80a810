"""The samplers by name: evolution, random draws, and Optuna's own, moved inside the budget; and a user's own."""

from collections.abc import Sequence
from random import Random

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from bnas.cost.budget import Budget
from bnas.errors import BnasError, SpecError
from bnas.lookup import FAILURES, find, reason
from bnas.searcher.evolution import Evolution
from bnas.searcher.feasible import sample_within
from bnas.searcher.sampler import FeasibleSampler, MakeSampler, begins_by_metric, distributions, population, to_genes
from bnas.space.space import Genes, SearchSpace

_BEFORE_A_MODEL = 24  # trials that tpe draws evenly before it models what they scored


class RandomWithin(FeasibleSampler):
    """Even draws from inside the budget: what a search has to beat."""

    def _propose(self, study: Study, trial: FrozenTrial, random: Random) -> Genes:
        return sample_within(self._space, self._budget, random)


class MovedInside(FeasibleSampler):
    """A sampler of Optuna's whose proposals are moved inside the budget, so that it learns from each of them."""

    is_pure = False  # theirs keep what they like in the study

    def __init__(self, inner: BaseSampler, space: SearchSpace, budget: Budget, seed: int) -> None:
        super().__init__(space, budget, seed)
        self._inner = inner

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Let the sampler prepare."""
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Let the sampler note what became of a trial."""
        self._inner.after_trial(study, trial, state, values)

    def _propose(self, study: Study, trial: FrozenTrial, random: Random) -> Genes:
        if begins_by_metric(study, self._space):
            return sample_within(self._space, self._budget, random)
        inner = self._inner
        params = dict(inner.sample_relative(study, trial, inner.infer_relative_search_space(study, trial)))
        for name, distribution in distributions(self._space).items():
            if name not in params:
                params[name] = inner.sample_independent(study, trial, name, distribution)
        genes = self._inside(to_genes(self._space, params), random)
        return sample_within(self._space, self._budget, random) if genes is None else genes


def _nsga2(space: SearchSpace, budget: Budget, seed: int) -> BaseSampler:
    return MovedInside(NSGAIISampler(population_size=population(space), seed=seed), space, budget, seed)


def _tpe(space: SearchSpace, budget: Budget, seed: int) -> BaseSampler:
    tpe = TPESampler(multivariate=True, n_startup_trials=_BEFORE_A_MODEL, seed=seed)
    return MovedInside(tpe, space, budget, seed)


SAMPLERS: dict[str, MakeSampler] = {
    "evolution": Evolution,
    "nsga2": _nsga2,
    "tpe": _tpe,
    "random": RandomWithin,
}

CONTRACT = (
    "a sampler is made for each proposal by a function (space, budget, seed) -> optuna.samplers.BaseSampler, as "
    "lambda space, budget, seed: TPESampler(seed=seed)"
)

optuna.logging.set_verbosity(optuna.logging.WARNING)


def find_sampler(sampler: str | MakeSampler) -> MakeSampler:
    """Return what makes the samplers of a search: an entry of `SAMPLERS`, or a user's own, checked as it is called.

    Args:
        sampler: a name, `pkg.mod:attr`, or a function (space, budget, seed) -> Optuna sampler.
    Raises:
        LookupFailed: nothing has this name.
        SpecError: it is no function; says the contract.
    """
    make = find(sampler, SAMPLERS, what="sampler") if isinstance(sampler, str) else sampler
    if make in SAMPLERS.values():
        return make
    name = sampler_name(sampler)
    if isinstance(make, BaseSampler) or not callable(make):
        raise SpecError(f"sampler {name}: is a {type(make).__name__}; {CONTRACT}")

    def checked(space: SearchSpace, budget: Budget, seed: int) -> BaseSampler:
        try:
            made = make(space, budget, seed)
        except BnasError:
            raise
        except FAILURES as problem:
            raise SpecError(f"sampler {name}: making it fails: {reason(problem)}; {CONTRACT}") from problem
        if not isinstance(made, BaseSampler):
            raise SpecError(f"sampler {name}: made a {type(made).__name__}; {CONTRACT}")
        return made

    return checked


def sampler_name(sampler: str | MakeSampler) -> str:
    """Return what a run calls a sampler: its name, or where the function was defined."""
    if isinstance(sampler, str):
        return sampler
    return f"{getattr(sampler, '__module__', '?')}:{getattr(sampler, '__qualname__', type(sampler).__name__)}"
