"""A whole `bnas search` against TPE and random search that train each candidate from scratch, for as long and longer.

    python benchmarks/search_vs_scratch.py [--quick] [--json] [--seeds N] [--longer TIMES] [--results CSV]

Space, budget and recipe are one and the same, results/search_vs_scratch.yaml: CIFAR-10 at 16x16, with the images and
settings of search_spaces/bench.yaml. The search is a process of its own, timed from its start to its end, its random
twin and its retraining included. Each rival then gets --longer times as many seconds, or until what it would hand over
is as good: it trains each network inside the budget by the search's own recipe, and is told its validation accuracy;
what is over the budget costs it nothing. The winner of each is chosen on validation images, and compared by its test
accuracy. TPE models what it was told from its fifth network on: with Optuna's ten first draws, or more, it would be
random search for most of the networks that there is time for.

On two cores a search takes 10 to 20 minutes, so a seed takes up to an hour at --longer 2, which is enough to compare at
equal time, and up to two at --longer 5, which is what it takes to see that a fifth of the time is enough. A second call
with a larger number goes on. Rows are appended to results/search_vs_scratch.csv; what is there is not done again.
--quick trains nothing: it reads what is there. CIFAR-10 is in $BNAS_DATA.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import optuna
import pandas as pd
import torch
from claim import Claim, positive
from nowhere import NoStore
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState
from replay import feasible, genes_of, replay, told
from rows import Rows
from table import SPACE, TABLE, images

from bnas.cost.budget import Budget
from bnas.runs import Run
from bnas.searcher.feasible import cost_of
from bnas.searcher.ranking import Table, train_alone
from bnas.searcher.sampler import MakeSampler, distributions, to_genes
from bnas.searcher.samplers import MovedInside, RandomWithin
from bnas.space.space import SearchSpace
from bnas.spec import dump, read

RESULTS = Path(__file__).parent / "results" / "search_vs_scratch.csv"
SPACE_FILE = RESULTS.with_suffix(".yaml")  # that all search
RUNS = Path("runs") / "search_vs_scratch"
COLUMNS = ("way", "seed", "number", "id", "ops", "seconds", "validation_accuracy", "test_accuracy")
SEARCH = "search"
DRAWN_FIRST = 4  # networks that TPE draws before it models what they reached
POINTS, FIFTH = 0.02, 0.2
REPLAYS = 20


def modelling_tpe(space: SearchSpace, budget: Budget, seed: int) -> BaseSampler:
    """Return Optuna's TPE, which models from its fifth trial on, and is moved inside the budget."""
    tpe = TPESampler(multivariate=True, n_startup_trials=DRAWN_FIRST, seed=seed)
    return MovedInside(tpe, space, budget, seed)


RIVALS: dict[str, MakeSampler] = {"tpe": modelling_tpe, "random": RandomWithin}


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


def train_from_scratch(rival: str, space: SearchSpace, seed: int, results: Rows, *, least: float, most: float) -> None:
    """Let a rival train networks for the least seconds, and up to the most until it has caught up with the search.

    The last one may end after that. A second call proposes the same networks again, and does not train again those that
    are written down.
    """
    budget = Budget.parse(space.search.budget)
    known = of(results.frame(), rival, seed).set_index("number")
    data = images(space, "cifar10")
    study = optuna.create_study(direction="maximize")
    spent, number = 0.0, 0
    while spent < least or (spent < most and caught_up(results.frame(), rival, seed) is None):
        study.sampler = RIVALS[rival](space, budget, Random(f"{seed}/{len(study.trials)}").getrandbits(31))
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
                way=rival, seed=seed, number=number, id=arch.id, ops=price.ops, seconds=time.monotonic() - started,
                validation_accuracy=reached.validation_accuracy, test_accuracy=reached.test_accuracy,
            )  # fmt: skip
            known = of(results.frame(), rival, seed).set_index("number")
        study.tell(trial, float(known.loc[number, "validation_accuracy"]))
        spent, number = spent + float(known.loc[number, "seconds"]), number + 1


def of(frame: pd.DataFrame, way: str, seed: int) -> pd.DataFrame:
    """Return the rows of one way and seed, in their order."""
    return frame[(frame["way"] == way) & (frame["seed"] == seed)].sort_values("number")


def incumbents(frame: pd.DataFrame, rival: str, seed: int) -> pd.DataFrame:
    """Return after each network from scratch the seconds so far, and the test accuracy of the best by validation."""
    scratch = of(frame, rival, seed)
    best = [scratch["validation_accuracy"].iloc[:count].idxmax() for count in range(1, len(scratch) + 1)]
    return pd.DataFrame(
        {"elapsed": scratch["seconds"].cumsum(), "test_accuracy": scratch.loc[best, "test_accuracy"].array}
    )


