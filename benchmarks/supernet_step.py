"""A supernet's training step against the steps of the same sub-networks built as plain networks, and its memory.

    python benchmarks/supernet_step.py [--quick] [--json]

A step is forward, backward and optimizer, of networks drawn as training draws them; times are summed over networks.
Memory is what a process needs beyond its imports for some steps: of the supernet through every network drawn and its
largest, and of that largest network alone. Spaces: those of search_spaces/ that are searched. Torch's default threads.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from claim import Claim, main
from steps import STAGE, batch_for, drawn, step, step_times

from bnas.networks.build import build
from bnas.space.space import SearchSpace
from bnas.supernet import Supernet
from bnas.train.optimizers import make_optimizers

SPACES = Path(__file__).parents[1] / "search_spaces"
NAMES = ("bench", "cifar10", "digits")
TARGET, MEMORY_TARGET = 1.15, 1.5
STEPS = 3


def measure(quick: bool) -> Iterator[Claim]:
    """Time the steps in each space, then measure memory."""
    for name in NAMES[:1] if quick else NAMES:
        space = SearchSpace.read(SPACES / f"{name}.yaml")
        archs = drawn(space, 4 if quick else 12)
        times = step_times(space, archs, batch=space.search.supernet.batch, repeats=5 if quick else 21)
        what = f"{name}: step of the supernet, {len(archs)} networks drawn"
        yield Claim(f"{what}, against the same built plainly (ms)", sum(times.shared), sum(times.plain), TARGET)
    for name in NAMES[:1] if quick else NAMES:
        shared, alone = (memory(name, what) for what in ("supernet", "largest"))
        yield Claim(
            f"{name}: memory of the supernet's steps, against the largest network's (MiB)", shared, alone, MEMORY_TARGET
        )


def memory(name: str, what: str) -> float:
    """Return the MiB that a process of its own needs for some steps, beyond what it has when they begin."""
    command = [sys.executable, __file__, "--memory", name, what]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak(name: str, what: str) -> float:
    """Return the MiB that the steps add to this process."""
    space = SearchSpace.read(SPACES / f"{name}.yaml")
    data = batch_for(space, space.search.supernet.batch)
    largest = space.largest()
    tiny = torch.nn.Linear(4, 4)
    step(lambda images: tiny(images[:, 0, 0, :4]), make_optimizers(tiny, STAGE), (data[0], data[1] % 4))()
    before = most_used()
    if what == "supernet":
        supernet = Supernet(space).train()
        optimizers = make_optimizers(supernet, STAGE)
        for arch in [*drawn(space, 8), largest] * STEPS:
            step(lambda images, arch=arch: supernet(images, arch), optimizers, data)()
    else:
        network = build(largest).train()
        run = step(network, make_optimizers(network, STAGE), data)
        for _ in range(STEPS * 9):
            run()
    return most_used() - before


def most_used() -> float:
    """Return the most MiB that this process has had; what getrusage says begins with what the parent had."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10


if __name__ == "__main__":
    if "--memory" in sys.argv:
        print(peak(*sys.argv[2:4]))
    else:
        main(measure, __doc__.splitlines()[0])
