"""A table of networks trained alone -> what each sampler would have found in it, in milliseconds an evaluation.

Each search pays for half of what is feasible, so that it must choose, and breeds from a quarter of that on."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random

import numpy as np
import optuna
import pandas as pd
from claim import Claim, positive
from optuna.trial import TrialState
from rows import Rows
from scipy.stats import mannwhitneyu

from bnas.cost.budget import Budget
from bnas.searcher.evolution import Evolution
from bnas.searcher.feasible import cost_of
from bnas.searcher.ranking import Table
from bnas.searcher.sampler import MakeSampler, ask
from bnas.searcher.samplers import SAMPLERS
from bnas.space.space import Genes, SearchSpace

REPLAYS = Path(__file__).parent / "results" / "replays.csv"
COLUMNS = ("networks", "budget", "sampler", "seed", "pays", "final", "mean")
BUDGETS = ("50k", "100k", "250k")  # ops: about a third, a half and three quarters of the space
SEEDS = 50
DOUBT = 0.05
FREE_IN_A_ROW = 2000  # proposals that cost nothing, after which a sampler has nothing new


class EvenDraws(Evolution):
    """Evolution that begins with even draws."""

    dearest_of = 1


class NoModel(Evolution):
    """Evolution whose children no model chooses."""

    by_model = 0.0


class Plain(EvenDraws, NoModel):
    """Evolution with neither."""


PARTS_LEFT_OUT: dict[str, MakeSampler] = {
    "evolution from even draws": EvenDraws, "evolution without model": NoModel, "evolution with neither": Plain
}  # fmt: skip


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

    A proposal that is over the budget, repeated or not in the table is free: all of it is known beforehand. The replay
    ends where nothing feasible is left, which a search cannot know.

    Args:
        known: what the sampler is told of each network, higher is better.
        make: makes the sampler for one proposal.
        pays: how many networks are paid for, or all there are; the search's number of trials.
    """
    searched = space.model_copy(update={"search": space.search.model_copy(update={"trials": pays})})
    left = feasible(space, known, budget)
    study = optuna.create_study(directions=("maximize", "minimize"))
    paid: list[Genes] = []
    number = last = 0
    while left and len(paid) < pays and number - last <= FREE_IN_A_ROW:
        drawn = Random(f"{seed}/search/{number}").getrandbits(31)
        (trial, genes), number = ask(study, make, searched, budget, seed=drawn), number + 1
        price = cost_of(space, genes)
        for quantity, limit in budget.limits:
            trial.set_constraint(quantity, limit.excess(getattr(price, quantity)))
        if genes not in left:
            study.tell(trial, state=TrialState.PRUNED)
            continue
        study.tell(trial, [known[genes], price.ops])
        left.remove(genes)
        paid.append(genes)
        last = number
    return paid


def feasible(space: SearchSpace, known: Iterable[Genes], budget: Budget) -> set[Genes]:
    """Return the networks that keep the budget."""
    return {genes for genes in known if budget.admits(cost_of(space, genes))}


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
    """Replay each sampler at each budget, from each seed that is not there yet; and evolution with parts left out.

    That is fifteen minutes of a core.
    """
    known = told(table)
    done = {(row.budget, row.sampler, row.seed) for row in on(table, results.frame()).itertuples()}
    for limit, (name, make), seed in itertools.product(BUDGETS, (SAMPLERS | PARTS_LEFT_OUT).items(), range(SEEDS)):
        if (limit, name, seed) in done:
            continue
        budget = Budget.parse([f"ops={limit}"])
        inside = feasible(space, known, budget)
        paid = replay(space, known, budget, make, pays=len(inside) // 2, seed=seed)
        lost = shortfalls(paid, known, max(known[genes] for genes in inside))
        results.add(
            networks=len(table), budget=limit, sampler=name, seed=seed, pays=len(paid), final=float(lost[-1]),
            mean=float(lost.mean()),
        )  # fmt: skip


def on(table: Table, replays: pd.DataFrame) -> pd.DataFrame:
    """Return the replays on a table of this size: those on a smaller one say nothing of it."""
    return replays[replays["networks"] == len(table)]


def told(table: Table) -> Mapping[Genes, float]:
    """Return what a replayed search is told of each network."""
    accuracies = table.networks["validation_accuracy"]
    return dict(zip(map(genes_of, table.networks["genes"]), accuracies, strict=True))


def replay_claims(replays: pd.DataFrame) -> Iterator[Claim]:
    """Yield whether evolution is significantly worse than another sampler at a budget: mean shortfall on the way."""
    means = {place: part["mean"] for place, part in replays.groupby(["budget", "sampler"])}
    for limit, other in itertools.product(BUDGETS, ("nsga2", "tpe", "random", *PARTS_LEFT_OUT)):
        own, its = means.get((limit, "evolution")), means.get((limit, other))
        if own is None or its is None:
            continue
        worse = mannwhitneyu(own, its, alternative="greater").pvalue
        losses = f"evolution loses {100 * own.mean():.2f} points on the way, {other} {100 * its.mean():.2f}"
        what = f"ops <= {limit}: {losses}, {len(own)} replays; doubt allowed against p that evolution is worse"
        yield Claim(what, DOUBT, positive(float(worse)), 1.0)
