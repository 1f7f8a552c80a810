"""A whole `bnas search` against plain Optuna TPE that trains every candidate from scratch, for the same time.

    python benchmarks/search_vs_scratch.py [--quick] [--json] [--seeds N] [--results CSV]

Space, budget and recipe are one and the same: the choices of search_spaces/cifar10.yaml at 16x16, with the images and
settings of search_spaces/bench.yaml. The search is a process of its own, timed from its start to its end, its random
twin and its retraining included. TPE then gets as many seconds: it trains each network inside the budget by the
search's own recipe, and is told its validation accuracy; what is over the budget costs it nothing. The winner of each
is chosen on validation images, and compared by its test accuracy. Rows are appended to results/search_vs_scratch.csv;
what is there is not done again. --quick trains nothing: it reads what is there. CIFAR-10 is in $BNAS_DATA.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import optuna
import pandas as pd
import torch
from claim import Claim
from nowhere import NoStore
from optuna.trial import TrialState
from rows import Rows
from table import images

from bnas.cost import Budget
from bnas.feasible import cost_of
from bnas.ranking import train_alone
from bnas.runs import Run
from bnas.searcher import SAMPLERS
from bnas.searcher.sampler import distributions, to_genes
from bnas.space import SearchSpace
from bnas.spec import dump, read

SPACES = Path(__file__).parents[1] / "search_spaces"
RESULTS = Path(__file__).parent / "results" / "search_vs_scratch.csv"
RUNS = Path("runs") / "search_vs_scratch"
COLUMNS = ("way", "seed", "number", "id", "ops", "seconds", "validation_accuracy", "test_accuracy")
SEARCH, SCRATCH = "search", "scratch"
POINTS, FIFTH = 0.02, 0.2


def common_space() -> SearchSpace:
    """Return the space that both search."""
    wide, small = (read(SearchSpace, SPACES / f"{name}.yaml") for name in ("cifar10", "bench"))
    fields = {name: getattr(wide, name) for name in SearchSpace.model_fields}
    return SearchSpace(**fields | {"input": small.input, "search": small.search})


def search(space: SearchSpace, seed: int, results: Rows) -> None:
    """Search from the start, and write down the seconds and the winner."""
    folder = RUNS / str(seed)
    shutil.rmtree(folder, ignore_errors=True)  # a search that was stopped has no time
    RUNS.mkdir(parents=True, exist_ok=True)
    file = RUNS / f"{seed}.yaml"
    file.write_text(dump(space), encoding="utf-8")
    command = [sys.executable, "-m", "bnas", "search", file, "--data", "cifar10", "--seed", seed, "--out", folder]
    started = time.monotonic()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    best = Run.read(folder).read_best()[2]
    results.add(
        way=SEARCH, seed=seed, number=0, id=best["architecture_id"], ops=best["cost"]["ops"], seconds=seconds,
        validation_accuracy=best["accuracy"]["validation"], test_accuracy=best["accuracy"]["test"],
    )  # fmt: skip


def train_from_scratch(space: SearchSpace, seed: int, results: Rows, *, seconds: float) -> None:
    """Let TPE train networks until the time is up; the last one may end after it.

    A second call proposes the same networks again, and does not train again those that are written down.
    """
    budget = Budget.parse(space.search.budget)
    known = of(results.frame(), SCRATCH, seed).set_index("number")
    data = images(space, "cifar10")
    study = optuna.create_study(direction="maximize")
    spent, number = 0.0, 0
    while spent < seconds:
        study.sampler = SAMPLERS["tpe"](space, budget, Random(f"{seed}/{len(study.trials)}").getrandbits(31))
        trial = study.ask(distributions(space))
        genes = to_genes(space, trial.params)
        price = cost_of(space, genes)
        if not budget.admits(price):
            study.tell(trial, state=TrialState.PRUNED)
            continue
        if number not in known.index:
            arch, started = space.architecture(genes), time.monotonic()
            reached = train_alone(
                arch, space.search.retrain.recipe, data, seed=seed, store=NoStore(), device=torch.device("cpu")
            )
            results.add(
                way=SCRATCH, seed=seed, number=number, id=arch.id, ops=price.ops, seconds=time.monotonic() - started,
                validation_accuracy=reached.validation_accuracy, test_accuracy=reached.test_accuracy,
            )  # fmt: skip
            known = of(results.frame(), SCRATCH, seed).set_index("number")
        study.tell(trial, float(known.loc[number, "validation_accuracy"]))
        spent, number = spent + float(known.loc[number, "seconds"]), number + 1


def of(frame: pd.DataFrame, way: str, seed: int) -> pd.DataFrame:
    """Return the rows of one way and seed, in their order."""
    return frame[(frame["way"] == way) & (frame["seed"] == seed)].sort_values("number")


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """Yield both ways to win, each by means over seeds: more accuracy in equal time, or as much in less."""
    seeds = sorted(frame.loc[frame["way"] == SEARCH, "seed"].unique())
    if not seeds:
        return
    gained, times = [], []
    for seed in seeds:
        mine, scratch = of(frame, SEARCH, seed).iloc[0], of(frame, SCRATCH, seed)
        scratch = scratch.assign(elapsed=scratch["seconds"].cumsum())
        in_time = scratch[scratch["elapsed"] <= mine["seconds"]]
        best = in_time.loc[in_time["validation_accuracy"].idxmax()]
        gained.append(mine["test_accuracy"] - best["test_accuracy"])
        reached = scratch[scratch["test_accuracy"] >= mine["test_accuracy"]]
        times.append((mine["seconds"], reached["elapsed"].min() if len(reached) else float("inf")))
    gain = sum(gained) / len(gained)
    what = f"equal time: accuracy wanted above TPE from scratch, against that gained, mean of {len(seeds)} seeds"
    yield Claim(what, POINTS, max(gain, 1e-9), 1.0)
    never = sum(late == float("inf") for _, late in times)
    what = f"equal accuracy: seconds of the search against those of TPE (in {never} of {len(seeds)} it never got there)"
    found = [pair for pair in times if pair[1] != float("inf")]
    if found:
        yield Claim(what, sum(mine for mine, _ in found), sum(late for _, late in found), FIFTH)


def main() -> None:
    """Do what is missing, then print each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="train nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results, space = Rows(options.results, COLUMNS, texts=("way", "id")), common_space()
    for seed in range(0 if options.quick else options.seeds):
        if of(results.frame(), SEARCH, seed).empty:
            search(space, seed, results)
        seconds = float(of(results.frame(), SEARCH, seed)["seconds"].iloc[0])
        train_from_scratch(space, seed, results, seconds=seconds)
    for claim in claims(results.frame()):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
