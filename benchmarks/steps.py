"""One training step of sub-networks of a supernet, and of the same networks built plainly."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from bnas.networks.build import build
from bnas.space.arch import Architecture
from bnas.space.recipe import Stage
from bnas.space.space import SearchSpace
from bnas.supernet import Supernet
from bnas.train.optimizers import make_optimizers

Answer = Callable[[Tensor], Tensor]
Batch = tuple[Tensor, Tensor]
STAGE = Stage(epochs=1, rate=1e-3)


class Times(NamedTuple):
    """Median milliseconds of a step, one a network."""

    shared: tuple[float, ...]
    plain: tuple[float, ...]


def drawn(space: SearchSpace, count: int, *, seed: int = 0) -> list[Architecture]:
    """Return networks as training draws them."""
    return [space.architecture(space.fair(seed, step)) for step in range(count)]


def step(answer: Answer, optimizers: Sequence[Optimizer], batch: Batch) -> Callable[[], None]:
    """Return one step of training: forward, backward, optimizer."""
    images, labels = batch

    def run() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(answer(images), labels).backward()
        for optimizer in optimizers:
            optimizer.step()

    return run


def batch_for(space: SearchSpace, size: int) -> Batch:
    """Return random images and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, *space.input, generator=generator)
    return images, torch.randint(0, space.classes, (size,), generator=generator)


def step_times(space: SearchSpace, archs: Sequence[Architecture], *, batch: int, repeats: int) -> Times:
    """Time a step of each network through the supernet and built plainly, in turn; the first two do not count."""
    torch.manual_seed(0)
    data, supernet = batch_for(space, batch), Supernet(space).train()
    optimizers = make_optimizers(supernet, STAGE)  # one for all networks, as in training
    shared, plain = [], []
    for arch in archs:
        network = build(arch).train()
        shared.append(step(partial(_through, supernet, arch), optimizers, data))
        plain.append(step(network, make_optimizers(network, STAGE), data))
    times: list[list[float]] = [[] for _ in (*shared, *plain)]
    order = [place + half for place in range(len(archs)) for half in (0, len(archs))]
    for _ in range(repeats + 2):
        for place in order:
            times[place].append(_milliseconds((shared + plain)[place]))
    medians = [statistics.median(taken[2:]) for taken in times]
    return Times(tuple(medians[: len(archs)]), tuple(medians[len(archs) :]))


def supernet_share(space: SearchSpace, *, networks: int, repeats: int) -> tuple[float, float]:
    """Return the seconds that training the supernet takes, and those of one network alone, by their median steps."""
    settings = space.search
    archs = drawn(space, networks)
    recipe = settings.retrain.recipe
    images = (settings.limit or 0) * (1 - settings.validation)
    by_supernet = step_times(space, archs, batch=settings.supernet.batch, repeats=repeats).shared
    alone = step_times(space, archs, batch=recipe.batch, repeats=repeats).plain
    steps = [settings.supernet.epochs * images / settings.supernet.batch, recipe.epochs * images / recipe.batch]
    means = [statistics.fmean(by_supernet), statistics.fmean(alone)]
    whole, one = (count * mean / 1e3 for count, mean in zip(steps, means, strict=True))
    return whole, one


def _through(supernet: Supernet, arch: Architecture, images: Tensor) -> Tensor:
    logits: Tensor = supernet(images, arch)
    return logits


def _milliseconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)
