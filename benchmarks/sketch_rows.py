"""A family, network, data, length, choice and seed -> a row of the table of `sketches.py`: the network is trained."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from in_one_go import accuracy, train
from selection_networks import FBIN, LATEST, REAL, Setting
from selection_networks import WBIN as ALL_WEIGHTS
from selection_rows import Bench
from sketch_gates import GATES, StandardisedGate, with_gates
from sketch_networks import BLOCKS, PAPERS, SIZE, in_papers_block, ours, widened
from torch import nn

from bnas.cost.plan import plan
from bnas.cost.totals import Cost, cost
from bnas.data import DataSet, load_data
from bnas.layers import ExpertConv
from bnas.networks.counting import count
from bnas.networks.models import Preset
from bnas.networks.models.squeezenet import published_real_inputs
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe, Stage
from bnas.space.shipped import read_recipe
from bnas.train import build_for
from bnas.train.binary_watch import evenness

BATCH = 64
DTYPE = "bfloat16"  # of every row: about half the time on a CPU that knows it
CLASSES = 50
DATA = f"sketches:{CLASSES}"
SHORT, LONG = 20, 60  # epochs; what is compared first is also trained for longer
NO_EXPERTS = "-"  # where usage would stand; an empty cell is of a row that a kill tore
COLUMNS = (
    "family", "network", "data", "epochs", "choice", "seed", "ops", "bops", "bytes", "train_accuracy",
    "validation_accuracy", "test_accuracy", "usage_entropy", "usage_least", "seconds",
)  # fmt: skip


class Job(NamedTuple):
    """One row: what is trained on what, for how many epochs."""

    family: str
    network: str
    data: str
    epochs: int
    choice: str
    seed: int


class Trained(NamedTuple):
    """A network and what it costs."""

    network: nn.Module
    cost: Cost


# alpha-beta: the papers' networks in their own block; one thing changed at a time in one of them


def block_jobs(seed: int) -> Iterator[Job]:
    """Yield the rows of alpha-beta: the comparison in every network, then what each difference is worth in one."""
    for choice in ("FBin xnor", "FBin alpha_beta", "FBin alpha_beta + class means"):
        yield Job("alpha-beta", "Sketch-A-Net", DATA, LONG, choice, seed)
    whole = [choice for choice in BLOCKS if " + " not in choice]
    for network in ("Sketch-A-Net", "ResNet-18", "GoogLeNet"):
        for choice in sorted(whole, key=lambda choice: not choice.startswith("FBin")):  # these first
            yield Job("alpha-beta", network, DATA, SHORT, choice, seed)
    for choice in (choice for choice in BLOCKS if choice not in whole):
        yield Job("alpha-beta", "Sketch-A-Net", DATA, SHORT, choice, seed)


def train_block(job: Job, data: DataSet) -> Trained:
    """Return a network of the papers in one block, trained in one stage."""
    block = BLOCKS[job.choice]
    recipe = read_recipe(block.recipe).lasting(job.epochs)
    stage = recipe.stages[0].model_copy(update={"centre_latent": block.centred, "dtype": DTYPE})
    make = partial(in_papers_block, job.network, block, data.classes)
    network = train(lambda stage: make(), Recipe(stages=(stage,), batch=BATCH), data, seed=job.seed)
    return Trained(network, count(network, (1, SIZE, SIZE)))


# hybrid: a float network, converted so that some inputs stay real

BUDGETS = (10, 25, 5, 50)
CHANCES = ("chance 0", "chance 1")
WAYS = ("product knapsack", "hybrid knapsack", "sensitivity knapsack", "hybrid partition on binary")
PUBLISHED: dict[str, dict[str, int | Sequence[str]]] = {
    "Sketch-A-Net": {"last two (published)": 2},
    "ResNet-18": {"last block (published)": 2, "last three blocks (published)": 7},
    "SqueezeNet": {"fire2 and every 1x1 expansion (published)": [f"{name}.conv" for name in published_real_inputs()]},
}


def hybrid_jobs(seed: int) -> Iterator[Job]:
    """Yield the rows of hybrid inputs: without a budget, then for each budget each way to choose."""
    for network, published in PUBLISHED.items():
        choices = [FBIN, REAL, ALL_WEIGHTS, *published]
        budgets = [budget for budget in BUDGETS if least_percent(network) <= budget]
        choices += [f"{way} at {budget} %" for budget in budgets for way in (*WAYS, LATEST, *CHANCES)]
        for choice in choices:
            yield Job("hybrid", network, DATA, SHORT, choice, seed)


@cache
def least_percent(network: str) -> float:
    """Return how many percent of its real ops a network of the papers takes when all of its inputs are binary."""
    binary, real = (
        count(PAPERS[network](Preset(precision, "real", "xnor"), CLASSES), (1, SIZE, SIZE)).ops
        for precision in ("binary", "real")
    )
    return 100 * binary / real


def train_hybrid(job: Job, data: DataSet) -> Trained:
    """Return a converted copy of a float network, trained for as many epochs as that was before."""
    bench = hybrid_bench(job.network, job.data, job.epochs, job.seed)
    choice, _, budget = job.choice.removesuffix(" %").partition(" at ")
    made = bench.chosen(choice, int(budget or 0))
    return Trained(bench.network(choice, made), made.cost)


@cache
def hybrid_bench(name: str, data: str, epochs: int, seed: int) -> Bench:
    """Return what trains the copies of a network; the float one is trained once."""
    real = partial(PAPERS[name], Preset("real", "real", "xnor"), images(data, seed).classes)
    setting = Setting(
        real, BUDGETS, PUBLISHED[name], real_epochs=epochs, epochs=epochs, data=data, shape=(1, SIZE, SIZE)
    )
    return Bench(f"{data.replace(':', '-')}-{name}", seed, setting=setting)


# experts: at equal ops

WIDTHS = ("8-16-32", "4-8-16", "16-32-64", "32-64-128")
ONE, COPIED, AT_ONCE, STAGED = "1 expert", "experts copied", "experts from the start", "in four stages"


def expert_jobs(seed: int) -> Iterator[Job]:
    """Yield the rows of experts: two at length, then over widths, over their number and gates, and on all classes."""
    for widths, data, epochs in (
        ("8-16-32", DATA, LONG), *((widths, DATA, SHORT) for widths in WIDTHS),
        ("8-16-32", "sketches", SHORT // 2), ("8-16-32", "sketches", SHORT), ("16-32-64", "sketches", SHORT // 2),
    ):  # fmt: skip
        for choice in (ONE, f"4 {COPIED}"):
            yield Job("experts", f"ours {widths}", data, epochs, choice, seed)
    gates = (f"4 {COPIED} + {gate}" for gate in GATES)
    for choice in (f"4 {AT_ONCE}", *gates, f"2 {COPIED}", f"8 {COPIED}", f"1 expert {STAGED}", f"4 experts {STAGED}"):
        yield Job("experts", "ours 8-16-32", DATA, SHORT, choice, seed)


def channels(network: str) -> tuple[int, ...]:
    """Return the widths that a network of ours has in its name."""
    return tuple(map(int, network.removeprefix("ours ").split("-")))


def train_experts(job: Job, data: DataSet) -> Trained:
    """Return a network of ours with experts, by one of three ways to begin with them."""
    way, _, gate = job.choice.partition(" + ")
    arch = ours(channels(job.network), data.classes, experts=int(way.split()[0]))
    if way.endswith(STAGED):
        recipe = read_recipe("expert").lasting(job.epochs)
        stages = tuple(stage.model_copy(update={"dtype": DTYPE}) for stage in recipe.stages)
        recipe = recipe.model_copy(update={"batch": BATCH, "stages": stages})
    else:
        recipe = one_stage(job.epochs, one_expert=0.4 if way.endswith(COPIED) else 0.0)
    return of_arch(arch, recipe, data, job.seed, gates=GATES.get(gate))


# width: groups pay for width

GROUPED = {"1 group": 1, "4 groups": 4, "16 groups": 16}
ARRANGED = {"2-2-2-2": (2, 2, 2, 2), "1-2-6-2": (1, 2, 6, 2)}
NARROW = (12, 24, 48, 96)


def width_jobs(seed: int) -> Iterator[Job]:
    """Yield the rows of width expansion: two at length, then for both arrangements of the blocks."""
    for choice in ("1 group", "4 groups"):
        yield Job("width", "ours 2-2-2-2", DATA, LONG, choice, seed)
    for arranged in ARRANGED:
        for choice in GROUPED:
            yield Job("width", f"ours {arranged}", DATA, SHORT, choice, seed)


def train_width(job: Job, data: DataSet) -> Trained:
    """Return a network of ours that is as wide as its groups let it be."""
    depths = ARRANGED[job.network.removeprefix("ours ")]
    return of_arch(widened(NARROW, GROUPED[job.choice], data.classes, depths), one_stage(job.epochs), data, job.seed)


class Family(NamedTuple):
    """Rows that are trained alike."""

    jobs: Callable[[int], Iterator[Job]]  # of a seed, the most telling ones first
    train: Callable[[Job, DataSet], Trained]


FAMILIES = {
    "experts": Family(expert_jobs, train_experts),
    "alpha-beta": Family(block_jobs, train_block),
    "width": Family(width_jobs, train_width),
    "hybrid": Family(hybrid_jobs, train_hybrid),
}


def jobs(seeds: int) -> list[Job]:
    """Return all rows: the families in turns, all seeds of a cell one after another, the most telling cells first."""
    families = [list(zip(*map(family.jobs, range(seeds)), strict=True)) for family in FAMILIES.values()]
    turns = zip_longest(*families, fillvalue=())
    return list(chain.from_iterable(cell for turn in turns for cell in turn))


def row_of(job: Job) -> dict[str, Any]:
    """Return a row: train its network and measure it."""
    data = images(job.data, job.seed)
    started = time.process_time()
    network, spent = FAMILIES[job.family].train(job, data)
    seconds = time.process_time() - started
    right = [accuracy(network, part) for part in (data.train, data.validation, data.test)]
    used = [evenness(layer.usage) for layer in network.modules() if isinstance(layer, ExpertConv)]
    return job._asdict() | {
        "ops": spent.ops, "bops": spent.bops, "bytes": spent.bytes, "train_accuracy": right[0],
        "validation_accuracy": right[1], "test_accuracy": right[2],
        "usage_entropy": sum(used) / len(used) if used else NO_EXPERTS,
        "usage_least": min(used, default=NO_EXPERTS),
        "seconds": seconds,
    }  # fmt: skip


@cache
def images(name: str, seed: int) -> DataSet:
    """Return the drawings, of which a seed holds out its own."""
    return load_data(name, seed=seed)


def one_stage(epochs: int, **more: Any) -> Recipe:
    """Return the recipe of our blocks."""
    stage = Stage(epochs=epochs, rate=4e-3, clip_latent=True, label_smoothing=0.05, dtype=DTYPE, **more)
    return Recipe(stages=(stage,), batch=BATCH)


def of_arch(
    arch: Architecture, recipe: Recipe, data: DataSet, seed: int, *, gates: type[StandardisedGate] | None = None
) -> Trained:
    """Return a network of ours, trained."""

    def make(stage: Stage) -> nn.Module:
        return with_gates(build_for(arch, stage), gates)

    return Trained(train(make, recipe, data, seed=seed), cost(plan(arch)))
