"""Scored genotypes -> what others will probably score."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnas.space.space import Genes, SearchSpace

_STRENGTH = 1.0  # of the ridge: so many more genotypes of average score are taken to have been seen with each choice


class Predictor:
    """Predicts the score of a genotype: a share for each choice but a dimension's first, and one for log ops.

    Ridge regression on the scored ones, an intercept aside. Source: Hoerl and Kennard, Ridge Regression, 1970.
    """

    def __init__(self, space: SearchSpace, genes: Sequence[Genes], ops: ArrayLike, scores: ArrayLike) -> None:
        """Fit to what is known.

        Args:
            genes: of the scored networks, one at least.
            ops: of each of them, [networks].
            scores: of each of them, [networks]; higher is better.
        """
        choices = [(place, gene) for place, d in enumerate(space.dimensions) for gene in range(1, len(d.choices))]
        self._places, self._genes = np.array(choices, dtype=np.intp).reshape(-1, 2).T
        features, scores = self._features(genes, ops), np.asarray(scores, dtype=float)
        self._mean, self._score = features.mean(0), scores.mean()
        centred = features - self._mean
        normal = centred.T @ centred + _STRENGTH * np.eye(centred.shape[1])
        self._shares = np.linalg.solve(normal, centred.T @ (scores - self._score))

    def __call__(self, genes: Sequence[Genes], ops: ArrayLike) -> NDArray[np.float64]:
        """Return the predicted scores, [networks]."""
        predicted: NDArray[np.float64] = (self._features(genes, ops) - self._mean) @ self._shares + self._score
        return predicted

    def _features(self, genes: Sequence[Genes], ops: ArrayLike) -> NDArray[np.float64]:
        chosen = np.array(genes, dtype=np.intp)[:, self._places] == self._genes
        return np.column_stack([chosen, np.log(np.asarray(ops, dtype=float))])
