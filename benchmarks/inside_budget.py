"""A supernet trained inside the budget of its search against one that is trained through the whole space.

    python benchmarks/inside_budget.py [--quick] [--json]

Equal steps, images and recipe; the yardstick draws each choice of the whole space equally often, as searches here
did before. The proxy loss is a mean over 60 networks that fit: drawn evenly, where most cost about the same, and
evenly over four bands of ops. Times are seconds of the processor, on one core. Three seeds; a claim shows their mean.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from claim import Claim, main
from nowhere import NoStore

from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import DataSet, load_data
from bnas.searcher.feasible import sample_within
from bnas.searcher.inside import InsideDraws
from bnas.searcher.score import Scorer
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace
from bnas.train import train_supernet
from bnas.train.oneshot import WholeSpace
from bnas.train.supernet_loss import Draws

SPACES = Path(__file__).parents[1] / "search_spaces"
NETWORKS, STEPS = 60, 1000
LOSS, TIME, INSIDE = 0.65, 1.0, 1 / 0.95
CPU = torch.device("cpu")


class Trained(NamedTuple):
    """What one way of drawing gives, over the seeds."""

    even: list[float]  # mean proxy loss of networks drawn evenly
    spread: list[float]  # and of those that are spread over ops
    seconds: list[float]


def measure(quick: bool) -> Iterator[Claim]:
    """Count the steps inside, then train and score."""
    torch.set_num_threads(1)
    for path in sorted(SPACES.glob("*.yaml")):
        space = SearchSpace.read(path)
        budgets = [Budget.parse(one) for one in space.search.targets or (space.search.budget,)]
        prices = map(cost, map(plan, map(InsideDraws(space, budgets, seed=0), range(STEPS))))
        share = statistics.fmean(any(budget.admits(price) for budget in budgets) for price in prices)
        yield Claim(f"{path.stem}: all of {STEPS} steps, against those inside the budget", 1.0, share, INSIDE)
    yield from compare("digits", seeds=1 if quick else 3)


def compare(name: str, *, seeds: int) -> Iterator[Claim]:
    """Train supernets of a space in both ways, in turn, and score the same networks with each."""
    space = SearchSpace.read(SPACES / f"{name}.yaml")
    budget = Budget.parse(space.search.budget)
    data = load_data(name, validation=space.search.validation, seed=0, input_shape=space.input)
    draws, random = InsideDraws(space, [budget], seed=-1), Random(0)
    even = [space.architecture(sample_within(space, budget, random)) for _ in range(NETWORKS)]
    spread = [draws(step) for step in range(NETWORKS)]
    inside, whole = Trained([], [], []), Trained([], [], [])
    for seed in range(seeds):
        add(whole, space, data, WholeSpace(space, seed=seed), even, spread, seed=seed)
        add(inside, space, data, InsideDraws(space, [budget], seed=seed), even, spread, seed=seed)
    of = f"{name}: {{}}, drawn inside the budget, against the whole space"
    mean = statistics.fmean
    yield Claim(of.format(f"proxy loss of {NETWORKS} even draws"), mean(inside.even), mean(whole.even), LOSS)
    yield Claim(of.format(f"proxy loss of {NETWORKS} over ops"), mean(inside.spread), mean(whole.spread), LOSS)
    yield Claim(of.format("training (s)"), mean(inside.seconds), mean(whole.seconds), TIME)


def add(
    to: Trained,
    space: SearchSpace,
    data: DataSet,
    draws: Draws,
    even: list[Architecture],
    spread: list[Architecture],
    *,
    seed: int,
) -> None:
    """Train a supernet and score the networks with it."""
    begun = time.process_time()
    supernet = train_supernet(space, space.search.supernet, data, seed=seed, store=NoStore(), device=CPU, draws=draws)
    to.seconds.append(time.process_time() - begun)
    scorer = Scorer(supernet, data, space.search.scoring, seed=seed, device=CPU)
    to.even.append(statistics.fmean(scorer(arch).proxy_loss for arch in even))
    to.spread.append(statistics.fmean(scorer(arch).proxy_loss for arch in spread))


if __name__ == "__main__":
    main(measure, __doc__ or "")
