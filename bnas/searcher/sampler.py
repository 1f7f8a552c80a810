"""What to try next. Every sampler is an Optuna sampler, made anew for each proposal from the seed and its number.

So a proposal depends on the seed, its number and what was scored before it, and on nothing that a killed process
would take with it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from bnas.cost.budget import Budget
from bnas.searcher.feasible import cost_of, repair, sample_within
from bnas.searcher.predictor import Predictor
from bnas.space.space import Genes, SearchSpace

MakeSampler = Callable[[SearchSpace, Budget, int], BaseSampler]

_POPULATION = (8, 48)  # candidates, at least and at most
_BEFORE_A_MODEL = 24  # trials that tpe draws evenly before it models what they scored
_TRIES = 60  # children drawn before a fresh sample is taken instead
_BRED, _FRESH = 32, 32  # children and even draws among which the model chooses


def population(space: SearchSpace) -> int:
    """Return how many candidates a search draws before it breeds: a quarter of its trials, from 8 to 48."""
    least, most = _POPULATION
    return max(least, min(most, space.search.trials // 4))


def ask(study: Study, make: MakeSampler, space: SearchSpace, budget: Budget, *, seed: int) -> tuple[Trial, Genes]:
    """Return a new trial of a study and the genotype that it proposes.

    A space that is `first_by_metric` draws the first population itself, inside the budget; ours of the samplers do so
    anyway, others are given those draws.
    """
    study.sampler = make(space, budget, seed)
    if _begins_by_metric(study, space) and not isinstance(study.sampler, FeasibleSampler):
        study.enqueue_trial(to_params(space, sample_within(space, budget, Random(f"{seed}/first"))))
    trial = study.ask(distributions(space))
    return trial, to_genes(space, trial.params)


def _begins_by_metric(study: Study, space: SearchSpace) -> bool:
    return space.precision == "first_by_metric" and len(study.get_trials(deepcopy=False)) < population(space)


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

    draws = 1  # genotypes looked at before one is proposed that is not new

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


class RandomWithin(FeasibleSampler):
    """Even draws from inside the budget: what a search has to beat."""

    def _propose(self, study: Study, trial: FrozenTrial, random: Random) -> Genes:
        return sample_within(self._space, self._budget, random)


class MovedInside(FeasibleSampler):
    """A sampler of Optuna's whose proposals are moved inside the budget, so that it learns from each of them."""

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
        if _begins_by_metric(study, self._space):
            return sample_within(self._space, self._budget, random)
        inner = self._inner
        params = dict(inner.sample_relative(study, trial, inner.infer_relative_search_space(study, trial)))
        for name, distribution in distributions(self._space).items():
            if name not in params:
                params[name] = inner.sample_independent(study, trial, name, distribution)
        genes = self._inside(to_genes(self._space, params), random)
        return sample_within(self._space, self._budget, random) if genes is None else genes


class _Scored(NamedTuple):
    """What evolution breeds from."""

    genes: Genes
    score: float
    ops: float


class Evolution(FeasibleSampler):
    """Aging evolution, feasible by construction, no repeats; most children are chosen among many by a model.

    The first population are even draws, of each two the one with more ops, which are free to know. Parents come from
    the last `population` scored candidates only, so that a lucky score dies out. A parent is the best of a sixth of
    them, drawn at random, by score or, every other time, by how many of those beat it in both score and ops, which
    keeps the whole front alive. A child over the budget is moved back inside. Three of four proposals are the one of
    many children and even draws for which ridge regression on all that is scored predicts most. Where the space has no
    more to draw, as where a metric decides what is drawn, it breeds earlier.
    Source: Real et al., Regularized Evolution for Image Classifier Architecture Search, 2019 (arXiv:1802.01548); the
    begin by ops and the choice by a model are ours: benchmarks/ranking.py replays evolution without them.
    """

    draws = _TRIES
    dearest_of = 2  # even draws for each of the first population
    by_model = 0.75  # share of the proposals that the model chooses, once there are parents

    def _propose(self, study: Study, trial: FrozenTrial, random: Random) -> Genes:
        space, trials = self._space, study.get_trials(deepcopy=False)
        in_hand = [trial for trial in trials if trial.state != TrialState.RUNNING or trial.params]  # but for this one
        genes = {trial.number: to_genes(space, trial.params) for trial in in_hand}
        seen = set(genes.values())
        scored = [_Scored(genes[t.number], *t.values) for t in in_hand if t.state == TrialState.COMPLETE]
        size = population(space)
        breed = partial(self._child, scored[-size:], random)
        ways: tuple[Callable[[], Genes | None], ...]
        if len(scored) < size:
            ways = (partial(self._dearest, random), breed)
        else:
            ways = (breed, partial(sample_within, space, self._budget, random))
            if random.random() < self.by_model:
                drawn = [breed() for _ in range(_BRED)] + self._even(random)
                new = sorted({each for each in drawn if each is not None} - seen)
                if new:
                    return self._most_promising(new, scored)
        for way in ways:
            for _ in range(_TRIES if scored or way is not breed else 0):
                found = way()
                if found is not None and found not in seen:
                    return found
        return sample_within(space, self._budget, random)

    def _dearest(self, random: Random) -> Genes:
        draws = [sample_within(self._space, self._budget, random) for _ in range(self.dearest_of)]
        return max(draws, key=lambda genes: cost_of(self._space, genes).ops)

    def _even(self, random: Random) -> list[Genes]:
        """Return those of some even draws that are inside the budget."""
        draws = [self._space.sample(random) for _ in range(_FRESH)]
        return [genes for genes in draws if self._budget.admits(cost_of(self._space, genes))]

    def _most_promising(self, genes: Sequence[Genes], scored: Sequence[_Scored]) -> Genes:
        """Return the genotype of the highest predicted score; of those equal in nine digits the first."""
        known, scores, ops = zip(*scored, strict=True)
        predicted = Predictor(self._space, known, ops, scores)(genes, [cost_of(self._space, g).ops for g in genes])
        return genes[int(predicted.round(9).argmax())]

    def _child(self, parents: Sequence[_Scored], random: Random) -> Genes | None:
        space = self._space
        first, second = (self._parent(parents, random).genes for _ in range(2))
        genes = space.cross(first, second, random) if random.random() < 0.3 else first
        return self._inside(space.mutate(genes, random, changes=random.choice((1, 1, 2, 3))), random)

    def _parent(self, parents: Sequence[_Scored], random: Random) -> _Scored:
        drawn = random.sample(parents, min(len(parents), max(2, len(parents) // 6)))
        if random.random() < 0.5:
            return max(drawn, key=lambda one: one.score)
        return min(drawn, key=lambda one: (sum(_beats(other, one) for other in drawn), -one.score))


def _beats(one: _Scored, other: _Scored) -> bool:
    return one.score >= other.score and one.ops <= other.ops and one[1:] != other[1:]


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

optuna.logging.set_verbosity(optuna.logging.WARNING)
