"""How to train a small binary network for CIFAR-10 at 32x32 or for MNIST: one thing changed at a time.

    python benchmarks/recipes.py [--network NETWORK] [--seeds N] [--epochs N] [--images N] [--only NAME ...]
                                 [--shard I/N] [--results CSV] [--quick] [--json]

First all networks for the images that NETWORK is for are trained by one recipe, then NETWORK by the others. Those for
CIFAR-10 are plain binary ResNets of `handmade.py`, as wide as 350k ops and 120 kB let them be, which differ in stem or
blocks; those for MNIST are FINN's TFC, SFC and LFC, and what anchors.py found under the costs of two of them. A claim
compares the shares of test images that are wrong, means over the seeds that both have, of a row and of the row that it
changes. Rows go to results/recipes.csv as they come; those that are there are not trained again. --quick reads the
table, and trains a small network for two epochs.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd
from claim import Claim
from handmade import Family, Task, fitted
from in_one_go import accuracy, train
from rows import Rows, shard
from torch import nn

from bnas.allocator import keep_freed_memory
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import Cost, cost
from bnas.data import DataSet, load_data
from bnas.networks.counting import count
from bnas.networks.models import MODELS, build_model
from bnas.space.arch import Architecture
from bnas.space.recipe import Distillation, Recipe, Stage
from bnas.train import build_for

RESULTS = Path(__file__).parent / "results" / "recipes.csv"
COLUMNS = (
    "network", "recipe", "images", "epochs", "seed", "ops", "bytes", "train_accuracy", "validation_accuracy",
    "test_accuracy", "seconds",
)  # fmt: skip
BUDGET = {"ops": "350k", "bytes": "120k"}
BATCH = 128
BASE, PLAIN, FOUND = "base", "conv of stride 2", "found under the cost of SFC"
REAL_SHARE = 0.3  # of the epochs, of a first stage of real weights


class Made(NamedTuple):
    """What is trained, and what it costs."""

    make: Callable[[Stage], nn.Module]
    price: Cost

    @classmethod
    def of(cls, arch: Architecture) -> "Made":
        """Return the network of an architecture."""
        return cls(partial(build_for, arch), cost(plan(arch)))


class Net(Protocol):
    """A network that is trained on one data set."""

    @property
    def data(self) -> str:
        """Return the name of the data set."""

    def made(self, images: DataSet) -> Made:
        """Return the network, fresh."""


class HandMade(NamedTuple):
    """A family of networks for CIFAR-10, and the strides of stem and stages."""

    family: Family
    strides: tuple[int, ...] = (2, 1, 2, 2)
    data: str = "cifar10"

    def made(self, images: DataSet) -> Made:
        """Return the widest that the budget allows."""
        task = Task(images.input_shape, images.classes, self.strides)
        return Made.of(fitted("hand-made", task, Budget.parse(BUDGET), self.family))


class Published(NamedTuple):
    """One of FINN's networks, in one bit from the image on."""

    name: str
    data: str = "mnist"

    def made(self, images: DataSet) -> Made:
        """Return it as its paper has it."""
        build = partial(build_model, self.name, precision="binary")
        return Made(lambda stage: build(), count(build(), MODELS[self.name].input))


class Found(NamedTuple):
    """A network that anchors.py has kept."""

    file: str
    data: str = "mnist"

    def made(self, images: DataSet) -> Made:
        """Return the network of its file."""
        return Made.of(Architecture.read(RESULTS.parent / "anchors" / self.file))


