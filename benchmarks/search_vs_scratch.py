"""A `bnas search` for three budgets against TPE and random search that train each candidate alone, for as long.

    python benchmarks/search_vs_scratch.py [--quick] [--json] [--seeds N] [--longer TIMES] [--results CSV]

Space, budgets and recipe are one and the same, results/search_vs_scratch.yaml: the choices of cifar10.yaml with images
of 16x16. The search is a process of its own with one supernet for all budgets, timed from its start to its end, its
random twins and its retraining included. A rival searches once for each budget, and each time gets the search's seconds
divided by the budgets; with --longer 5 up to five times as many, until what it would hand over is as good. It trains
each network inside the budget by the search's own recipe, from nothing, and is told its validation accuracy; what is
over the budget costs it nothing. The winner of each is chosen on validation images, and compared by its test accuracy.
TPE models what it was told from its fifth network on: with Optuna's ten first draws, or more, it would be random search
for most of the networks that there is time for.

On one core, which OMP_NUM_THREADS=1 keeps all to, a seed takes about three hours at --longer 1, one for the search and
one for each rival, which is enough to compare at equal time, and up to eleven at --longer 5, which is what it takes to
see that a fifth of the time is enough. A second call with a larger number goes on. Rows are appended to
results/search_vs_scratch.csv, a search's seconds shared out among its budgets; what is there is not done again. --quick
trains nothing: it reads what is there. CIFAR-10 is in $BNAS_DATA.
"""

import argparse
import itertools
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
from claim import Claim
from nowhere import NoStore
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState
from rows import Rows
from table import images

import bnas
from bnas.cost.budget import Budget
from bnas.searcher.feasible import cost_of
from bnas.searcher.ranking import train_alone
from bnas.searcher.sampler import MakeSampler, distributions, to_genes
from bnas.searcher.samplers import MovedInside, RandomWithin
from bnas.space.space import Genes, SearchSpace
from bnas.spec import dump

RESULTS = Path(__file__).parent / "results" / "search_vs_scratch.csv"
SPACE_FILE = RESULTS.with_suffix(".yaml")  # that all search
RUNS = Path("runs") / "search_vs_scratch"
COLUMNS = ("way", "seed", "budget", "number", "id", "genes", "ops", "seconds", "validation_accuracy", "test_accuracy")
SEARCH = "search"
DRAWN_FIRST = 4  # networks that TPE draws before it models what they reached
POINTS, FIFTH = 0.02, 0.2

Case = tuple[int, str]  # a seed and a budget, as `ops=50k`


def modelling_tpe(space: SearchSpace, budget: Budget, seed: int) -> BaseSampler:
    """Return Optuna's TPE, which models from its fifth trial on, and is moved inside the budget."""
    tpe = TPESampler(multivariate=True, n_startup_trials=DRAWN_FIRST, seed=seed)
    return MovedInside(tpe, space, budget, seed)


RIVALS: dict[str, MakeSampler] = {"tpe": modelling_tpe, "random": RandomWithin}


def search(space: SearchSpace, seed: int, results: Rows) -> None:
    """Search all budgets from the start, and write down each winner with its share of the seconds."""
    folder = RUNS / str(seed)
    shutil.rmtree(folder, ignore_errors=True)  # a search that was stopped has no time
    RUNS.mkdir(parents=True, exist_ok=True)
    file = RUNS / f"{seed}.yaml"
    file.write_text(dump(space), encoding="utf-8")
    command = [sys.executable, "-m", "bnas", "search", file, "--data", "cifar10", "--seed", seed, "--out", folder]
    started = time.monotonic()
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    found = bnas.open_run(folder)
    assert isinstance(found, bnas.TargetResults)
    for budget, best in ((budget, result.best) for budget, result in found.items()):
        genes, accuracy = space.genes(best.architecture), best.manifest["accuracy"]
        results.add(
            way=SEARCH, seed=seed, budget=budget, number=0, id=best.architecture.id, genes=written(genes),
            ops=best.cost.ops, seconds=seconds / len(found), validation_accuracy=accuracy["validation"],
            test_accuracy=accuracy["test"],
        )  # fmt: skip


def written(genes: Genes) -> str:
    """Return a genotype as tables hold it."""
    return "-".join(map(str, genes))


def train_from_scratch(rival: str, space: SearchSpace, case: Case, results: Rows, *, longer: float) -> None:
    """Let a rival train networks for as long as the search, then up to so many times as long until it has caught up.

    The last one may end after that. A second call proposes the same networks again, and does not train again those that
    are written down.
    """
    seed, name = case
    budget = Budget.parse(name.split(","))
    known = of(results.frame(), rival, case).set_index("number")
    least = float(of(results.frame(), SEARCH, case)["seconds"].iloc[0])
    data = images(space, "cifar10")
    study = optuna.create_study(direction="maximize")
    spent, number = 0.0, 0
    while spent < least or (spent < longer * least and caught_up(results.frame(), rival, case) is None):
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
                way=rival, seed=seed, budget=name, number=number, id=arch.id, genes=written(genes), ops=price.ops,
                seconds=time.monotonic() - started, validation_accuracy=reached.validation_accuracy,
                test_accuracy=reached.test_accuracy,
            )  # fmt: skip
            known = of(results.frame(), rival, case).set_index("number")
        study.tell(trial, float(known.loc[number, "validation_accuracy"]))
        spent, number = spent + float(known.loc[number, "seconds"]), number + 1


