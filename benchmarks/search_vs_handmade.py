"""Networks that searches found beside those that people make by hand, as large, and trained alone as long.

    python benchmarks/search_vs_handmade.py [ARCH.yaml ...] [--seeds N] [--epochs N] [--rivals FAMILY ...]
                                            [--shard I/N] [--results CSV] [--quick] [--json]

ARCH.yaml is the best network of a search, as in RUN/best/architecture.yaml; left out, those for CIFAR-10 that
anchors.py has kept. The rivals are the families of `handmade.py`: each has the found network's strides, and is as wide
as its ops and bytes let it be. All are trained from nothing, by the recipe of `cifar10.yaml` in bfloat16 lasting so
many epochs, from the same seeds. A claim compares mean test errors of the found network and of the best rival, picked
on held-out images, and says the interval that 95 % of resampled seeds give. Rows go to results/search_vs_handmade.csv
as they come; those that are there are not trained again. --quick reads the table, and trains a small network.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anchors import RESULTS, TASKS, in_bfloat16
from claim import Claim, positive
from handmade import FAMILIES, Task, fitted
from in_one_go import accuracy, train
from recipes import small_network
from rows import Rows, shard

from bnas.allocator import keep_freed_memory
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import load_data
from bnas.errors import BudgetError
from bnas.space.arch import Architecture
from bnas.space.shipped import space_file
from bnas.space.space import SearchSpace
from bnas.train import build_for

COLUMNS = (
    "found", "network", "epochs", "seed", "ops", "bytes", "train_accuracy", "validation_accuracy", "test_accuracy",
    "seconds",
)  # fmt: skip
SPACE, EPOCHS, FOUND, POINTS = "cifar10", 10, "found", 0.015
RESAMPLED = 10_000


class Job(NamedTuple):
    """One row: the id of the found network, which network is trained beside it, how long, and from which seed."""

    found: str
    network: str
    epochs: int
    seed: int


def kept() -> list[Path]:
    """Return the networks for CIFAR-10 that anchors.py found."""
    names = [anchor.name.lower() for task in TASKS if task.space == SPACE for anchor in task.anchors]
    return sorted(file for name in names for file in (RESULTS / "anchors").glob(f"{name}-*.yaml"))


def beside(found: Architecture, families: Sequence[str]) -> dict[str, Architecture]:
    """Return a found network and the rivals that take no more ops and bytes; says why others are left out."""
    price = cost(plan(found))
    budget = Budget.parse({"ops": price.ops, "bytes": price.bytes})
    networks = {FOUND: found}
    for name in families:
        try:
            networks[name] = fitted(name, Task.of(found), budget)
        except BudgetError as problem:
            print(f"left out: {problem}", file=sys.stderr)
    return networks


def row_of(job: Job, arch: Architecture) -> dict[str, Any]:
    """Return a row: train its network and measure it."""
    settings = in_bfloat16(SearchSpace.read(space_file(SPACE))).search
    recipe = settings.retrain.recipe.lasting(job.epochs)
    data = load_data("cifar10", validation=settings.validation, seed=job.seed, input_shape=arch.input)
    price, started = cost(plan(arch)), time.process_time()
    network = train(partial(build_for, arch), recipe, data, seed=job.seed)
    right = [accuracy(network, part) for part in (data.train, data.validation, data.test)]
    return job._asdict() | {
        "ops": price.ops, "bytes": price.bytes, "train_accuracy": right[0], "validation_accuracy": right[1],
        "test_accuracy": right[2], "seconds": time.process_time() - started,
    }  # fmt: skip


def claims(table: pd.DataFrame) -> Iterator[Claim]:
    """Yield for each found network whether it is ahead of the best rival, over the seeds that all have, and surely."""
    for (found, epochs), rows in table.groupby(["found", "epochs"]):
        kinds = ["validation_accuracy", "test_accuracy"]
        both = rows.pivot(index="seed", columns="network", values=kinds).dropna()
        held_out, test = (both[kind] for kind in kinds)
        if FOUND not in test or test.shape[1] < 2 or test.empty:
            continue
        best = held_out.drop(columns=FOUND).mean().idxmax()
        least, most = interval((test[FOUND] - test[best]).to_numpy())
        ops = rows.loc[rows["network"] == FOUND, "ops"].iloc[0]
        name = f"{found}, {ops:,.0f} ops, {epochs} epochs, {len(test)} seeds"
        what = f"test error against that of {best}, the best made by hand, less {POINTS:.1%}"
        yield Claim(f"{name}: {what}", 1 - test[FOUND].mean(), 1 - test[best].mean() - POINTS, 1.0)
        if len(test) > 1:
            what = f"gain over {best}, in points {100 * least:+.2f} to {100 * most:+.2f}: 1 against 1 and the lower end"
            yield Claim(f"{name}: {what}", 1.0, positive(1 + least), 1.0)


def interval(gains: np.ndarray) -> tuple[float, float]:
    """Return what 95 % of the means of resampled gains lie between."""
    drawn = np.random.default_rng(0).choice(gains, (RESAMPLED, len(gains))).mean(axis=1)
    least, most = np.quantile(drawn, (0.025, 0.975))
    return float(least), float(most)


def main() -> None:
    """Train what the table lacks, then print each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="*", metavar="ARCH.yaml")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--rivals", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--shard", help="which part of the work this process does, as in 2/4; it claims nothing")
    parser.add_argument("--results", type=Path, default=RESULTS / "search_vs_handmade.csv")
    parser.add_argument("--quick", action="store_true", help="read the table; train one small network")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    keep_freed_memory()
    file = Rows(options.results, COLUMNS, texts=("found", "network"))
    found = [Architecture.read(place) for place in options.networks or kept()]
    groups = {arch.id: beside(arch, options.rivals) for arch in found}
    wanted = [
        Job(arch_id, name, options.epochs, seed)
        for seed in range(options.seeds)
        for arch_id, networks in groups.items()
        for name in networks
    ]
    if not options.quick:
        file.complete(shard(wanted, options.shard), lambda job: row_of(job, groups[job.found][job.network]))
    if options.shard:
        return
    for claim in (*([small_network()] if options.quick else []), *claims(file.frame())):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
