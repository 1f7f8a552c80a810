"""Networks that a search finds beside published ones that people know: accuracy with fewer ops and fewer bytes.

    python benchmarks/anchors.py [--seeds N] [--only ANCHOR ...] [--runs DIR] [--minutes N]
                                 [--quick] [--json]

TFC, SFC and LFC are FINN's networks for MNIST, fully connected, of one-bit images, weights and activations; CNV is its
convolutional one for CIFAR-10, beside which budgets of 150k and 350k ops stand that nobody published. Each seed
searches `mnist_tiny.yaml` anew, with one supernet for its three budgets, and `cifar10.yaml` for each of its three; a
winner is handed over by the search, chosen on held-out images, and written down as soon as its budget is done. CIFAR-10
is trained in bfloat16: quicker than float32 on a processor that has such instructions, much slower on others. A claim
compares the shares of test images that are wrong, means over seeds, and the dearest winner's ops and bytes. A search
goes on where it was stopped, in --runs; what is in results/anchors.csv is not searched again. --minutes scales what a
space asks for to that much time for each search. --quick reads that table, and trains the smallest network of it again
for a few epochs.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from claim import Claim
from nowhere import NoStore
from rows import Rows

import bnas
from bnas.allocator import keep_freed_memory
from bnas.api import Best
from bnas.cost.budget import Budget
from bnas.data import load_data
from bnas.runs import Run
from bnas.space.arch import Architecture
from bnas.space.shipped import space_file
from bnas.space.space import SearchSpace
from bnas.spec import dump
from bnas.train import build_for, evaluate, train_staged

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("anchor", "seed", "id", "ops", "bytes", "validation_accuracy", "test_accuracy")
QUICK_EPOCHS, QUICK_SHARE = 3, 0.9  # of the accuracy that the whole recipe reached


class Anchor(NamedTuple):
    """A published network, or a budget of which none is known, and what is wanted of ours."""

    name: str
    ops: float  # that ours may take at most
    bytes: float | None = None
    accuracy: float | None = None  # published, of the test images
    aim: float | None = None  # what we would like to reach


class Task(NamedTuple):
    """One search, for as many anchors as it has budgets: they are in their order, and lie inside what these allow."""

    data: str
    space: str
    anchors: tuple[Anchor, ...]
    budget: dict[str, str] | None = None  # for one anchor, in bfloat16; None: the targets of the space

    def read(self) -> SearchSpace:
        """Return the space, with what its networks are trained in."""
        space = SearchSpace.read(space_file(self.space))
        return space if self.budget is None else in_bfloat16(space)

    def budgets(self) -> list[Budget]:
        """Return the budget for each anchor."""
        settings = self.read().search
        targets = settings.targets if self.budget is None else (self.budget,)
        return [Budget.parse(target, over=Budget.parse(settings.budget)) for target in targets]

    def search(self, *, seed: int, out: Path, minutes: float | None) -> None:
        """Search, or go on, in a run folder."""
        if self.budget is None:
            bnas.search_targets(self.read(), data=self.data, seed=seed, minutes=minutes, out=out)
        else:
            bnas.search(self.read(), data=self.data, budget=self.budget, seed=seed, minutes=minutes, out=out)


def in_bfloat16(space: SearchSpace) -> SearchSpace:
    """Return the space with its supernet and what is trained alone in bfloat16."""
    settings, recipe = space.search, space.search.retrain.recipe
    short = recipe.but(stages=tuple(stage.but(dtype="bfloat16") for stage in recipe.stages))
    retrain, supernet = settings.retrain.but(recipe=short), settings.supernet.but(dtype="bfloat16")
    return space.but(search=settings.but(supernet=supernet, retrain=retrain))


# Source: Umuroglu et al., FINN, 2017 (arXiv:1612.07119); binary operations a 64th each. CNV takes 2.46M ops and 193 kB.
TASKS = (
    Task("mnist", "mnist_tiny", (
        Anchor("TFC", 922, 7.4e3, 0.9317, 0.975),
        Anchor("SFC", 5.2e3, 42e3, 0.9781, 0.989),
        Anchor("LFC", 45.5e3, 364e3, 0.9888, 0.993),
    )),
    Task("cifar10", "cifar10", (Anchor("150k", 150e3),), {"ops": "80k..150k"}),
    Task("cifar10", "cifar10", (Anchor("350k", 350e3, aim=0.78),), {"ops": "200k..350k"}),
    Task("cifar10", "cifar10", (Anchor("CNV", 1.0e6, 40e3, 0.842, 0.842),), {"ops": "0.5M..1.0M", "bytes": "40k"}),
)  # fmt: skip
ANCHORS = tuple(anchor for task in TASKS for anchor in task.anchors)


def searched(rows: Rows, runs: Path, task: Task, seed: int, minutes: float | None) -> None:
    """Search once for all anchors, and write down each winner that is not there yet, those of a stopped search too."""
    folder = runs / f"{task.space}-{task.anchors[0].name.lower()}-{seed}"
    note(rows, folder, task, seed)
    frame = rows.frame()
    if not set(frame["anchor"][frame["seed"] == seed]) >= {anchor.name for anchor in task.anchors}:
        task.search(seed=seed, out=folder, minutes=minutes)
        note(rows, folder, task, seed)


def note(rows: Rows, folder: Path, task: Task, seed: int) -> None:
    """Write down the winners that a run folder has, and their architectures, but for those that are there."""
    frame = rows.frame()
    for anchor, best in winners(folder, task):
        if ((frame["anchor"] == anchor.name) & (frame["seed"] == seed)).any():
            continue
        place = network_file(anchor, seed)
        place.parent.mkdir(exist_ok=True)
        place.write_text(dump(best.architecture), encoding="utf-8")
        rows.add(
            anchor=anchor.name, seed=seed, id=best.architecture.id, ops=best.cost.ops, bytes=best.cost.bytes,
            validation_accuracy=best.manifest["accuracy"]["validation"], test_accuracy=best.accuracy,
        )  # fmt: skip


def winners(folder: Path, task: Task) -> Iterator[tuple[Anchor, Best]]:
    """Yield each anchor whose budget a run has searched to the end, and the winner."""
    budgets = task.budgets()
    places = sorted(folder.glob("targets/*/")) if task.budget is None else [folder]
    for place in filter(Path.exists, places):
        run = Run.read(place)
        if run.best.is_sound():
            found = bnas.open_run(place)
            assert isinstance(found, bnas.SearchResult)
            yield task.anchors[budgets.index(Budget.parse(run.config["budget"]))], found.best


def network_file(anchor: Anchor, seed: int) -> Path:
    """Return where the architecture of a winner is kept."""
    return RESULTS / "anchors" / f"{anchor.name.lower()}-{seed}.yaml"


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """Yield for each anchor whether fewer images are wrong, and whether the winners cost less."""
    for anchor in ANCHORS:
        mine = frame[frame["anchor"] == anchor.name]
        if mine.empty:
            continue
        wrong, of = 1 - mine["test_accuracy"].mean(), f"{anchor.name}, {len(mine)} seeds"
        if anchor.accuracy is not None:
            yield Claim(f"{of}: share that is wrong, found against published", wrong, 1 - anchor.accuracy, 1)
        if anchor.aim is not None:
            yield Claim(f"{of}: share that is wrong, found against what we aim at", wrong, 1 - anchor.aim, 1)
        yield Claim(f"{of}: ops of the dearest found", float(mine["ops"].max()), anchor.ops, 1)
        if anchor.bytes is not None:
            yield Claim(f"{of}: bytes of the largest found", float(mine["bytes"].max()), anchor.bytes, 1)


def again(frame: pd.DataFrame) -> Claim:
    """Train the network of the first row that costs least for a few epochs."""
    row = frame.sort_values(["ops", "seed"]).iloc[0]
    task, anchor = next((task, anchor) for task in TASKS for anchor in task.anchors if anchor.name == row["anchor"])
    space = task.read()
    images = load_data(task.data, validation=space.search.validation, seed=int(row["seed"]), input_shape=space.input)
    network = train_staged(
        partial(build_for, Architecture.read(network_file(anchor, int(row["seed"])))),
        space.search.retrain.recipe.lasting(QUICK_EPOCHS), images, name="again", seed=0, store=NoStore(),
        device=torch.device("cpu"),
    )  # fmt: skip
    accuracy = evaluate(network, images.test.batches(500))[0]
    what = f"{anchor.name}: accuracy of the row against what {QUICK_EPOCHS} epochs reach again"
    return Claim(what, float(row["test_accuracy"]), accuracy, 1 / QUICK_SHARE)


def main() -> None:
    """Search what is missing, and print each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    names = [anchor.name for anchor in ANCHORS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="ANCHOR", help=", ".join(names))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--minutes", type=float, help="time for each search; without it, as long as the space asks for")
    parser.add_argument("--quick", action="store_true", help="search nothing; train one small row again")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    keep_freed_memory()
    rows = Rows(RESULTS / "anchors.csv", COLUMNS, texts=("anchor", "id"))
    for seed in range(0 if options.quick else options.seeds):
        for task in TASKS:
            if {anchor.name for anchor in task.anchors} & set(options.only):
                searched(rows, options.runs, task, seed, options.minutes)
    frame = rows.frame()
    for claim in (*([again(frame)] if options.quick and len(frame) else []), *claims(frame)):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
