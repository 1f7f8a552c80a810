"""Which scored candidates are worth training alone: the best by proxy, or the best of ever dearer shares too?

    python benchmarks/finalists.py [--quick] [--json]

Replayed on the tables of networks trained alone (results/bench_table.csv, results/bench_table_copied.csv) with the
proxy losses of two supernets (results/ranking.csv). A search has scored some of the networks that are feasible; of its
finalists the best by validation accuracy is handed over, and its test accuracy counts.
"""

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
from claim import Claim, main
from table import SPACE

from bnas.cost.totals import Cost
from bnas.searcher.candidate import Candidate, Score, paid
from bnas.searcher.finalists import finalists
from bnas.space.space import SearchSpace

RESULTS = Path(__file__).parent / "results"
TABLES = ("bench_table", "bench_table_copied")
BUDGETS = (50e3, 100e3, 150e3, 250e3)
TOPS = (2, 3)
SCORED = 60
MOST_LOST = 0.002  # of accuracy: what training dear networks may cost where the proxy is right


def measure(quick: bool) -> Iterator[Claim]:
    """Yield the accuracy of the best by proxy, less what may be lost, against that of the finalists."""
    draws = 10 if quick else 100
    space = SearchSpace.read(SPACE)
    for name, top in itertools.product(TABLES, TOPS):
        pairs = [
            handed_over(some(name, supernet, budget, seed), space, top)
            for supernet in (0, 1) for budget in BUDGETS for seed in range(draws)
        ]  # fmt: skip
        best, mine = np.mean(pairs, axis=0)
        gains = 100 * np.diff(np.array(pairs), axis=1)
        what = f"{name}, {top} finalists: {gains.mean():+.2f} points, {gains.std() / len(gains) ** 0.5:.2f} their error"
        yield Claim(
            f"{what}; the best by proxy less {100 * MOST_LOST:.1f} points, against them", best - MOST_LOST, mine, 1
        )


def handed_over(rows: pd.DataFrame, space: SearchSpace, top: int) -> tuple[float, float]:
    """Return the test accuracy that the best by proxy lead to, and that of the finalists."""
    candidates = [
        Candidate(place, row.id, "paid", tuple(map(int, row.genes.split("-"))), Cost(0, int(row.ops), 0, 0),
                  Score(0.0, row.loss))
        for place, row in enumerate(rows.itertuples())
    ]  # fmt: skip
    ways = paid(candidates)[:top], finalists(candidates, space, top=top)
    chosen = [rows.iloc[[candidate.number for candidate in way]] for way in ways]
    best, mine = (some.loc[some["validation_accuracy"].idxmax(), "test_accuracy"] for some in chosen)
    return float(best), float(mine)


def some(name: str, supernet: int, budget: float, seed: int) -> pd.DataFrame:
    """Return the networks that a search has scored."""
    feasible = table(name, supernet).query("ops <= @budget")
    return feasible.iloc[Random(seed).sample(range(len(feasible)), min(len(feasible), SCORED))]


@cache
def table(name: str, supernet: int) -> pd.DataFrame:
    """Return the trained networks with the proxy loss that a supernet gives them."""
    trained = pd.read_csv(RESULTS / f"{name}.csv").drop_duplicates("id")  # of several seeds the first
    scores = pd.read_csv(RESULTS / "ranking.csv").query("supernet == 'single' and scoring == 'search'")
    return trained.merge(scores[scores["seed"] == supernet][["id", "loss"]], on="id")


if __name__ == "__main__":
    main(measure, "What the best of the dearer candidates cost as finalists.")
