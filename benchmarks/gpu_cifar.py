"""From a space to the test accuracy of the network found, on one GPU: CIFAR-10 at 32x32 in some minutes.

    python benchmarks/gpu_cifar.py [--minutes M] [--out DIR] [--seed N] [--space SPACE] [--data DATA]
                                   [--no-profile] [--json]

First steps of a network that fills the budget are timed: float32, bfloat16 with channels last, and that compiled; then
`cifar10_gpu.yaml` is searched in the minutes that are given, 12, whatever the device: epochs and trials grow or shrink
to what fits. Claimed are the time, the ops, and the share of test images that is wrong against 12.5 %; the best
published binary ResNet-20s, of 1.07M ops, have 86.5 to 88.5 % after 400 to 1,000 epochs. It runs on a CPU too.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from claim import Claim, medians
from handmade import Task, fitted
from in_one_go import processor

import bnas
from bnas.allocator import keep_freed_memory
from bnas.cost.budget import Budget
from bnas.space.arch import Architecture
from bnas.space.recipe import Stage
from bnas.space.shipped import space_file
from bnas.space.space import SearchSpace
from bnas.train import build_for
from bnas.train.objective import answering, stage_loss
from bnas.train.optimizers import make_optimizers
from bnas.train.step import Step, start_stage

MINUTES, WRONG, OPS = 12.0, 0.125, 1.07e6
REPEATS, STEPS = 5, 10  # of each way to compute, in turn
STRIDES = (1, 2, 2, 2)


def profiled(space: SearchSpace, device: torch.device) -> Iterator[Claim]:
    """Yield how long steps of a network that fills the budget take, against those in float32."""
    arch = fitted("thermometer", Task(space.input, space.classes, STRIDES), Budget.parse(space.search.budget))
    batch = space.search.retrain.recipe.batch or 128
    ways = {
        "float32": steps_of(arch, batch, device, Stage(epochs=1)),
        "bfloat16, channels last": steps_of(arch, batch, device, Stage(epochs=1, dtype="bfloat16")),
        "the same, compiled": steps_of(arch, batch, device, Stage(epochs=1, dtype="bfloat16"), compiled=True),
    }
    taken = medians(ways, repeats=REPEATS)
    for name, milliseconds in list(taken.items())[1:]:
        yield Claim(
            f"{STEPS} steps of {batch} images in ms, {name}, against float32", milliseconds, taken["float32"], 1
        )


def steps_of(
    arch: Architecture, batch: int, device: torch.device, stage: Stage, *, compiled: bool = False
) -> Callable[[], None]:
    """Return what takes some steps of training on random images, and waits for their end."""
    network = start_stage(partial(build_for, arch), stage, None, seed=0).to(device).train()
    answer = answering(network)
    loss = partial(stage_loss, torch.compile(answer) if compiled else answer, None, stage, 0)
    step = Step(
        network, make_optimizers(network, stage), loss, stage, steps=10**9, name="profile", seed=0, device=device
    )
    images, labels = torch.randn(batch, *arch.input, device=device), torch.arange(batch, device=device) % arch.classes

    def take() -> None:
        for _ in range(STEPS):
            step(images, labels, 0)  # reads the loss, so the device has come to its end

    return take


def searched(options: argparse.Namespace) -> Iterator[Claim]:
    """Search, and yield what came of it."""
    started = time.monotonic()
    found = bnas.search(
        options.space, data=options.data, minutes=options.minutes, seed=options.seed, out=options.out, trust=False
    )
    minutes, best = (time.monotonic() - started) / 60, found.best
    yield Claim("minutes from the space to the test accuracy", minutes, options.minutes, 1)
    yield Claim(f"share of test images that is wrong, {best.architecture.id}", 1 - best.accuracy, WRONG, 1)
    yield Claim("its ops", float(best.cost.ops), OPS, 1)


def main() -> None:
    """Time steps, search, and print each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_cifar"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--space", default="cifar10_gpu")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--no-profile", action="store_true", help="time no steps beforehand")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    keep_freed_memory()
    timed = () if options.no_profile else profiled(SearchSpace.read(space_file(options.space)), processor())
    for part in (timed, searched(options)):
        for claim in part:
            print(claim.as_json() if options.json else claim, flush=True)


if __name__ == "__main__":
    main()
