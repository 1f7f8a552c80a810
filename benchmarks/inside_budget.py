"""A supernet trained inside the budget of its search against one that is trained through the whole space.

    python benchmarks/inside_budget.py [SPACE ...] [--quick] [--json]

Equal steps, images and recipe; the yardstick draws each choice of the whole space equally often, as searches here
did before. The proxy loss is a mean over 60 networks that fit: drawn evenly, where most cost about the same, and
evenly over four bands of ops. Times are seconds of the processor, on one core. Three seeds; a claim shows their mean.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from claim import Claim, main

from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import DataSet, load_data
from bnas.searcher.feasible import sample_within
from bnas.searcher.inside import InsideDraws
from bnas.searcher.score import Scorer
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace
from bnas.spec import read
from bnas.train import train_supernet
from bnas.train.oneshot import Draws, WholeSpace
from bnas.train.state import Kept

SPACES = Path(__file__).parents[1] / "search_spaces"
NETWORKS, STEPS = 60, 1000
LOSS, TIME, INSIDE = 0.65, 1.0, 1 / 0.95
CPU = torch.device("cpu")


class Trained(NamedTuple):
    """What one way of drawing gives, over the seeds."""

    even: list[float]  # mean proxy loss of networks drawn evenly
    spread: list[float]  # and of those that are spread over ops
    seconds: list[float]


class Nowhere:
    """A store that keeps nothing."""

    def save_checkpoint(self, name: str, tensors: object, state: object) -> None:
        """Keep nothing."""

    def load_checkpoint(self, name: str) -> Kept | None:
        """Return nothing."""
        return None

    def log(self, event: str, **fields: object) -> None:
        """Write nothing."""


def measure(quick: bool) -> Iterator[Claim]:
    """Train and score, on digits unless spaces are named."""
    torch.set_num_threads(1)
    for name in [word for word in sys.argv[1:] if not word.startswith("-")] or ["digits"]:
        yield from compare(name, seeds=1 if quick else 3)


def compare(name: str, *, seeds: int) -> Iterator[Claim]:
    """Train supernets of a space in both ways, in turn."""
    space = read(SearchSpace, SPACES / f"{name}.yaml")
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
    took = InsideDraws(space, [budget], seed=0)
    share = mean(budget.admits(cost(plan(took(step)))) for step in range(STEPS))
    yield Claim(f"{name}: all of {STEPS} steps, against those inside the budget", 1.0, share, INSIDE)


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
    supernet = train_supernet(space, space.search.supernet, data, seed=seed, store=Nowhere(), device=CPU, draws=draws)
    to.seconds.append(time.process_time() - begun)
    scorer = Scorer(supernet, data, space.search.scoring, seed=seed, device=CPU)
    to.even.append(statistics.fmean(scorer(arch).proxy_loss for arch in even))
    to.spread.append(statistics.fmean(scorer(arch).proxy_loss for arch in spread))


if __name__ == "__main__":
    main(__doc__ or "", measure)