def caught_up(frame: pd.DataFrame, rival: str, seed: int) -> float | None:
    """Return the seconds after which the best from scratch is as good as that of the search; None if it never is."""
    so_far, mine = incumbents(frame, rival, seed), of(frame, SEARCH, seed).iloc[0]
    there = so_far[so_far["test_accuracy"] >= mine["test_accuracy"]]
    return float(there["elapsed"].iloc[0]) if len(there) else None


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """Yield both ways to win over each rival, by means over seeds, and whether one of them is won, which is enough."""
    for rival in RIVALS:
        seeds = [seed for seed in sorted(frame["seed"].unique()) if not of(frame, rival, seed).empty]
        if not seeds:
            continue
        ways = [equal_time(frame, rival, seeds), equal_accuracy(frame, rival, seeds)]
        yield from ways
        nearest = min(way.ratio / way.target for way in ways)
        yield Claim(f"{rival}: one of both is enough: the ratio nearest to its target, against it", nearest, 1.0, 1.0)


def equal_time(frame: pd.DataFrame, rival: str, seeds: Sequence[int]) -> Claim:
    """Return whether the search hands over a better network than a rival does in the same time."""
    mine, its = [], []
    for seed in seeds:
        search, so_far = of(frame, SEARCH, seed).iloc[0], incumbents(frame, rival, seed)
        in_time = so_far[so_far["elapsed"] <= search["seconds"]]
        mine.append(float(search["test_accuracy"]))
        its.append(float(in_time["test_accuracy"].iloc[-1] if len(in_time) else so_far["test_accuracy"].iloc[0]))
    ours, theirs = statistics.fmean(mine), statistics.fmean(its)
    what = (
        f"equal time, means of {len(seeds)} seeds: {rival} from scratch reaches {theirs:.4f}, the search {ours:.4f}, "
        f"{100 * (ours - theirs):+.2f} points; the former with {100 * POINTS:.0f} points on top"
    )
    return Claim(what, theirs + POINTS, ours, 1.0)


def equal_accuracy(frame: pd.DataFrame, rival: str, seeds: Sequence[int]) -> Claim:
    """Return whether the search is as good in a fifth of the time; where the rival never was, as long as it tried."""
    mine = [float(of(frame, SEARCH, seed)["seconds"].iloc[0]) for seed in seeds]
    times = [caught_up(frame, rival, seed) for seed in seeds]
    tried = [float(of(frame, rival, seed)["seconds"].sum()) for seed in seeds]
    never = sum(time is None for time in times)
    theirs = sum(ran if time is None else time for time, ran in zip(times, tried, strict=True))
    tried_for = f", tried for {sum(tried) / sum(mine):.1f} times as long" if never else ""
    reached = f"not reached in {never} of {len(seeds)} seeds" if never else f"reached in all {len(seeds)} seeds"
    what = f"equal accuracy: {reached} by {rival} from scratch{tried_for}; seconds of the search"
    return Claim(what, sum(mine), theirs, FIFTH)


def room(table: Table, space: SearchSpace, *, networks: int) -> Claim:
    """Return whether a search without error could gain what is wanted over TPE, on a table where all is known."""
    budget, known = Budget.parse(space.search.budget), told(table)
    accuracy = {genes_of(row["genes"]): row["test_accuracy"] for _, row in table.networks.iterrows()}
    best = max(accuracy[genes] for genes in feasible(space, known, budget))
    tried = [replay(space, known, budget, modelling_tpe, pays=networks, seed=seed) for seed in range(REPLAYS)]
    left = statistics.fmean(best - accuracy[max(each, key=lambda genes: known[genes])] for each in tried)
    what = f"points wanted, against those left on the tabular benchmark after TPE's {networks} networks"
    return Claim(f"{what}, mean of {REPLAYS} replays", POINTS, positive(left), 1.0)


def main() -> None:
    """Do what is missing, then print each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="train nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--longer", type=float, default=2.0, help="times as long as the search that a rival may take")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results, space = Rows(options.results, COLUMNS, texts=("way", "id")), read(SearchSpace, SPACE_FILE)
    for seed in range(0 if options.quick else options.seeds):
        if of(results.frame(), SEARCH, seed).empty:
            search(space, seed, results)
        seconds = float(of(results.frame(), SEARCH, seed)["seconds"].iloc[0])
        for rival in RIVALS:
            train_from_scratch(rival, space, seed, results, least=seconds, most=options.longer * seconds)
    frame = results.frame()
    found, trained = [*claims(frame)], frame[frame["way"] != SEARCH].groupby(["way", "seed"]).size()
    if len(trained):
        found.append(room(Table.read(TABLE), read(SearchSpace, SPACE), networks=round(trained.mean())))
    for claim in found:
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