def of(frame: pd.DataFrame, way: str, case: Case) -> pd.DataFrame:
    """Return the rows of one way, seed and budget, in their order."""
    mine = (frame["way"] == way) & (frame["seed"] == case[0]) & (frame["budget"] == case[1])
    return frame[mine].sort_values("number")


def cases(frame: pd.DataFrame, way: str) -> list[Case]:
    """Return the seeds and budgets of which there are rows of one way."""
    mine = frame[frame["way"] == way]
    return list(dict.fromkeys(zip(mine["seed"], mine["budget"], strict=True)))


def incumbents(frame: pd.DataFrame, rival: str, case: Case) -> pd.DataFrame:
    """Return after each network from scratch the seconds so far, and the test accuracy of the best by validation."""
    scratch = of(frame, rival, case)
    best = [scratch["validation_accuracy"].iloc[:count].idxmax() for count in range(1, len(scratch) + 1)]
    return pd.DataFrame(
        {"elapsed": scratch["seconds"].cumsum(), "test_accuracy": scratch.loc[best, "test_accuracy"].array}
    )


def caught_up(frame: pd.DataFrame, rival: str, case: Case) -> float | None:
    """Return the seconds after which the best from scratch is as good as that of the search; None if it never is."""
    if of(frame, rival, case).empty:
        return None
    so_far, mine = incumbents(frame, rival, case), of(frame, SEARCH, case).iloc[0]
    there = so_far[so_far["test_accuracy"] >= mine["test_accuracy"]]
    return float(there["elapsed"].iloc[0]) if len(there) else None


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """Yield both ways to win over each rival, by means over seeds and budgets, and whether one of them is won."""
    for rival in RIVALS:
        done = [case for case in cases(frame, rival) if has_had_its_time(frame, rival, case)]
        if not done:
            continue
        ways = [equal_time(frame, rival, done), equal_accuracy(frame, rival, done)]
        yield from ways
        nearest = min(way.ratio / way.target for way in ways)
        yield Claim(f"{rival}: one of both is enough: the ratio nearest to its target, against it", nearest, 1.0, 1.0)


def has_had_its_time(frame: pd.DataFrame, rival: str, case: Case) -> bool:
    """Return whether a rival has trained networks for as long as the search took."""
    return bool(of(frame, rival, case)["seconds"].sum() >= of(frame, SEARCH, case)["seconds"].iloc[0])


def equal_time(frame: pd.DataFrame, rival: str, done: Sequence[Case]) -> Claim:
    """Return whether the search hands over better networks than a rival does in the same time."""
    mine = [float(of(frame, SEARCH, case)["test_accuracy"].iloc[0]) for case in done]
    its = [in_time(frame, rival, case) for case in done]
    ours, theirs = statistics.fmean(mine), statistics.fmean(its)
    what = (
        f"equal time, {_counted(done)}: {rival} from scratch reaches {theirs:.4f}, the search {ours:.4f}, "
        f"{100 * (ours - theirs):+.2f} points{_error(mine, its)}; the former with {100 * POINTS:.0f} points on top"
    )
    return Claim(what, theirs + POINTS, ours, 1.0)


def in_time(frame: pd.DataFrame, rival: str, case: Case) -> float:
    """Return the test accuracy of what a rival hands over in the time of the search; of its first where none ended."""
    so_far = incumbents(frame, rival, case)
    ended = so_far[so_far["elapsed"] <= of(frame, SEARCH, case)["seconds"].iloc[0]]
    return float(ended["test_accuracy"].iloc[-1] if len(ended) else so_far["test_accuracy"].iloc[0])


def equal_accuracy(frame: pd.DataFrame, rival: str, done: Sequence[Case]) -> Claim:
    """Return whether the search is as good in a fifth of the time; where the rival never was, as long as it tried."""
    mine = [float(of(frame, SEARCH, case)["seconds"].iloc[0]) for case in done]
    times = [caught_up(frame, rival, case) for case in done]
    tried = [float(of(frame, rival, case)["seconds"].sum()) for case in done]
    never = sum(time is None for time in times)
    theirs = sum(ran if time is None else time for time, ran in zip(times, tried, strict=True))
    tried_for = f", tried for {sum(tried) / sum(mine):.1f} times as long" if never else ""
    reached = f"not reached in {never} of {len(done)} cases" if never else f"reached in all {len(done)} cases"
    what = f"equal accuracy: {reached} by {rival} from scratch{tried_for}; seconds of the search"
    return Claim(what, sum(mine), theirs, FIFTH)


def _counted(done: Sequence[Case]) -> str:
    return f"means of {len({seed for seed, _ in done})} seeds by {len({budget for _, budget in done})} budgets"


def _error(mine: Sequence[float], its: Sequence[float]) -> str:
    """Return the standard error of the mean difference, in words."""
    gains = [100 * (ours - theirs) for ours, theirs in zip(mine, its, strict=True)]
    return f" +- {statistics.stdev(gains) / len(gains) ** 0.5:.2f}" if len(gains) > 1 else ""


def main() -> None:
    """Do what is missing, then print each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="train nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--longer", type=float, default=1.0, help="times as long as the search that a rival may take")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results, space = (
        Rows(options.results, COLUMNS, texts=("way", "budget", "id", "genes")),
        SearchSpace.read(SPACE_FILE),
    )
    for seed in range(0 if options.quick else options.seeds):
        if not any(case[0] == seed for case in cases(results.frame(), SEARCH)):
            search(space, seed, results)
        mine = [case for case in cases(results.frame(), SEARCH) if case[0] == seed]
        for case, rival in itertools.product(mine, RIVALS):
            train_from_scratch(rival, space, case, results, longer=options.longer)
    for claim in claims(results.frame()):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
