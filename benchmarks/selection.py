"""Layers chosen by each metric and method, by chance and by hand: test accuracy at equal ops, for two small networks.

    python benchmarks/selection.py [--quick] [--json] [--network plain|resnet] [--seeds N] [--epochs N]

A plain network of five convolutions and three linear layers, and a narrow residual one, on CIFAR-10 ($BNAS_DATA) pooled
to 16x16, with 10,000 training images. For each seed the float network is trained first. Every other row is a copy of it
with all weights binary, converted by one choice of the layers that keep real inputs, and trained for as many epochs.
Rows go to results/selection.csv as they come; those that are there are not trained again, and equal choices are
trained once. --quick reads the table, trains one of its rows again for two epochs, and times the deciding.
"""

import argparse
import csv
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import torch
from claim import Claim
from nowhere import NoStore
from selection_networks import BATCH, DRAWS, FBIN, NETWORKS, REAL, WAYS, choices, chosen, measured
from torch import nn

from bnas.api.select import select_layers
from bnas.conversion import convert
from bnas.cost import Budget, Cost
from bnas.data import DataSet, load_data
from bnas.models import build_model
from bnas.recipe import Recipe, Stage
from bnas.selection import METHODS, Choice, Problem, Score
from bnas.train import evaluate, train_staged

RESULTS = Path(__file__).parent / "results" / "selection.csv"
COLUMNS = ("network", "seed", "epochs", "budget", "choice", "kept", "ops", "ops_share", "bytes", "test_accuracy")
IMAGES, SIZE = 10_000, 16
CLAIMED = {"plain": (10, 0.04), "resnet": (25, 0.02)}  # percent of ops at most, points of accuracy at least

Row = dict[str, str]


def rows(names: Sequence[str], seeds: int, epochs: int) -> Iterator[Row]:
    """Yield the rows of the table, from the file of results or freshly trained and written to it."""
    known = read()
    for seed in range(seeds):
        for name in names:
            key = {"network": name, "seed": str(seed), "epochs": str(epochs)}
            mine = [row for row in known if all(row[column] == value for column, value in key.items())]
            yield from of_one_network(key, mine)


def of_one_network(key: Row, known: list[Row]) -> Iterator[Row]:
    """Yield the rows of one float network, which is trained again only if one of them is missing."""
    setting, seed, epochs = NETWORKS[key["network"]], int(key["seed"]), int(key["epochs"])
    found = {(row["choice"], int(row["budget"])): row for row in known}
    if found.keys() >= set(choices(setting)):
        yield from known
        return
    data = cifar(seed)
    torch.manual_seed(seed)
    real = setting.build()
    accuracies = {(row["kept"], row["bytes"]): row["test_accuracy"] for row in known}  # by what tells networks apart
    real_accuracy = train(real, data, epochs=epochs, seed=seed)
    facts = measured(real, data, seed=seed)
    for choice, budget in choices(setting):
        if (choice, budget) not in found:
            made = chosen(facts, setting, choice, budget, seed=seed)
            same = " ".join(made.kept), str(made.cost.bytes)
            if choice == REAL:
                accuracies[same] = f"{real_accuracy:.4f}"
            elif same not in accuracies:
                accuracies[same] = f"{train(convert(real, made), data, epochs=epochs, seed=seed):.4f}"
            found[choice, budget] = key | {
                "budget": str(budget), "choice": choice, "kept": same[0], "ops": f"{made.cost.ops:.0f}",
                "ops_share": f"{made.cost.ops / made.real_cost.ops:.4f}", "bytes": same[1],
                "test_accuracy": accuracies[same],
            }  # fmt: skip
            append(found[choice, budget])
        yield found[choice, budget]


def train(network: nn.Module, data: DataSet, *, epochs: int, seed: int) -> float:
    """Train a network in place and return its test accuracy."""
    recipe = Recipe(stages=(Stage(epochs=epochs, rate=2e-3, clip_latent=True),), batch=BATCH)
    device = torch.device("cpu")
    network.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    train_staged(lambda stage: network, recipe, data, name="selection", seed=seed, store=NoStore(), device=device)
    return evaluate(network, data.test.batches(500))[0]


