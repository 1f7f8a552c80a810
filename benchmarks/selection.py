"""Layers chosen by each metric and method, by chance and by hand: test accuracy at equal ops, for small networks.

    python benchmarks/selection.py [--quick] [--json] [--network plain|resnet|tiny] [--seeds N] [--shard I/N]

A plain network of five convolutions and three linear layers, and a narrow residual one, on CIFAR-10 ($BNAS_DATA) pooled
to 16x16, with 10,000 images for training and validation. For each seed the float network is trained first, for 12
epochs. Every other row is a copy of it with all weights binary, converted by one choice of the layers that keep real
inputs, and trained for 6. Rows go to results/selection.csv as they come; those that are there are not trained again,
equal choices are trained once, and it may be stopped at any time. Several processes share the work where each has a
shard of its own; the claims are printed by a run without one. The best metric and method is picked on validation
images. --quick reads the table and trains again, in the same way, one row of the tiny network that is in it too.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from random import Random

import pandas as pd
import torch
from claim import Claim
from rows import shard
from selection_networks import DRAWS, FBIN, LATEST, NETWORKS, WAYS, choices
from selection_rows import COLUMNS, Bench, add_missing, groups, of_group, results

from bnas.allocator import keep_freed_memory
from bnas.api.selecting import select_layers
from bnas.cost.budget import Budget
from bnas.cost.totals import Cost
from bnas.networks.models import build_model
from bnas.select import METHODS, Choice, LayerScore, Problem

CLAIMED = {"plain": (10, 0.04), "resnet": (25, 0.02)}  # percent of ops at most, points of accuracy at least
CELL = ("tiny", 0, "product knapsack", 50)  # what --quick trains again
AWAY = 0.05  # points that it may end from the table: on other processors other roundings make another network


def complete(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a network from the seeds that have all of them, trained as they are trained now."""
    wanted = set(choices(NETWORKS[name]))
    parts = [of_group(table, name, seed) for seed in sorted(table["seed"].unique())]
    whole = [part for part in parts if set(zip(part["choice"], part["budget"], strict=True)) >= wanted]
    return pd.concat(whole) if whole else table.iloc[:0]


def claims(table: pd.DataFrame) -> Iterator[Claim]:
    """Yield the paper's claim, and that choosing beats chance and the last layers, as means over complete seeds."""
    for name, (budget, points) in CLAIMED.items():
        mine = complete(table, name)
        if mine.empty:
            print(f"{name}: no seed has all its rows in the table, so that nothing is claimed", file=sys.stderr)
            continue
        best = max(WAYS, key=lambda way: mine[mine["choice"] == way]["validation_accuracy"].mean())
        of = f"{name}, {mine['seed'].nunique()} seeds"
        binary, made = error(mine, [FBIN]), error(mine, [best], budget)
        yield Claim(
            f"{of}: accuracy of {FBIN} and {points:.0%} more, against {best} at {budget} % of ops",
            1 - binary + points, 1 - made, 1,
        )  # fmt: skip
        for limit in NETWORKS[name].budgets:
            ours, what = error(mine, [best], limit), f"{of}, {limit} % of ops: test error of {best}"
            yield Claim(f"{what} against chance", ours, error(mine, [f"chance {n}" for n in range(DRAWS)], limit), 1)
            yield Claim(f"{what} against the best by hand", ours, by_hand(mine, name, limit), 1)


def error(rows: pd.DataFrame, choices: list[str], budget: int = 0) -> float:
    """Return the mean test error of choices at a budget."""
    return float(1 - rows[rows["choice"].isin(choices) & (rows["budget"] == budget)]["test_accuracy"].mean())


def by_hand(rows: pd.DataFrame, name: str, limit: int) -> float:
    """Return the least test error of the hand-made choices that keep a budget: late layers, and the published ones."""
    published = rows[rows["choice"].isin(NETWORKS[name].published) & (100 * rows["ops_share"] <= limit)]
    fitting = [error(rows, [choice]) for choice in published["choice"].unique()]
    return min([error(rows, [LATEST], limit), *fitting])


def deciding() -> Iterator[Claim]:
    """Time the exact knapsack: of layers that all cost something else, and of a ResNet's, where many cost the same."""
    random = Random(0)
    a_resnets = [115_605_504, 57_802_752, 12_845_056, 6_422_528]
    for kind, costs in {
        "all different": [random.randint(10**6, 10**8) for _ in range(100)],
        "of four costs": [random.choice(a_resnets) for _ in range(100)],
    }.items():
        layers = [
            Choice(
                str(place), LayerScore(random.uniform(0.3, 0.6), 0), Cost(0, 64 * ops, 0, 0), Cost(64 * ops, 0, 0, 0)
            )
            for place, ops in enumerate(costs)
        ]
        problem = Problem(layers, Cost(0, 0, 0, 0), budget=Budget.parse({"ops": (1 + 63 * 0.3) * sum(costs)}))
        METHODS["knapsack"](problem)  # loads the solver
        start = time.perf_counter()
        METHODS["knapsack"](problem)
        yield Claim(f"exact knapsack of 100 layers, {kind}, seconds", time.perf_counter() - start, 1.0, 1.0)


def measuring(images: int) -> Iterator[Claim]:
    """Time and weigh the measuring of a ResNet-18 for images of 224x224."""
    network = build_model("resnet18")
    batches = torch.randn(images, 3, 224, 224, generator=torch.Generator().manual_seed(0)).split(32)
    for metric in ("hybrid", "product"):
        start = time.perf_counter()
        select_layers(network, batches, budget=["ops=25%"], metric=metric)
        took = time.perf_counter() - start
        yield Claim(f"ResNet-18, {images} images of 224x224, measured and decided by {metric}, seconds", took, 60, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield Claim("the same, peak memory in GiB", peak, 3, 1)


def one_cell(table: pd.DataFrame) -> Iterator[Claim]:
    """Train one row of the table again, from the start and in the same way."""
    name, seed, choice, budget = CELL
    known = of_group(table, name, seed)
    known = known[(known["choice"] == choice) & (known["budget"] == budget)]
    if known.empty:
        print(f"{name}: the table has no row of {choice}, so that none is trained again", file=sys.stderr)
        return
    bench = Bench(name, seed, keep=False)
    _, accuracy = bench.accuracies(choice, bench.chosen(choice, budget))
    away = abs(accuracy - float(known["test_accuracy"].iloc[0]))
    yield Claim(f"{name}, {choice} at {budget} %, trained again: points away from the table", away, AWAY, 1)


def main() -> None:
    """Print the table row by row, then the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="read the table, and train one row of it again")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--network", choices=NETWORKS, help="one of them only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shard", help="which part of the work this process does, as in 2/4; it claims nothing")
    options = parser.parse_args()
    keep_freed_memory()
    file = results()
    names = [options.network] if options.network else list(NETWORKS)
    wanted = shard(groups(names, options.seeds), options.shard)
    for name, seed in [] if options.quick else wanted:
        for row in add_missing(file, name, seed):
            print(*(row[column] for column in COLUMNS), sep="  ", file=sys.stderr, flush=True)
    if not options.shard:
        last = one_cell(file.frame()) if options.quick else measuring(256)
        for claim in (*claims(file.frame()), *deciding(), *last):
            print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
