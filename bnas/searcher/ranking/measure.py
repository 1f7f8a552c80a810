"""Scores of networks and their true accuracy -> how well one ranks the other: pure functions over arrays.

Every array has one entry a network, [networks]; higher scores should mean higher accuracy.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Places = NDArray[np.intp]

BANDS = 4
LEVEL = 0.95
DRAWS = 1000


def tau(score: ArrayLike, truth: ArrayLike) -> float:
    """Return Kendall's tau-b: 1 for the same order, -1 for the reverse; nan where either is constant."""
    from scipy.stats import kendalltau  # takes a second to load, and no search needs it

    return float(kendalltau(score, truth, variant="b").statistic)


def tau_within(score: ArrayLike, truth: ArrayLike, band: ArrayLike) -> float:
    """Return tau-b over the pairs of networks that share a band: one number for all bands, weighted by their pairs.

    nan where no such pair differs in score, or none in truth.
    """
    band = np.asarray(band)
    return float(_tau_b(_signs(score), _signs(truth), np.ones((1, len(band))), among=band[:, None] == band)[0])


def bands(cost: ArrayLike, count: int = BANDS) -> Places:
    """Return the band of each network, cheapest 0: as many networks in each as possible; equal costs may be parted."""
    cost = np.asarray(cost, dtype=float)
    band = np.empty(len(cost), dtype=np.intp)
    for number, members in enumerate(np.array_split(np.argsort(cost, kind="stable"), count)):
        band[members] = number
    return band


def tau_by_band(score: ArrayLike, truth: ArrayLike, band: ArrayLike) -> tuple[float, ...]:
    """Return tau-b inside each band, cheapest first; nan for a band of fewer than two networks."""
    score, truth, band = np.asarray(score), np.asarray(truth), np.asarray(band)
    found = []
    for number in range(int(band.max()) + 1):
        inside = band == number
        found.append(tau(score[inside], truth[inside]) if inside.sum() > 1 else math.nan)
    return tuple(found)


def resampled(networks: int, *, seed: int, draws: int = DRAWS) -> Array:
    """Return how often each network comes in samples with repeats, as many as there are: [draws, networks]."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(networks, [1 / networks] * networks, size=draws).astype(float)


def tau_of_samples(score: ArrayLike, truth: ArrayLike, samples: Array) -> Array:
    """Return tau-b in each of some samples [draws, networks] of `resampled`; nan where either is constant.

    A network that comes twice makes pairs with every other twice and ties with itself, so each sum over the pairs of a
    sample is a quadratic form in how often the networks come.
    """
    return _tau_b(_signs(score), _signs(truth), samples, among=None)


def interval(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends between which this share of the values lies; nan is left out."""
    if np.isnan(values).all():
        return math.nan, math.nan
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def regret(score: ArrayLike, truth: ArrayLike, k: int) -> float:
    """Return how much accuracy is lost by taking the best of the k highest scores for the best of all.

    Of equal scores those listed first are taken.
    """
    score, truth = np.asarray(score, dtype=float), np.asarray(truth, dtype=float)
    return float(truth.max() - truth[np.argsort(-score, kind="stable")[:k]].max())


def regret_of_chance(truth: ArrayLike, k: int) -> float:
    """Return the regret of k networks drawn at random, on average.

    The best of k is the i-th lowest of n for (i-1 choose k-1) of the (n choose k) draws.
    """
    ordered = np.sort(np.asarray(truth, dtype=float))
    n, k = len(ordered), min(k, len(ordered))
    best = sum(value * math.comb(i, k - 1) for i, value in enumerate(ordered)) / math.comb(n, k)
    return float(ordered[-1] - best)


def spread_of_chance(networks: int) -> float:
    """Return the standard deviation of tau between two orders that have nothing to do with each other.

    Source: Kendall, Rank Correlation Methods, 1948, section 4.
    """
    n = networks
    return math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))) if n > 1 else math.nan


def ceiling(between_seeds: float) -> float:
    """Return the tau that a score without any error would have with accuracies of one training each.

    Args:
        between_seeds: tau between the accuracies of two trainings of the same networks, which both carry noise.

    For normal values tau = 2/pi asin(r); between two trainings r is the share of variance that is no noise, and with
    one of them the true value correlates by the square root of it.
    Source: Greiner's relation; Spearman's attenuation, The Proof and Measurement of Association, 1904.
    """
    if not between_seeds > 0:
        return 0.0 if between_seeds <= 0 else math.nan
    reliability = math.sin(math.pi / 2 * between_seeds)
    return 2 / math.pi * math.asin(math.sqrt(reliability))


def noise(first: ArrayLike, second: ArrayLike) -> float:
    """Return the standard deviation of one training's accuracy, from two trainings of each network."""
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    return float(np.sqrt((difference**2).mean() / 2))


def standard(values: ArrayLike) -> Array:
    """Return values with mean 0 and deviation 1; zeros where they are constant."""
    array = np.asarray(values, dtype=float)
    spread = array.std()
    return (array - array.mean()) / spread if spread else np.zeros_like(array)


def summed_standard(score: ArrayLike, cost: ArrayLike) -> Array:
    """Return a score and the logarithm of a cost as one: both in their own deviations, with equal weight."""
    return standard(score) + standard(np.log(np.asarray(cost, dtype=float)))


def _signs(values: ArrayLike) -> Array:
    """Return for each pair of networks which value is higher: 1, -1, or 0 for equals; [networks, networks]."""
    values = np.asarray(values, dtype=float)
    return np.sign(values[:, None] - values)


def _tau_b(score: Array, truth: Array, samples: Array, *, among: NDArray[np.bool_] | None) -> Array:
    """Return tau-b of signed pairs in each sample, over the pairs that `among` marks."""
    if among is not None:
        score, truth = score * among, truth * among
    agreeing, by_score, by_truth = (
        ((samples @ pairs) * samples).sum(1) for pairs in (score * truth, score**2, truth**2)
    )
    with np.errstate(invalid="ignore"):  # 0 / 0 where a column is constant: there is no order
        found: Array = agreeing / np.sqrt(by_score * by_truth)
    return found
