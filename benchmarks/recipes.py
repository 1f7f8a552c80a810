"""How to train a small binary network for CIFAR-10 at 32x32: stems and recipes, one thing changed at a time.

    python benchmarks/recipes.py [--seeds N] [--epochs N] [--images N] [--stem NETWORK] [--only NAME ...]
                                 [--shard I/N] [--results CSV] [--quick] [--json]

All networks are plain binary ResNets of `handmade.py`, as wide as 350k ops and 120 kB let them be; what is trained
first are stems and blocks, by one recipe, then the recipes, on one. A claim compares the shares of test images that are
wrong, means over the seeds that both have, of a row and of the row that it changes. Rows go to results/recipes.csv as
they come; those that are there are not trained again. --quick reads the table, and trains a small network for two
epochs.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from claim import Claim
from handmade import Family, Task, fitted
from in_one_go import accuracy, train
from rows import Rows, shard
from torch import nn

from bnas.allocator import keep_freed_memory
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import DataSet, load_data
from bnas.networks.models import build_model
from bnas.space.recipe import Distillation, Recipe, Stage
from bnas.train import build_for

RESULTS = Path(__file__).parent / "results" / "recipes.csv"
COLUMNS = (
    "network", "recipe", "images", "epochs", "seed", "ops", "bytes", "train_accuracy", "validation_accuracy",
    "test_accuracy", "seconds",
)  # fmt: skip
BUDGET = {"ops": "350k", "bytes": "120k"}
EPOCHS, IMAGES, BATCH = 10, 25_000, 128
PLAIN, BASE = "conv of stride 2", "base"
REAL_SHARE = 0.3  # of the epochs, of a first stage of real weights
TEACHER, TEACHER_EPOCHS = "resnet20_cifar", 6


class Net(NamedTuple):
    """A family of networks, and the strides of stem and stages."""

    family: Family
    strides: tuple[int, ...]


NETWORKS = {
    PLAIN: Net(Family(blocks=2), (2, 1, 2, 2)),
    "pixels of 2x2 as channels": Net(Family(blocks=2, blocks_of_pixels=True), (2, 1, 2, 2)),
    "squeeze and excite": Net(Family(blocks=2, excite=True), (2, 1, 2, 2)),
    "shifted signs": Net(Family(blocks=2, activation="react"), (2, 1, 2, 2)),
    "one block a stage": Net(Family(blocks=1), (2, 1, 2, 2)),
    "thermometer of 4 levels": Net(Family(blocks=2, levels=4), (2, 1, 2, 2)),
    "thermometer of 8 levels": Net(Family(blocks=2, levels=8), (2, 1, 2, 2)),
    "thermometer of 16 levels": Net(Family(blocks=2, levels=16), (2, 1, 2, 2)),
    "thermometer of 8 levels, stride 1": Net(Family(blocks=2, levels=8), (1, 2, 2, 2)),
}

STAGE: dict[str, Any] = {
    "rate": 4e-3, "clip_latent": True, "label_smoothing": 0.05, "dtype": "bfloat16",
}  # fmt: skip


def stages(epochs: int, **changed: Any) -> tuple[Stage, ...]:
    """Return one stage, or two where `first` says what is other in a first one of real weights."""
    first = changed.pop("first", None)
    if first is None:
        return (Stage(epochs=epochs, **STAGE | changed),)
    real = round(REAL_SHARE * epochs)
    before = Stage(epochs=real, **STAGE | {"weights": "real", "clip_latent": False, "weight_decay": 1e-2} | first)
    return before, Stage(epochs=epochs - real, **STAGE | changed)


RECIPES: dict[str, dict[str, Any]] = {
    BASE: {},
    "half the rate": {"rate": 2e-3},
    "twice the rate": {"rate": 8e-3},
    "weights not clipped": {"clip_latent": False},
    "no label smoothing": {"label_smoothing": 0.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "real weights first": {"first": {}},
    "real weights first, which teach": {"first": {}, "distill": Distillation()},
    "taught by a real network": {"distill": Distillation()},
    "average of weights": {"ema": 0.998},
    "batch of 64": {"batch": 64},
    "batch of 32": {"batch": 32},
    "batch of 32, half the rate": {"batch": 32, "rate": 2e-3},
    "mixup 0.2": {"mixup": 0.2},
    "not augmented": {"augment": ()},
    "cutout too": {"augment": ("flip", "crop", "cutout")},
    "all in float32": {"dtype": "float32"},
}


class Job(NamedTuple):
    """One row."""

    network: str
    recipe: str
    images: int
    epochs: int
    seed: int


def jobs(*, images: int, epochs: int, seeds: int, stem: str) -> list[Job]:
    """Return all rows: the networks by one recipe, then the recipes on one of them, seed by seed."""
    found = []
    for seed in range(seeds):
        found += [Job(network, BASE, images, epochs, seed) for network in NETWORKS]
        found += [Job(stem, recipe, images, epochs, seed) for recipe in RECIPES if recipe != BASE]
    return found


def recipe_of(name: str, epochs: int) -> Recipe:
    """Return a recipe by its name."""
    changed = dict(RECIPES[name])
    augment, batch = changed.pop("augment", None), changed.pop("batch", BATCH)
    return Recipe(stages=stages(epochs, **changed), batch=batch, augment=augment)


def row_of(job: Job) -> dict[str, Any]:
    """Return a row: train its network and measure it."""
    data = load_data("cifar10", seed=job.seed, limit=job.images)
    net = NETWORKS[job.network]
    arch = fitted(job.network, Task(data.input_shape, data.classes, net.strides), Budget.parse(BUDGET), net.family)
    recipe = recipe_of(job.recipe, job.epochs)
    price, started = cost(plan(arch)), time.process_time()
    network = train(partial(build_for, arch), recipe, data, seed=job.seed, teacher=teacher_for(job, data))
    right = [accuracy(network, part) for part in (data.train, data.validation, data.test)]
    return job._asdict() | {
        "ops": price.ops, "bytes": price.bytes, "train_accuracy": right[0], "validation_accuracy": right[1],
        "test_accuracy": right[2], "seconds": time.process_time() - started,
    }  # fmt: skip


def teacher_for(job: Job, data: DataSet) -> nn.Module | None:
    """Return a real network, trained first, where a recipe's first stage is taught."""
    changed = RECIPES[job.recipe]
    if "distill" not in changed or "first" in changed:
        return None
    real = Stage(epochs=TEACHER_EPOCHS, rate=4e-3, label_smoothing=0.05, dtype="bfloat16")
    recipe = Recipe(stages=(real,), batch=BATCH)
    return train(lambda stage: build_model(TEACHER, precision="real"), recipe, data, seed=job.seed)


