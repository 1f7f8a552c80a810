"""Training the supernet of CIFAR-10 with freed memory kept, against glibc as it is: seconds on one thread.

    python benchmarks/allocator.py [--quick] [--json]

Each training is a process of its own, and the two ways take turns. Images are random. `bnas` keeps freed memory.
"""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from claim import Claim, main

HERE = Path(__file__).parent
KEPT, AS_IT_IS = "kept", "as it is"
TRAINING = """
import sys, time
import torch
sys.path.insert(0, sys.argv[1])
from nowhere import NoStore
from scoring import SPACES, noise
from bnas.allocator import keep_freed_memory
from bnas.space import SearchSpace
from bnas.train import train_supernet

torch.set_num_threads(1)
if sys.argv[2] == "kept" and not keep_freed_memory():
    raise SystemExit("this C library's allocator takes no orders, or the environment gives them")
space = SearchSpace.read(SPACES / "cifar10.yaml")
data = noise(space, 2 * int(sys.argv[3]))
recipe = space.search.supernet.model_copy(update={"epochs": 1})
start = time.perf_counter()
train_supernet(space, recipe, data, seed=0, store=NoStore(), device=torch.device("cpu"))
print(time.perf_counter() - start)
"""


def measure(quick: bool) -> Iterator[Claim]:
    """Train both ways in turn, and compare the medians."""
    images, repeats = (640, 1) if quick else (5120, 5)
    times: dict[str, list[float]] = {KEPT: [], AS_IT_IS: []}
    for _ in range(repeats):
        for way, taken in times.items():
            command = [sys.executable, "-c", TRAINING, str(HERE), way, str(images)]
            taken.append(float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
    what = f"an epoch of {images} images with freed memory kept, against glibc as it is, seconds"
    yield Claim(what, statistics.median(times[KEPT]), statistics.median(times[AS_IT_IS]), 1.0)


if __name__ == "__main__":
    main(measure, __doc__.splitlines()[0])
