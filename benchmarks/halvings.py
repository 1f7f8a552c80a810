"""After which share of a training is the order of two networks the one in which they end?

    python benchmarks/halvings.py [--quick] [--json] [--space FILE] [--data NAME] [--networks N] [--seeds N]
                                  [--results CSV]

Networks of a space, by default that of search_vs_scratch.py, are drawn evenly inside its budget, trained alone from
nothing by its own recipe, and compared on held-out images after every epoch. Which of two is the better one is said by
all images that neither was trained on, after the last epoch. Of all pairs: how often is the one that is ahead after a
share of the epochs the better one, and how many points are lost by going on with it alone; by lot half of them are
right. That is what a halving of two finalists costs (`search.retrain.halvings`). A network takes two minutes. Rows go
to results/halvings.csv as they come; those that are there are not trained again. --quick trains nothing: it reads what
is there. CIFAR-10 lies under $BNAS_DATA.
"""

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from claim import Claim
from nowhere import NoStore
from numpy.typing import NDArray
from rows import Rows
from table import images
from torch import Tensor, nn

from bnas.allocator import keep_freed_memory
from bnas.cost.budget import Budget
from bnas.data import DataSet
from bnas.searcher.feasible import cost_of, sample_within
from bnas.space.space import SearchSpace
from bnas.train import build_for, evaluate, train_staged

RESULTS = Path(__file__).parent / "results" / "halvings.csv"
SPACE = RESULTS.with_name("search_vs_scratch.yaml")
COLUMNS = ("space", "seed", "id", "ops", "epochs", "course", "test_accuracy")
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
BATCH = 500
MOST_LOST = 0.1  # points of accuracy, by the halvings that a space has


class Job(NamedTuple):
    """One row: a network, its space, and the seed it is drawn and trained from."""

    space: str
    seed: int
    id: str


class Course:
    """What a network gets right of the held-out images, after each epoch."""

    def __init__(self, network: nn.Module, data: DataSet, accuracies: list[float]) -> None:
        self._network, self._data, self._accuracies = network, data, accuracies

    def __call__(self) -> dict[str, Any]:
        """Measure it once more."""
        self._accuracies.append(evaluate(self._network, self._data.validation.batches(BATCH))[0])
        return {}

    def state(self) -> dict[str, Tensor]:
        """Remember nothing."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Have nothing to remember."""


def complete(results: Rows, file: Path, data: DataSet, *, networks: int, seed: int) -> None:
    """Train what the table does not have of the networks of a seed."""
    space = SearchSpace.read(file)
    budget, random = Budget.parse(space.search.budget), Random(seed)
    drawn = {
        space.architecture(genes).id: genes for genes in (sample_within(space, budget, random) for _ in range(networks))
    }
    jobs = [Job(file.stem, seed, name) for name in drawn]
    recipe = space.search.retrain.recipe.on(len(data.train))

    def row_of(job: Job) -> dict[str, Any]:
        course: list[float] = []
        network = train_staged(
            partial(build_for, space.architecture(drawn[job.id])), recipe, data, name="halvings", seed=seed,
            store=NoStore(), device=torch.device("cpu"),
            measure=lambda network: Course(network, data, course),
        )  # fmt: skip
        last = course[-recipe.stages[-1].epochs :]
        return job._asdict() | {
            "ops": cost_of(space, drawn[job.id]).ops, "epochs": len(last),
            "course": " ".join(f"{accuracy:.4f}" for accuracy in last),
            "test_accuracy": evaluate(network, data.test.batches(BATCH))[0],
        }  # fmt: skip

    results.complete(jobs, row_of)


class Halving(NamedTuple):
    """What a comparison of two after a share of the epochs says: how often the better one is ahead, points lost."""

    right: float
    lost: float


def halvings(rows: pd.DataFrame, held_out: float) -> dict[float, Halving]:
    """Return what a halving after each share of the epochs says of the networks of one space.

    Args:
        held_out: share of the images that none was trained on which are held out; the others are test images.
    """
    courses = np.array([[float(part) for part in course.split()] for course in rows["course"]])
    end = 100 * (held_out * courses[:, -1] + (1 - held_out) * rows["test_accuracy"].to_numpy())
    epochs = courses.shape[1]
    places = {share: max(1, round(share * epochs)) - 1 for share in SHARES}
    seeds = rows["seed"].to_numpy()
    pairs = [(a, b) for a, b in combinations(range(len(rows)), 2) if seeds[a] == seeds[b]]  # trained on the same images
    return {share: _judged(courses[:, place], end, pairs) for share, place in places.items()}


def _judged(ahead: NDArray[np.float64], end: NDArray[np.float64], pairs: list[tuple[int, int]]) -> Halving:
    chosen = [(a, b) if ahead[a] >= ahead[b] else (b, a) for a, b in pairs]
    lost = np.array([max(0.0, end[b] - end[a]) for a, b in chosen])
    return Halving(float((lost == 0).mean()), float(lost.mean()))


def claims(found: Mapping[float, Halving], space: SearchSpace, name: str) -> Iterator[Claim]:
    """Yield what the space's own halvings cost, against what they may."""
    own = [float(share) for share in space.search.retrain.halvings]
    for share in own:
        nearest = min(found, key=lambda known: abs(known - share))
        yield Claim(
            f"{name}: points lost by a halving of two after {nearest:g} of the epochs, against what they may",
            found[nearest].lost, MOST_LOST, 1,
        )  # fmt: skip


def main() -> None:
    """Train what is missing, print the table and what the space's own halvings cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="train nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    keep_freed_memory()
    results, space = Rows(options.results, COLUMNS, texts=("space", "id", "course")), SearchSpace.read(options.space)
    data = images(space, options.data)
    for seed in range(0 if options.quick else options.seeds):
        complete(results, options.space, data, networks=options.networks, seed=seed)
    frame = results.frame()
    mine = frame[frame["space"] == options.space.stem]
    if not mine["seed"].duplicated().any():  # no two networks to compare
        return
    found = halvings(mine, len(data.validation) / (len(data.validation) + len(data.test)))
    if not options.json:
        for share, halving in found.items():
            print(f"after {share:g} of the epochs: {halving.right:.0%} right, {halving.lost:.2f} points lost")
    for claim in claims(found, space, options.space.stem):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