NETWORKS: dict[str, Net] = {
    PLAIN: HandMade(Family(blocks=2)),
    "pixels of 2x2 as channels": HandMade(Family(blocks=2, blocks_of_pixels=True)),
    "squeeze and excite": HandMade(Family(blocks=2, excite=True)),
    "shifted signs": HandMade(Family(blocks=2, activation="react")),
    "one block a stage": HandMade(Family(blocks=1)),
    "thermometer of 4 levels": HandMade(Family(blocks=2, levels=4)),
    "thermometer of 8 levels": HandMade(Family(blocks=2, levels=8)),
    "thermometer of 16 levels": HandMade(Family(blocks=2, levels=16)),
    "thermometer of 8 levels at stride 1": HandMade(Family(blocks=2, levels=8), (1, 2, 2, 2)),
    FOUND: Found("sfc-0.yaml"),
    "found under the cost of TFC": Found("tfc-0.yaml"),
    "TFC": Published("tfc"),
    "SFC": Published("sfc"),
    "LFC": Published("lfc"),
}


class Setting(NamedTuple):
    """How networks for some images are trained where nothing is changed, and what they are compared with."""

    plain: str  # the network that the others change, or stand beside
    images: int  # to train on, those held out among them
    epochs: int
    stage: dict[str, Any]
    teacher: str  # a real network
    teacher_epochs: int
    changes: dict[str, dict[str, Any]]  # the recipes that only these images have
    augment: tuple[str, ...] | None = None  # None: as suits the images


SETTINGS = {
    "cifar10": Setting(
        PLAIN, 25_000, 10,
        {"rate": 4e-3, "clip_latent": True, "label_smoothing": 0.05, "dtype": "bfloat16"}, "resnet20_cifar", 6,
        {
            "no label smoothing": {"label_smoothing": 0.0},
            "not augmented": {"augment": ()},
            "cutout too": {"augment": ("flip", "crop", "cutout")},
            "all in float32": {"dtype": "float32"},
        },
    ),
    "mnist": Setting(
        "SFC", 60_000, 20, {"rate": 1e-2, "clip_latent": True}, "lenet5", 6,
        {
            "four times the rate": {"rate": 4.0},
            "label smoothing 0.05": {"label_smoothing": 0.05},
            "shifted": {"augment": ("shift",)},
            "turned and scaled and sheared": {"augment": ("affine",)},
        },
        augment=(),
    ),
}  # fmt: skip

CHANGES: dict[str, dict[str, Any]] = {  # rates are times that of the base
    "half the rate": {"rate": 0.5},
    "twice the rate": {"rate": 2.0},
    "weights not clipped": {"clip_latent": False},
    "decay of what is real": {"weight_decay": 1e-2},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "real weights first": {"first": {}},
    "real weights first as teacher": {"first": {}, "distill": Distillation()},
    "taught by a real network": {"distill": Distillation()},
    "average of weights": {"ema": 0.998},
    "batch of 64": {"batch": 64},
    "batch of 32": {"batch": 32},
    "batch of 32 at half the rate": {"batch": 32, "rate": 0.5},
    "mixup 0.2": {"mixup": 0.2},
}


def recipes_for(data: str) -> dict[str, dict[str, Any]]:
    """Return what each recipe for a data set changes in the base, by name."""
    return {BASE: {}, **CHANGES, **SETTINGS[data].changes}


def stages(base: Mapping[str, Any], epochs: int, **changed: Any) -> tuple[Stage, ...]:
    """Return one stage, or two where `first` says what is other in a first one of real weights."""
    first = changed.pop("first", None)
    stage = {**base, **changed, "rate": base["rate"] * changed.get("rate", 1.0)}
    if first is None:
        return (Stage(epochs=epochs, **stage),)
    real = round(REAL_SHARE * epochs)
    before = {**base, "weights": "real", "clip_latent": False, "weight_decay": 1e-2, **first}
    return Stage(epochs=real, **before), Stage(epochs=epochs - real, **stage)


class Job(NamedTuple):
    """One row."""

    network: str
    recipe: str
    images: int
    epochs: int
    seed: int


