"""Scored candidates -> the next one: aging evolution inside the budget, whose children a model chooses among."""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from bnas.searcher.feasible import cost_of, sample_within
from bnas.searcher.sampler import FeasibleSampler, as_proposed, population
from bnas.space.space import Genes, SearchSpace

_STRENGTH = 1.0  # of the ridge: so many more genotypes of average score are taken to have been seen with each choice


class Predictor:
    """Predicts the score of a genotype: a share for each choice but a dimension's first, and one for log ops.

    Ridge regression on the scored ones, an intercept aside, by sums over them: what one more adds takes the same time
    however many there are. Source: Hoerl and Kennard, Ridge Regression, 1970.
    """

    def __init__(self, space: SearchSpace, genes: Sequence[Genes] = (), ops: ArrayLike = (), scores: ArrayLike = ()):
        """Fit to what is known.

        Args:
            genes: of the scored networks.
            ops: of each of them, [networks].
            scores: of each of them, [networks]; higher is better.
        """
        choices = [(place, gene) for place, d in enumerate(space.dimensions) for gene in range(1, len(d.choices))]
        self._places, self._genes = np.array(choices, dtype=np.intp).reshape(-1, 2).T
        size = len(choices) + 1
        self._count, self._score = 0, 0.0
        self._features, self._products = np.zeros(size), np.zeros((size, size))
        self._scored = np.zeros(size)
        for known in zip(genes, np.asarray(ops, dtype=float), np.asarray(scores, dtype=float), strict=True):
            self.add(*known)

    def add(self, genes: Genes, ops: float, score: float) -> None:
        """Learn one more."""
        (features,) = self._features_of([genes], [ops])
        self._count += 1
        self._score += score
        self._features += features
        self._products += np.outer(features, features)
        self._scored += score * features

    def __call__(self, genes: Sequence[Genes], ops: ArrayLike) -> NDArray[np.float64]:
        """Return the predicted scores, [networks]; one network at least must be known."""
        mean, score = self._features / self._count, self._score / self._count
        normal = self._products - self._count * np.outer(mean, mean) + _STRENGTH * np.eye(len(mean))
        shares = np.linalg.solve(normal, self._scored - self._count * score * mean)
        predicted: NDArray[np.float64] = (self._features_of(genes, ops) - mean) @ shares + score
        return predicted

    def _features_of(self, genes: Sequence[Genes], ops: ArrayLike) -> NDArray[np.float64]:
        chosen = np.array(genes, dtype=np.intp)[:, self._places] == self._genes
        return np.column_stack([chosen, np.log(np.asarray(ops, dtype=float))])


_TRIES = 60  # children drawn before a fresh sample is taken instead
_BRED, _FRESH = 32, 32  # children and even draws among which the model chooses


class _Scored(NamedTuple):
    """What evolution breeds from."""

    genes: Genes
    score: float
    ops: float


class _Known:
    """What the trials of a study say; each that is finished is read once, however many there are."""

    def __init__(self, space: SearchSpace) -> None:
        self._space, self._read = space, 0
        self.seen: set[Genes] = set()
        self.scored: list[_Scored] = []
        self.predictor = Predictor(space)

    def catch_up(self, trials: Sequence[FrozenTrial]) -> None:
        """Read the trials up to the first that is not finished."""
        for trial in trials[self._read :]:
            if not trial.state.is_finished():
                return
            genes = as_proposed(self._space, trial.params)
            self._read += 1
            self.seen.add(genes)
            if trial.state == TrialState.COMPLETE:
                score, ops = trial.values
                self.scored.append(_Scored(genes, score, ops))
                self.predictor.add(genes, ops, score)

    def in_hand(self, trials: Sequence[FrozenTrial]) -> set[Genes]:
        """Return the genotypes of the others, but for a trial that nothing is proposed for yet."""
        return {as_proposed(self._space, trial.params) for trial in trials[self._read :] if trial.params}


_known: "WeakKeyDictionary[Study, _Known]" = WeakKeyDictionary()  # samplers are made anew for each proposal


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
        known = _known.setdefault(study, _Known(space))
        known.catch_up(trials)
        seen, in_hand = known.seen, known.in_hand(trials)
        size = population(space)
        breed = partial(self._child, known.scored[-size:], random)
        ways: tuple[Callable[[], Genes | None], ...]
        if len(known.scored) < size:
            ways = (partial(self._dearest, random), breed)
        else:
            ways = (breed, partial(sample_within, space, self._budget, random))
            if random.random() < self.by_model:
                drawn = [breed() for _ in range(_BRED)] + self._even(random)
                new = sorted({each for each in drawn if each is not None and each not in seen} - in_hand)
                if new:
                    return self._most_promising(new, known.predictor)
        for way in ways:
            for _ in range(_TRIES if known.scored or way is not breed else 0):
                found = way()
                if found is not None and found not in seen and found not in in_hand:
                    return found
        return sample_within(space, self._budget, random)

    def _dearest(self, random: Random) -> Genes:
        draws = [sample_within(self._space, self._budget, random) for _ in range(self.dearest_of)]
        return max(draws, key=lambda genes: cost_of(self._space, genes).ops)

    def _even(self, random: Random) -> list[Genes]:
        """Return those of some even draws that are inside the budget."""
        draws = [self._space.sample(random) for _ in range(_FRESH)]
        return [genes for genes in draws if self._budget.admits(cost_of(self._space, genes))]

    def _most_promising(self, genes: Sequence[Genes], predictor: Predictor) -> Genes:
        """Return the genotype of the highest predicted score; of those equal in nine digits the first."""
        predicted = predictor(genes, [cost_of(self._space, each).ops for each in genes])
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
