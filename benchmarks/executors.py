"""A search with two worker processes against one with one, each worker on one core with one thread.

    python benchmarks/executors.py [--quick] [--json]

The search is that of a run: it proposes, waits for the oldest of the candidates in flight (one with one worker, four
with two), writes each score to a log that outlasts a power cut and stores it in SQLite. It proposes at random, so that
both ways score the same candidates: of the demo's space and images, where to store a score takes about as long as to
find it, and of the space for CIFAR-10, on random images. Needs two idle cores: what else runs on them is measured too.
Workers have started before the clock does. Times are in milliseconds for one search.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from claim import Claim, main, medians
from scoring import SPACES, noise

from bnas.cost.budget import Budget
from bnas.data import load_data
from bnas.progress import silent
from bnas.runs import Run
from bnas.searcher.candidate import Candidate
from bnas.searcher.executors import Executor
from bnas.searcher.executors.engine import Engine
from bnas.searcher.journal import Journal
from bnas.searcher.samplers import SAMPLERS
from bnas.searcher.score import Scorer
from bnas.searcher.storage import StoredStudy
from bnas.searcher.study import Search
from bnas.space.space import SearchSpace
from bnas.spec import dump
from bnas.supernet import Supernet

CPU = torch.device("cpu")
TARGET = 1.8  # times as many candidates a second


class Work(NamedTuple):
    """Searches that are timed."""

    name: str
    trials: int
    repeats: int


QUICK = (Work("digits", trials=8, repeats=3),)
WHOLE = (Work("digits", trials=64, repeats=15), Work("cifar10", trials=16, repeats=5))


def measure(quick: bool) -> Iterator[Claim]:
    """Search each space with one worker and with two, in turns."""
    for work in QUICK if quick else WHOLE:
        yield compared(*work)


def compared(name: str, trials: int, repeats: int) -> Claim:
    """Return how much faster two workers search a space than one."""
    space = SearchSpace.read(SPACES / f"{name}.yaml")
    scoring = space.search.scoring
    torch.manual_seed(0)
    images = 2 * (scoring.recalibration_images + scoring.validation_images)
    data = load_data(name) if name == "digits" else noise(space, images)
    scorer = Scorer(Supernet(space), data, scoring, seed=0, device=CPU)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        # Made before the clock runs: a search creates its tables once, however many candidates it scores.
        ready = {n: [_search(space, folder / f"{n}-{k}", workers=n) for k in range(repeats + 3)] for n in (1, 2)}
        torch.set_num_threads(1)
        pools = {1: stack.enter_context(_workers(1, scorer))}
        torch.set_num_threads(2)  # of which each of two workers gets one
        pools[2] = stack.enter_context(_workers(2, scorer))

        def searched(workers: int) -> list[Candidate]:
            submit = pools[workers].submit
            return ready[workers].pop().run(trials, submit, progress=silent, note=lambda candidate: None)

        assert searched(1) == searched(2)
        times = medians({"one": lambda: searched(1), "two": lambda: searched(2)}, repeats=repeats)
    what = f"{name}: search for {trials} candidates, two workers against one"
    return Claim(f"{what} ({times['one'] / times['two']:.2f} times as fast)", times["two"], times["one"], 1 / TARGET)


def _search(space: SearchSpace, folder: Path, *, workers: int) -> Search:
    run = Run.open(folder, config={"workers": workers}, space_yaml=dump(space))
    return Search(
        space, Budget.parse(space.search.budget), sampler=SAMPLERS["random"], seed=0, name="search",
        stored=StoredStudy(run.storage_url, "search"), journal=Journal(run),
        in_flight=Engine("processes", workers=workers).in_flight(CPU),
    )  # fmt: skip


def _workers(count: int, scorer: Scorer) -> AbstractContextManager[Executor]:
    return Engine("processes", workers=count).executor(lambda _: scorer, CPU, print)


if __name__ == "__main__":
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("two workers need two cores, but this process may use one; start it without taskset")
    main(measure, __doc__.splitlines()[0])
