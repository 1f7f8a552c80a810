"""Which inputs stay real: chosen by error and cost, at random, freely, or none, at equal paid budget.

    python benchmarks/by_metric.py [--quick] [--json] [--seeds N] [--trials N] [--results CSV]

One supernet of search_spaces/bench.yaml, with every block's precision open, scores the candidates of all ways. Each way
searches it with the same sampler, budget and paid evaluations; its winner is trained alone by the space's recipe. `at
random` decides in an order that is drawn for each topology, every order as likely. The supernet takes about 10 minutes
of a core, each seed of all ways about 20. Rows are appended to results/by_metric.csv as
they come, and what is there is not done again. --quick searches and trains nothing: it reads what is there. CIFAR-10 is
in $BNAS_DATA.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache, partial
from pathlib import Path
from random import Random

import pandas as pd
import torch
from claim import Claim, positive
from nowhere import NoStore
from rows import Rows
from table import SPACE, images

from bnas.api.progress_bars import ProgressBars
from bnas.cost.budget import Budget
from bnas.data import DataSet
from bnas.progress import silent
from bnas.runs import Run
from bnas.searcher.block_errors import with_metric
from bnas.searcher.by_metric import DecidedBlock, Errors, MetricSpace
from bnas.searcher.candidate import Score, paid
from bnas.searcher.journal import Journal
from bnas.searcher.ranking import train_alone
from bnas.searcher.samplers import SAMPLERS
from bnas.searcher.score import Scorer
from bnas.searcher.storage import StoredStudy
from bnas.searcher.study import Search
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace
from bnas.spec import dump
from bnas.train import train_supernet

RESULTS = Path(__file__).parent / "results" / "by_metric.csv"
RUN = Path("runs") / "by_metric"
COLUMNS = ("way", "seed", "trials", "id", "ops", "real_inputs", "proxy_accuracy", "test_accuracy")
BUDGET = Budget.parse(["ops=250k"])
CPU = torch.device("cpu")
WAYS = ("none", "at random", "free", "by product", "by hybrid", "first by product")


class AtRandom(MetricSpace):
    """A space that decides by a lot for each topology: what a metric has to beat."""

    seed: int

    def ordered(self, genes: Genes) -> list[DecidedBlock]:
        """Return the blocks whose precision is decided, in an order drawn for all networks that share the rest."""
        blocks = sorted(self._blocks(genes), key=lambda block: block.place)
        decided = {block.place for block in blocks}
        topology = [gene for place, gene in enumerate(genes) if place not in decided]
        Random(f"{self.seed}/{topology}").shuffle(blocks)
        return blocks


def open_space(precision: str, *, trials: int, metric: str = "product") -> SearchSpace:
    """Return the benchmark's space with the precision of every block open."""
    space = SearchSpace.read(SPACE)
    choices = ("binary",) if precision == "none" else ("binary", "weight")
    fields = {name: getattr(space, name) for name in SearchSpace.model_fields}
    fields["stages"] = tuple(stage.model_copy(update={"precision": choices}) for stage in space.stages)
    fields["search"] = space.search.model_copy(update={"metric": metric, "trials": trials})
    fields["precision"] = "free" if precision == "none" else precision
    return SearchSpace(**fields)


def space_for(way: str, errors: Errors, *, seed: int, trials: int) -> SearchSpace:
    """Return the space that a way searches."""
    if way == "at random":
        space = open_space("by_metric", trials=trials)
        return AtRandom(**{name: getattr(space, name) for name in SearchSpace.model_fields}, errors=errors, seed=seed)
    if way in ("none", "free"):
        return open_space(way, trials=trials)
    kind, _, metric = way.rpartition(" ")
    precision = {"by": "by_metric", "first by": "first_by_metric"}[kind]
    return MetricSpace.of(open_space(precision, trials=trials, metric=metric), errors)


def search_missing(results: Rows, *, seeds: int, trials: int) -> None:
    """Search in each way from each seed that is not there yet, and train the winners alone."""
    done = {(row.way, row.seed, row.trials) for row in results.frame().itertuples()}
    wanted = [(way, seed) for seed in range(seeds) for way in WAYS if (way, seed, trials) not in done]
    if not wanted:
        return
    space = open_space("free", trials=trials)
    data = images(space, "cifar10")
    run = Run.open(
        RUN, config={"recipe": space.search.supernet.model_dump()}, space_yaml=dump(open_space("free", trials=1))
    )  # scores serve any number of trials
    with run.lock(), ProgressBars() as watch:
        supernet = train_supernet(space, space.search.supernet, data, seed=0, store=run, device=CPU, progress=watch)
        scorer = Scorer(supernet, data, space.search.scoring, seed=0, device=CPU)
        measured = with_metric(open_space("by_metric", trials=trials), lambda: scorer, seed=0, store=run)
        assert isinstance(measured, MetricSpace)
        score = cache(scorer)
        for way, seed in wanted:
            searched = space_for(way, measured.errors, seed=seed, trials=trials)
            results.add(way=way, seed=seed, trials=trials, **found(searched, score, data, seed=seed))


def found(space: SearchSpace, score: Callable[[Architecture], Score], data: DataSet, *, seed: int) -> dict[str, object]:
    """Return the network that a search ends with, and what it reaches alone."""
    search = Search(
        space, BUDGET, sampler=SAMPLERS["evolution"], seed=seed, name="search",
        stored=StoredStudy("sqlite://", "search"), journal=Journal(), in_flight=1,
    )  # fmt: skip
    best = paid(search.run(space.search.trials, partial(submit, score), progress=silent, note=lambda candidate: None))[
        0
    ]
    assert best.score
    arch = space.architecture(best.genes)
    reached = train_alone(arch, space.search.retrain.recipe, data, seed=seed, store=NoStore(), device=CPU)
    real = sum(precision != "binary" for stage in arch.stages for precision in stage.precision)
    return {
        "id": arch.id, "ops": best.cost.ops, "real_inputs": real,
        "proxy_accuracy": best.score.proxy_accuracy, "test_accuracy": reached.test_accuracy,
    }  # fmt: skip


def submit(score: Callable[[Architecture], Score], arch: Architecture) -> "Future[Score]":
    """Score an architecture now."""
    future: Future[Score] = Future()
    future.set_result(score(arch))
    return future


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """Yield, for each way of deciding, the accuracy lost against it by deciding nothing, or by chance."""
    means = frame.groupby("way")[["test_accuracy", "proxy_accuracy"]].mean()
    for way in ("by product", "by hybrid", "free", "first by product"):
        for other in ("none", "at random"):
            for kind in means.columns if way in means.index and other in means.index else ():
                what = f"{kind.replace('_', ' ')} of the winner, {other}, against {way}"
                yield Claim(what, float(means[kind][other]), positive(float(means[kind][way])), 1.0)


def main() -> None:
    """Do what is missing, then print each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="search and train nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60, help="paid evaluations of each search")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = Rows(options.results, COLUMNS, texts=("way", "id"))
    if not options.quick:
        search_missing(results, seeds=options.seeds, trials=options.trials)
    frame = results.frame()
    frame = frame[frame["trials"] == options.trials]
    if not options.json and len(frame):
        print(frame.groupby("way", sort=False)[list(COLUMNS[4:])].mean().round(4).to_string(), "\n")
    for claim in claims(frame):
        print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