def ahead(table: pd.DataFrame, mine: Mapping[str, str], other: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield for each length and number of images the errors of two rows, seed by seed, where both are there."""
    keys = ["images", "epochs", "seed"]
    errors = [1 - _rows(table, which).set_index(keys)["test_accuracy"] for which in (mine, other)]
    both = pd.concat(errors, axis=1, keys=("mine", "other"), join="inner")
    for (images, epochs), rows in both.groupby(level=["images", "epochs"]):
        yield f"{images} images, {epochs} epochs, {len(rows)} seeds", rows


def _rows(table: pd.DataFrame, which: Mapping[str, str]) -> pd.DataFrame:
    return table[(table["network"] == which["network"]) & (table["recipe"] == which["recipe"])]


def claims(table: pd.DataFrame) -> Iterator[Claim]:
    """Yield for each row what it gains over the one that it changes: the plain stem, the base recipe."""
    for network in NETWORKS:
        pairs = [({"network": network, "recipe": BASE}, {"network": PLAIN, "recipe": BASE})] * (network != PLAIN)
        pairs += [
            ({"network": network, "recipe": recipe}, {"network": network, "recipe": BASE})
            for recipe in RECIPES
            if recipe != BASE
        ]
        for mine, other in pairs:
            for where, rows in ahead(table, mine, other):
                what = f"{where}: test error of {mine['network']}, {mine['recipe']}"
                yield Claim(f"{what}, against {', '.join(other.values())}", *rows.mean()[["mine", "other"]], 1.0)


def small_network() -> Claim:
    """Train a small network for two epochs, and compare it with guessing."""
    data = load_data("cifar10", limit=3000, input_shape=(3, 16, 16))
    arch = fitted("plain", Task(data.input_shape, data.classes, (2, 1, 2, 2)), Budget.parse({"ops": "50k"}))
    network = train(partial(build_for, arch), recipe_of(BASE, 2), data, seed=0)
    error = 1 - accuracy(network, data.test.take(2000, seed=0))
    return Claim("a small network, 2 epochs of 2,700 images of 16x16: test error against guessing", error, 0.9, 0.9)


def main() -> None:
    """Train what the table lacks, then print each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--images", type=int, default=IMAGES, help="those held out among them")
    parser.add_argument("--stem", choices=NETWORKS, default=PLAIN, help="of the network that the recipes train")
    names = (*NETWORKS, *RECIPES)
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help="of networks and recipes"
    )
    parser.add_argument("--shard", help="which part of the work this process does, as in 2/4; it claims nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="read the table; train one small network")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    keep_freed_memory()
    file = Rows(options.results, COLUMNS, texts=("network", "recipe"))
    wanted = jobs(images=options.images, epochs=options.epochs, seeds=options.seeds, stem=options.stem)
    wanted = [job for job in wanted if {job.network, job.recipe} <= {options.stem, BASE, *options.only}]
    if not options.quick:
        file.complete(shard(wanted, options.shard), row_of)
    if options.shard:
        return
    for claim in (*([small_network()] if options.quick else []), *claims(file.frame())):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
