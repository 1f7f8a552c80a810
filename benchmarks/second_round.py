"""Does a correction of the proxy per choice, learned from the networks that were trained first, find better ones?

    python benchmarks/second_round.py [--quick] [--json]

Replayed on the tabular benchmark (`benchmarks/results/bench_table.csv`) with the proxy losses of two supernets
(`benchmarks/results/ranking.csv`). A search has scored half of what is feasible. Some networks are trained alone: the
best by proxy loss, or half as many, and then the best by a ridge regression that adds to the proxy loss a term for each
choice, fitted to what the first half reached. What counts is the best of them by validation accuracy, and its test
accuracy.
"""

import itertools
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import numpy as np
import pandas as pd
from claim import Claim, main, positive
from finalists import table
from numpy.typing import NDArray

BUDGETS = (50e3, 100e3, 250e3)
HALVES = (3, 6)  # networks of each round
SHARE = 0.5  # of what is feasible that a search has scored
STRENGTHS = (0.1, 1.0, 10.0)  # of the ridge
WANTED = 0.1  # points of test accuracy


class Known(NamedTuple):
    """What is known of some networks, one a row."""

    loss: NDArray[np.float64]
    choices: NDArray[np.float64]
    validation: NDArray[np.float64]
    test: NDArray[np.float64]


def measure(quick: bool) -> Iterator[Claim]:
    """Yield the points that a second round wins, against those that were wanted of it."""
    draws = 10 if quick else 60
    for half, supernet, strength in itertools.product(HALVES, (0, 1), STRENGTHS):
        found = [gain(supernet, budget, seed, strength, half) for budget in BUDGETS for seed in range(draws)]
        points = np.array(found)
        error = points.std() / len(points) ** 0.5
        what = (
            f"{half} and {half} networks, supernet {supernet}, ridge {strength:g}: {points.mean():+.3f} +- {error:.3f}"
        )
        yield Claim(
            f"{WANTED} points, against those that a second round wins: {what}", WANTED, positive(points.mean()), 1
        )


def gain(supernet: int, budget: float, seed: int, strength: float, half: int) -> float:
    """Return by how many points of test accuracy the winner of two rounds is ahead of that of one."""
    known = scored(table("bench_table", supernet), budget, seed)
    order = np.argsort(known.loss)
    first = order[:half]
    corrected = known.loss - correction(known, first, strength)
    rest = [place for place in np.argsort(corrected) if place not in set(first)]
    two = np.array([*first, *rest[:half]])
    return 100 * (winner(known, two) - winner(known, order[: 2 * half]))


def correction(known: Known, first: NDArray[np.intp], strength: float) -> NDArray[np.float64]:
    """Return by how much the proxy overrates the loss of each network, as its choices say."""
    scale = np.polyfit(known.loss[first], -known.validation[first], 1)[0] if len(set(known.loss[first])) > 1 else 1.0
    left = -known.validation[first] - max(scale, 1e-3) * known.loss[first]
    left -= left.mean()
    rows = known.choices[first] - known.choices[first].mean(0)
    weights = rows.T @ np.linalg.solve(rows @ rows.T + strength * np.eye(len(first)), left)
    return -(known.choices - known.choices[first].mean(0)) @ weights / max(scale, 1e-3)


def winner(known: Known, trained: NDArray[np.intp]) -> float:
    """Return the test accuracy of what is best on validation."""
    return float(known.test[trained[np.argmax(known.validation[trained])]])


def scored(networks: pd.DataFrame, budget: float, seed: int) -> Known:
    """Return half of the networks that are feasible."""
    feasible = networks[networks["ops"] <= budget]
    places = Random(seed).sample(range(len(feasible)), round(SHARE * len(feasible)))
    rows = feasible.iloc[places]
    genes = np.array([[int(gene) for gene in text.split("-")] for text in rows["genes"]], dtype=float)
    spread = genes.std(0)
    return Known(
        rows["loss"].to_numpy(),
        ((genes - genes.mean(0)) / np.where(spread > 0, spread, 1))[:, spread > 0],
        rows["validation_accuracy"].to_numpy(),
        rows["test_accuracy"].to_numpy(),
    )


if __name__ == "__main__":
    main(measure, "A second round of finalists by a corrected proxy.")