def jobs(network: str, *, images: int | None, epochs: int | None, seeds: int) -> list[Job]:
    """Return all rows: the networks for the images of one by one recipe, then the recipes on that one, by seeds."""
    data = NETWORKS[network].data
    many, long = images or SETTINGS[data].images, epochs or SETTINGS[data].epochs
    found = []
    for seed in range(seeds):
        found += [Job(name, BASE, many, long, seed) for name, net in NETWORKS.items() if net.data == data]
        found += [Job(network, recipe, many, long, seed) for recipe in recipes_for(data) if recipe != BASE]
    return found


def recipe_of(data: str, name: str, epochs: int) -> Recipe:
    """Return a recipe for a data set by its name."""
    setting, changed = SETTINGS[data], dict(recipes_for(data)[name])
    augment, batch = changed.pop("augment", setting.augment), changed.pop("batch", BATCH)
    return Recipe(stages=stages(setting.stage, epochs, **changed), batch=batch, augment=augment)


def row_of(job: Job) -> dict[str, Any]:
    """Return a row: train its network and measure it."""
    net = NETWORKS[job.network]
    data = load_data(net.data, seed=job.seed, limit=job.images)
    made, recipe = net.made(data), recipe_of(net.data, job.recipe, job.epochs)
    started = time.process_time()
    network = train(made.make, recipe, data, seed=job.seed, teacher=teacher_for(job, data))
    right = [accuracy(network, part) for part in (data.train, data.validation, data.test)]
    return job._asdict() | {
        "ops": made.price.ops, "bytes": made.price.bytes, "train_accuracy": right[0], "validation_accuracy": right[1],
        "test_accuracy": right[2], "seconds": time.process_time() - started,
    }  # fmt: skip


def teacher_for(job: Job, data: DataSet) -> nn.Module | None:
    """Return a real network, trained first, where a recipe's first stage is taught."""
    name = NETWORKS[job.network].data
    setting, changed = SETTINGS[name], recipes_for(name)[job.recipe]
    if "distill" not in changed or "first" in changed:
        return None
    real = Stage(epochs=setting.teacher_epochs, **{**setting.stage, "rate": 4e-3, "clip_latent": False})
    recipe = Recipe(stages=(real,), batch=BATCH)
    return train(lambda stage: build_model(setting.teacher, precision="real"), recipe, data, seed=job.seed)


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
    """Yield for each row what it gains over the one that it changes: the plain network, the base recipe."""
    for network, net in NETWORKS.items():
        plain = SETTINGS[net.data].plain
        pairs = [({"network": network, "recipe": BASE}, {"network": plain, "recipe": BASE})] * (network != plain)
        pairs += [
            ({"network": network, "recipe": recipe}, {"network": network, "recipe": BASE})
            for recipe in recipes_for(net.data)
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
    network = train(partial(build_for, arch), recipe_of("cifar10", BASE, 2), data, seed=0)
    error = 1 - accuracy(network, data.test.take(2000, seed=0))
    return Claim("a small network, 2 epochs of 2,700 images of 16x16: test error against guessing", error, 0.9, 0.9)


def main() -> None:
    """Train what the table lacks, then print each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default=PLAIN, help="that the recipes train")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="10 on CIFAR-10, 20 on MNIST unless given")
    parser.add_argument("--images", type=int, help="those held out among them; 25,000 and 60,000 unless given")
    names = dict.fromkeys((*NETWORKS, *(name for data in SETTINGS for name in recipes_for(data))))
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="networks and recipes")
    parser.add_argument("--shard", help="which part of the work this process does, as in 2/4; it claims nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="read the table; train one small network")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    keep_freed_memory()
    file = Rows(options.results, COLUMNS, texts=("network", "recipe"))
    wanted = jobs(options.network, images=options.images, epochs=options.epochs, seeds=options.seeds)
    wanted = [job for job in wanted if {job.network, job.recipe} <= {options.network, BASE, *options.only}]
    if not options.quick:
        file.complete(shard(wanted, options.shard), row_of)
    if options.shard:
        return
    for claim in (*([small_network()] if options.quick else []), *claims(file.frame())):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
