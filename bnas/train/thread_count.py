"""A step of training -> how many threads are worth it, found by trying; small networks gain nothing from a second."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WORTH = 0.85  # of the time of one thread that more of them may take; else they only hinder who else is at work
SMALL = 0.03  # seconds of a step, below which none is tried: noise would choose, and change the results of a seed
_ROUNDS, _STEPS = 5, 3


def worthwhile(step: Callable[[int], object], *, clock: Callable[[], float] = time.perf_counter) -> int:
    """Return one, or as many threads as torch has now, if they take much less time and steps are not small.

    Args:
        step: does the work of a step, by its number.
    """
    most = torch.get_num_threads()
    taken = {1: float("inf"), most: float("inf")}
    step(0)
    for _ in range(_ROUNDS if most > 1 else 0):
        for threads in taken:
            with using(threads):
                begun = clock()
                for number in range(_STEPS):
                    step(number)
                taken[threads] = min(taken[threads], (clock() - begun) / _STEPS)
        if taken[1] < SMALL:
            return 1
    return most if taken[most] < WORTH * taken[1] else 1


def is_chosen_by_user() -> bool:
    """Whether who started this process said how many threads there are to be."""
    return any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))


@contextmanager
def using(threads: int) -> Iterator[None]:
    """Have torch use so many threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
