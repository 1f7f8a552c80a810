"""A seed and names -> seeds of their own; and code that is run under a seed, without a trace of it afterwards."""

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived(seed: int, *names: object) -> int:
    """Return a seed of 63 bits that follows from another and from names; no two of them are alike but by chance.

    So the second stage of seed 0 is not the first of seed 1, as it would be with seed + 1.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the block with the random numbers of torch, Python and NumPy from a seed; theirs go on afterwards as before.

    Those of every GPU that is in use are seeded too.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python = random.getstate()
    numpy = sys.modules.get("numpy")  # where nobody has loaded it, nobody draws from it
    state = numpy.random.get_state() if numpy else None
    with torch.random.fork_rng(devices=gpus):
        reseed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            if numpy:
                numpy.random.set_state(state)


def reseed(seed: int) -> None:
    """Give the generators of torch, of its GPUs, of Python and NumPy this seed: some microseconds, for every step."""
    torch.manual_seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
