"""Scoring candidates with two worker processes against one, each on one core with one thread.

    python benchmarks/executors.py [--quick] [--json]

Needs two idle cores: what else runs on them is measured too. Workers have started before the clock does. Times are in
milliseconds for one batch of candidates.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from random import Random

import torch
from claim import Claim, main, medians

from bnas.data import load_data
from bnas.searcher import Engine, Scorer
from bnas.searcher.executors import Executor
from bnas.space import SearchSpace
from bnas.spec import read
from bnas.supernet import Supernet

SPACE = Path(__file__).parents[1] / "search_spaces" / "digits.yaml"
CPU = torch.device("cpu")
TARGET = 1.8  # times as many candidates a second


def measure(quick: bool) -> Iterator[Claim]:
    """Score the same candidates of the demo's space with one worker and with two, in turns."""
    space = read(SearchSpace, SPACE)
    torch.manual_seed(0)
    scorer = Scorer(Supernet(space), load_data("digits"), space.search.scoring, seed=0, device=CPU)
    archs = [space.architecture(space.sample(Random(seed))) for seed in range(8 if quick else 64)]

    def scored(executor: Executor) -> list[object]:
        return [future.result() for future in [executor.submit(arch) for arch in archs]]

    with ExitStack() as stack:
        torch.set_num_threads(1)
        one = stack.enter_context(_workers(1, scorer))
        torch.set_num_threads(2)  # of which each of two workers gets one
        two = stack.enter_context(_workers(2, scorer))
        assert scored(one) == scored(two)
        times = medians({"one": lambda: scored(one), "two": lambda: scored(two)}, repeats=3 if quick else 15)
    yield Claim(
        f"{len(archs)} candidates, two workers against one ({times['one'] / times['two']:.2f} times as fast)",
        times["two"], times["one"], 1 / TARGET,
    )  # fmt: skip


def _workers(count: int, scorer: Scorer) -> AbstractContextManager[Executor]:
    return Engine("processes", workers=count).executor(lambda _: scorer, CPU, print)


if __name__ == "__main__":
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("two workers need two cores, but this process may use one; start it without taskset")
    main(measure, __doc__.splitlines()[0])