def cifar(seed: int) -> DataSet:
    """Return CIFAR-10 at a quarter of its pixels."""
    return load_data("cifar10", seed=seed, input_shape=(3, SIZE, SIZE), limit=IMAGES)


def read() -> list[Row]:
    """Return the rows that were written before."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(row: Row) -> None:
    """Write a row at the end of the results."""
    RESULTS.parent.mkdir(exist_ok=True)
    fresh = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def claims(table: list[Row]) -> Iterator[Claim]:
    """Yield the paper's claim, and that choosing beats chance and the last layers, of each network that is complete."""
    for name, (budget, points) in CLAIMED.items():
        mine = [row for row in table if row["network"] == name]
        if not {(row["choice"], int(row["budget"])) for row in mine} >= set(choices(NETWORKS[name])):
            continue
        best = max(WAYS, key=lambda way: mean(mine, way))
        binary, made = mean(mine, FBIN), mean(mine, best, budget)
        yield Claim(
            f"{name}: {FBIN} and {points:.0%} more, against {best} at {budget} % of ops", binary + points, made, 1
        )
        for limit in NETWORKS[name].budgets:
            error = 1 - mean(mine, best, limit)
            chance = 1 - statistics.fmean(mean(mine, f"chance {draw}", limit) for draw in range(DRAWS))
            yield Claim(f"{name} at {limit} %: test error of {best} against chance", error, chance, 1)
            late = {row["choice"] for row in mine if row["choice"] in NETWORKS[name].late and fits(row, limit)}
            if late:
                by_hand = 1 - max(mean(mine, choice) for choice in late)
                yield Claim(f"{name} at {limit} %: test error of {best} against the last layers", error, by_hand, 1)


def mean(table: list[Row], choice: str, budget: int | None = None) -> float:
    """Return the mean test accuracy of a choice over the seeds, and over all budgets where none is given."""
    return statistics.fmean(
        float(row["test_accuracy"]) for row in table if row["choice"] == choice and budget in (None, int(row["budget"]))
    )


def fits(row: Row, budget: int) -> bool:
    """Say whether a row keeps a budget in percent."""
    return 100 * float(row["ops_share"]) <= budget


def deciding() -> Iterator[Claim]:
    """Time the exact knapsack: of layers that all cost something else, and of a ResNet's, where many cost the same."""
    random = Random(0)
    a_resnets = [115_605_504, 57_802_752, 12_845_056, 6_422_528]
    for kind, costs in {
        "all different": [random.randint(10**6, 10**8) for _ in range(100)],
        "of four costs": [random.choice(a_resnets) for _ in range(100)],
    }.items():
        layers = [
            Choice(str(place), Score(random.uniform(0.3, 0.6), 0), Cost(0, 64 * ops, 0, 0), Cost(64 * ops, 0, 0, 0))
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


def one_row() -> Iterator[Claim]:
    """Train one row of the table again, for two epochs."""
    data, setting = cifar(0), NETWORKS["plain"]
    torch.manual_seed(0)
    network = setting.build()
    made = chosen(measured(network, data, seed=0), setting, "product knapsack", 10, seed=0)
    accuracy = train(convert(network, made), data, epochs=2, seed=0)
    yield Claim("plain, product knapsack at 10 %, two epochs: test error against guessing", 1 - accuracy, 0.9, 1)


def main() -> None:
    """Print the table row by row, then the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="read the table, train one row again for two epochs")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--network", choices=NETWORKS, help="one of them only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    table = read() if options.quick else []
    if not options.quick:
        for row in rows([options.network] if options.network else list(NETWORKS), options.seeds, options.epochs):
            table.append(row)
            if not options.json:
                print(*(row[column] for column in COLUMNS), sep="  ", flush=True)
    for claim in (*claims(table), *deciding(), *(one_row() if options.quick else measuring(256))):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
