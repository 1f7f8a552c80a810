"""What to try next. Every sampler is an Optuna sampler, made anew for each proposal from the seed and its number.

So a proposal depends on the seed, its number and what was scored before it, and on nothing that a killed process
would take with it.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from bnas.cost.budget import Budget
from bnas.errors import BnasError, SpecError
from bnas.lookup import FAILURES, reason
from bnas.searcher.feasible import cost_of, repair, sample_within
from bnas.space.space import Genes, SearchSpace

MakeSampler = Callable[[SearchSpace, Budget, int], BaseSampler]
_POPULATION = (8, 48)  # candidates, at least and at most


def population(space: SearchSpace) -> int:
    """Return how many candidates a search draws before it breeds: a quarter of its trials, from 8 to 48."""
    least, most = _POPULATION
    return max(least, min(most, space.search.trials // 4))


def ask(study: Study, make: MakeSampler, space: SearchSpace, budget: Budget, *, seed: int) -> tuple[Trial, Genes]:
    """Return a new trial of a study and the genotype that it proposes.

    A space that is `first_by_metric` draws the first population itself, inside the budget; ours of the samplers do so
    anyway, others are given those draws.

    Raises:
        SpecError: a sampler of the user's own fails.
    """
    study.sampler = make(space, budget, seed)
    if begins_by_metric(study, space) and not isinstance(study.sampler, FeasibleSampler):
        study.enqueue_trial(to_params(space, sample_within(space, budget, Random(f"{seed}/first"))))
    try:
        trial = study.ask(distributions(space))
    except FAILURES as problem:
        if isinstance(problem, BnasError) or type(study.sampler).__module__.partition(".")[0] == "bnas":
            raise
        raise SpecError(f"sampler {type(study.sampler).__name__}: proposing fails: {reason(problem)}") from problem
    return trial, to_genes(space, trial.params)


def begins_by_metric(study: Study, space: SearchSpace) -> bool:
    return space.precision == "first_by_metric" and len(study.get_trials(deepcopy=False)) < population(space)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return the dimensions that leave a choice, as ranges of indices (which need not be numbers themselves)."""
    return {d.name: IntDistribution(0, len(d.choices) - 1) for d in space.dimensions if len(d.choices) > 1}


def to_genes(space: SearchSpace, params: Mapping[str, Any]) -> Genes:
    """Return the genotype of a trial's parameters."""
    return space.canonical([params.get(d.name, 0) for d in space.dimensions])


def as_proposed(space: SearchSpace, params: Mapping[str, Any]) -> Genes:
    """Return the genotype that was proposed with these parameters: a given one may be none that the space draws."""
    return SearchSpace.canonical(space, [params.get(d.name, 0) for d in space.dimensions])


def to_params(space: SearchSpace, genes: Genes) -> dict[str, int]:
    """Return the parameters of a trial for a genotype."""
    return {d.name: gene for d, gene in zip(space.dimensions, genes, strict=True) if len(d.choices) > 1}


class FeasibleSampler(BaseSampler):
    """A sampler that proposes whole genotypes inside the budget."""

    draws = 1  # genotypes looked at before one is proposed that is not new
    is_pure = True  # a proposal follows from the seed and from what trials were told; nothing else is kept of it

    def __init__(self, space: SearchSpace, budget: Budget, seed: int) -> None:
        self._space, self._budget, self._seed = space, budget, seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every dimension: they are drawn together."""
        return distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the next candidate."""
        return to_params(self._space, self._propose(study, trial, Random(f"{self._seed}/propose")))

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """Refuse: nothing is drawn on its own."""
        raise NotImplementedError(f"{name} is not a dimension of the space")

    def _propose(self, study: Study, trial: FrozenTrial, random: Random) -> Genes:
        raise NotImplementedError

    def _inside(self, genes: Genes, random: Random) -> Genes | None:
        """Return a genotype, moved inside the budget if it is outside; None if no way leads there."""
        if self._budget.admits(cost_of(self._space, genes)):
            return genes
        return repair(self._space, genes, self._budget, random)


class Given(FeasibleSampler):
    """Proposes a genotype that is known."""

    def __init__(self, space: SearchSpace, budget: Budget, genes: Genes) -> None:
        super().__init__(space, budget, seed=0)
        self._genes = genes

    def _propose(self, study: Study, trial: FrozenTrial, random: Random) -> Genes:
        return self._genes
