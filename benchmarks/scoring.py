"""Scoring one candidate with shared weights against a plain evaluation of the same images plus recalibration.

    python benchmarks/scoring.py [--quick] [--json]

The yardstick is a network that is built beforehand: its batch norm set anew and evaluated, on the same images. Times
are milliseconds, summed over networks drawn evenly, medians of interleaved repeats. Torch's default threads.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from claim import Claim, main
from torch import Tensor, nn

from bnas.data import DataSet, from_arrays
from bnas.networks.build import build
from bnas.searcher.score import Scorer
from bnas.space.space import SearchSpace
from bnas.supernet import Supernet
from bnas.train import evaluate, recalibrate

SPACES = Path(__file__).parents[1] / "search_spaces"
NAMES = ("bench", "cifar10", "digits")
TARGET = 1.1


def measure(quick: bool) -> Iterator[Claim]:
    """Time both in each space, network by network, in turn."""
    for name in NAMES[:1] if quick else NAMES:
        space = SearchSpace.read(SPACES / f"{name}.yaml")
        archs = [space.architecture(space.fair(0, step)) for step in range(3 if quick else 8)]
        scoring = space.search.scoring
        if quick:
            scoring = scoring.model_copy(update={"recalibration_images": 500, "validation_images": 1000})
        data = noise(space, 2 * (scoring.recalibration_images + scoring.validation_images))
        scorer = Scorer(Supernet(space), data, scoring, seed=0, device=torch.device("cpu"))
        recalibration, held_out = images_of(scorer)
        plain = [partial(evaluated, build(arch), recalibration, held_out) for arch in archs]
        shared = [partial(scorer, arch) for arch in archs]
        mine, yardstick = in_turn(shared, plain, repeats=3 if quick else 9)
        what = f"{name}: scoring with shared weights, {len(archs)} networks drawn"
        yield Claim(f"{what}, against a plain evaluation and recalibration (ms)", mine, yardstick, TARGET)
        first = [batch.contiguous() for batch in recalibration], [(x.contiguous(), labels) for x, labels in held_out]
        as_they_come = [partial(evaluated, build(arch), *first) for arch in archs]
        mine, yardstick = in_turn(plain, as_they_come, repeats=3 if quick else 9)
        yield Claim(f"{name}: images with channels last, against channels first (ms)", mine, yardstick, 1.0)


def noise(space: SearchSpace, images: int) -> DataSet:
    """Return a data set of random images, half of them to train on."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, *space.input), dtype=torch.uint8, generator=generator)
    labels = torch.arange(images) % space.classes
    return from_arrays("noise", pixels, labels, pixels[:100], labels[:100], validation=0.5)


def images_of(scorer: Scorer) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Return the batches that a scorer sets batch norm with, and those that it evaluates."""
    parts: dict[str, list[Tensor]] = {}
    for name, tensor in scorer.tensors().items():
        parts.setdefault(name.partition("/")[0], []).append(tensor)
    recalibration, images = ([rows.permute(0, 3, 1, 2) for rows in parts[kind]] for kind in ("recalibration", "images"))
    return recalibration, list(zip(images, parts["labels"], strict=True))


def evaluated(network: nn.Module, recalibration: list[Tensor], held_out: list[tuple[Tensor, Tensor]]) -> float:
    """Return the accuracy of a network with its batch norm set anew."""
    recalibrate(network, recalibration)
    return evaluate(network, held_out)[0]


def in_turn(
    first: list[Callable[[], object]], second: list[Callable[[], object]], *, repeats: int
) -> tuple[float, float]:
    """Return the milliseconds of each way, summed over medians; every repeat runs both ways of each network in turn."""
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in first]
    for _ in range(repeats + 1):
        for ways, taken in zip(zip(first, second, strict=True), times, strict=True):
            for way, list_ in zip(ways, taken, strict=True):
                start = time.perf_counter()
                way()
                list_.append(1e3 * (time.perf_counter() - start))
    sums = [sum(statistics.median(pair[way][1:]) for pair in times) for way in (0, 1)]
    return sums[0], sums[1]


if __name__ == "__main__":
    main(measure, __doc__.splitlines()[0])
