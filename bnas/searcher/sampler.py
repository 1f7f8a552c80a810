"""What to try next. Every sampler is an Optuna sampler, made anew for each proposal from the seed and its number.

So a proposal depends on the seed, its number and what was scored before it, and on nothing that a killed process
would take with it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from bnas.cost import Budget
from bnas.feasible import cost_of, repair, sample_within
from bnas.space import Genes, SearchSpace

MakeSampler = Callable[[SearchSpace, Budget, int], BaseSampler]

POPULATION = 48
TOURNAMENT = 8
_TRIES = 60  # children drawn before a fresh sample is taken instead


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return the dimensions that leave a choice, as ranges of indices (which need not be numbers themselves)."""
    return {d.name: IntDistribution(0, len(d.choices) - 1) for d in space.dimensions if len(d.choices) > 1}


def to_genes(space: SearchSpace, params: Mapping[str, Any]) -> Genes:
    """Return the genotype of a trial's parameters."""
    return space.canonical([params.get(d.name, 0) for d in space.dimensions])


def to_params(space: SearchSpace, genes: Genes) -> dict[str, int]:
    """Return the parameters of a trial for a genotype."""
    return {d.name: gene for d, gene in zip(space.dimensions, genes, strict=True) if len(d.choices) > 1}


class FeasibleSampler(BaseSampler):
    """A sampler that proposes whole genotypes inside the budget."""

    def __init__(self, space: SearchSpace, budget: Budget, seed: int) -> None:
        self._space, self._budget, self._seed = space, budget, seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every dimension: they are drawn together."""
        return distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the next candidate."""
        return to_params(self._space, self._propose(study, Random(f"{self._seed}/propose")))

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """Refuse: nothing is drawn on its own."""
        raise NotImplementedError(f"{name} is not a dimension of the space")

    def _propose(self, study: Study, random: Random) -> Genes:
        raise NotImplementedError


class RandomWithin(FeasibleSampler):
    """Even draws from inside the budget: what a search has to beat."""

    def _propose(self, study: Study, random: Random) -> Genes:
        return sample_within(self._space, self._budget, random)


class Evolution(FeasibleSampler):
    """Aging evolution, feasible by construction, no repeats.

    Parents come from the last POPULATION scored candidates only, so that a lucky score dies out. A parent is the best
    of a random TOURNAMENT, by accuracy or, every other time, by how many of the tournament beat it in both accuracy
    and ops, which keeps the whole front alive. A child over the budget is moved back inside.
    Source: Real et al., Regularized Evolution for Image Classifier Architecture Search, 2019 (arXiv:1802.01548).
    """

    def _propose(self, study: Study, random: Random) -> Genes:
        space, trials = self._space, study.get_trials(deepcopy=False)
        in_hand = [trial for trial in trials if trial.state != TrialState.RUNNING or trial.params]  # but for this one
        seen = {to_genes(space, trial.params) for trial in in_hand}
        scored = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        for _ in range(_TRIES if len(scored) >= POPULATION else 0):
            child = self._child(scored[-POPULATION:], random)
            if child is not None and child not in seen:
                return child
        for _ in range(_TRIES):
            fresh = sample_within(space, self._budget, random)
            if fresh not in seen:
                return fresh
        return fresh

    def _child(self, population: list[FrozenTrial], random: Random) -> Genes | None:
        space = self._space
        first, second = (self._parent(population, random) for _ in range(2))
        genes = to_genes(space, first.params)
        if random.random() < 0.3:
            genes = space.cross(genes, to_genes(space, second.params), random)
        genes = space.mutate(genes, random, changes=random.choice((1, 1, 2, 3)))
        if self._budget.admits(cost_of(space, genes)):
            return genes
        return repair(space, genes, self._budget, random)

    def _parent(self, population: list[FrozenTrial], random: Random) -> FrozenTrial:
        drawn = random.sample(population, min(TOURNAMENT, len(population)))
        if random.random() < 0.5:
            return max(drawn, key=lambda trial: trial.values[0])
        return min(drawn, key=lambda trial: (sum(_beats(other, trial) for other in drawn), -trial.values[0]))


def _beats(one: FrozenTrial, other: FrozenTrial) -> bool:
    (accuracy, ops), (its_accuracy, its_ops) = one.values, other.values
    return accuracy >= its_accuracy and ops <= its_ops and (accuracy, ops) != (its_accuracy, its_ops)


def _nsga2(space: SearchSpace, budget: Budget, seed: int) -> BaseSampler:
    return NSGAIISampler(population_size=POPULATION, seed=seed)


def _tpe(space: SearchSpace, budget: Budget, seed: int) -> BaseSampler:
    with_warnings_off = partial(TPESampler, multivariate=True, n_startup_trials=POPULATION // 2, seed=seed)
    return with_warnings_off()


SAMPLERS: dict[str, MakeSampler] = {
    "evolution": Evolution,
    "nsga2": _nsga2,
    "tpe": _tpe,
    "random": RandomWithin,
}

optuna.logging.set_verbosity(optuna.logging.WARNING)
