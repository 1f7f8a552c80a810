"""A table of networks trained alone -> what each sampler would have found in it, in milliseconds an evaluation."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import numpy as np
import optuna
import pandas as pd
from claim import Claim, positive
from optuna.trial import TrialState
from rows import Rows
from scipy.stats import mannwhitneyu

from bnas.cost import Budget
from bnas.feasible import cost_of
from bnas.ranking import Table
from bnas.searcher import SAMPLERS
from bnas.searcher.sampler import MakeSampler, distributions, to_genes
from bnas.space import Genes, SearchSpace

REPLAYS = Path(__file__).parent / "results" / "replays.csv"
COLUMNS = ("budget", "sampler", "seed", "pays", "final", "mean")
BUDGETS = ("50k", "100k", "250k")  # ops: about a third, a half and three quarters of the space
SEEDS = 50
DOUBT = 0.05
FREE_IN_A_ROW = 2000  # proposals that cost nothing, after which a sampler has nothing new


def replay(
    space: SearchSpace,
    known: Mapping[Genes, float],
    budget: Budget,
    make: MakeSampler,
    *,
    pays: int,
    seed: int,
) -> list[Genes]:
    """Return the networks that a sampler pays for, in order, as `bnas.searcher.Search` would run it.

    A proposal that is over the budget, repeated or not in the table is free: all of it is known beforehand.

    Args:
        known: what the sampler is told of each network, higher is better.
        make: makes the sampler for one proposal.
        pays: how many networks are paid for, or all there are.
    """
    study = optuna.create_study(directions=("maximize", "minimize"))
    paid: list[Genes] = []
    number = last = 0
    ranges = distributions(space)
    while len(paid) < pays and number - last <= FREE_IN_A_ROW:
        study.sampler = make(space, budget, Random(f"{seed}/search/{number}").getrandbits(31))
        trial = study.ask(ranges)
        genes, number = to_genes(space, trial.params), number + 1
        price = cost_of(space, genes)
        for quantity, limit in budget.limits:
            trial.set_constraint(quantity, limit.excess(getattr(price, quantity)))
        if genes not in known or genes in paid or not budget.admits(price):
            study.tell(trial, state=TrialState.PRUNED)
            continue
        study.tell(trial, [known[genes], price.ops])
        paid.append(genes)
        last = number
    return paid


def shortfalls(paid: list[Genes], truth: Mapping[Genes, float], best: float) -> np.ndarray:
    """Return how far the best network so far is below the best there is, after each evaluation."""
    return best - np.maximum.accumulate([truth[genes] for genes in paid])


def genes_of(text: str) -> Genes:
    """Return the genotype that a table writes as 0-1-0."""
    return tuple(map(int, text.split("-")))


def replay_rows(path: Path = REPLAYS) -> Rows:
    """Return the file of replays."""
    return Rows(path, COLUMNS, texts=("budget", "sampler"))


def replay_missing(space: SearchSpace, table: Table, results: Rows) -> None:
    """Replay each sampler on the table at each budget, from each seed that is not there yet."""
    known = told(table)
    done = {(row.budget, row.sampler, row.seed) for row in results.frame().itertuples()}
    for limit in BUDGETS:
        budget = Budget.parse([f"ops={limit}"])
        feasible = {genes: value for genes, value in known.items() if budget.admits(cost_of(space, genes))}
        for name, make in SAMPLERS.items():
            for seed in range(SEEDS):
                if (limit, name, seed) not in done:
                    paid = replay(space, known, budget, make, pays=len(feasible) // 2, seed=seed)
                    lost = shortfalls(paid, known, max(feasible.values()))
                    final, mean = float(lost[-1]), float(lost.mean())
                    results.add(budget=limit, sampler=name, seed=seed, pays=len(paid), final=final, mean=mean)


def told(table: Table) -> Mapping[Genes, float]:
    """Return what a replayed search is told of each network."""
    accuracies = table.networks["validation_accuracy"]
    return dict(zip(map(genes_of, table.networks["genes"]), accuracies, strict=True))


def replay_claims(replays: pd.DataFrame) -> Iterator[Claim]:
    """Yield whether evolution is significantly worse than another sampler at a budget: mean shortfall on the way."""
    for limit in BUDGETS:
        mean = {name: part["mean"] for name, part in replays[replays["budget"] == limit].groupby("sampler")}
        for other in ("nsga2", "tpe", "random"):
            worse = mannwhitneyu(mean["evolution"], mean[other], alternative="greater").pvalue
            what = (
                f"ops <= {limit}: evolution loses {100 * mean['evolution'].mean():.2f} points on the way, "
                f"{other} {100 * mean[other].mean():.2f}; doubt allowed against p that evolution is worse"
            )
            yield Claim(what, DOUBT, positive(float(worse)), 1.0)
