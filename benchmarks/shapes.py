"""What a binary network needs to tell drawn shapes apart: who takes strides, in the convolution and round it.

    python benchmarks/shapes.py [--quick] [--json]

432 circles, crosses, squares and triangles of many sizes and places, as `tests/shapes.py` draws them, brought to 48x48,
and 600 others to test on; one network of three blocks, 16, 32 and 64 channels, each with a stride of 2, all binary but
for its stem and its classifier. Steps of 32 images, 1,200 of them; where real weights come first, 600 before. A claim
compares the shares of test images that are wrong, means over seeds.
"""

import statistics
from collections.abc import Iterator
from functools import cache, partial
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import torch
from claim import Claim, main
from nowhere import NoStore

from bnas.data import DataSet, load_data
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe
from bnas.spec import parse
from bnas.train import build_for, evaluate, train_staged
from tests.shapes import KINDS, draw

SIDE, TRAINED, TESTED, BATCH = 48, 432, 600, 32
POOLED = {"downsample": "max_pool"}
WAYS: dict[str, tuple[dict[str, str], dict[str, str], bool]] = {  # of each stage, of the shortcut; real weights first
    "convolutions stride": ({}, {}, False),
    "convolutions pooled": (POOLED, {}, False),
    "convolutions stride, shortcuts by the max": ({}, {"pool": "max"}, False),
    "both by the max": (POOLED, {"pool": "max"}, False),
    "both by the max, real weights first": (POOLED, {"pool": "max"}, True),
}
FEWER = 0.75  # of the errors of the way before it


def measure(quick: bool) -> Iterator[Claim]:
    """Train the network in each way."""
    torch.set_num_threads(1)
    seeds, steps = (1, 60) if quick else (2, 1200)
    wrong = {name: statistics.fmean(error(name, seed, steps) for seed in range(seeds)) for name in WAYS}
    order = ["convolutions stride", "convolutions pooled", "both by the max", "both by the max, real weights first"]
    for before, after in pairwise(order):
        yield Claim(f"shapes: errors, {after}, against {before}", wrong[after], wrong[before], FEWER)


def error(way: str, seed: int, steps: int) -> float:
    """Return the share of the test images that the network gets wrong."""
    stage, shortcut, real_first = WAYS[way]
    passes = TRAINED // BATCH
    stages: list[dict[str, Any]] = [{"epochs": max(1, steps // passes), "rate": 4.0e-3}]
    if real_first:
        stages.insert(0, {"epochs": max(1, steps // 2 // passes), "weights": "real", "rate": 4.0e-3})
    recipe = parse(Recipe, {"batch": BATCH, "stages": stages}, source="way")
    network = train_staged(
        partial(build_for, network_of(stage, shortcut)), recipe, shapes(), name=way, seed=seed, store=NoStore(),
        device=torch.device("cpu"),
    )  # fmt: skip
    wrong = 1 - evaluate(network, shapes().test.batches(200))[0]
    print(f"{way}, seed {seed}: {1 - wrong:.3f} of the test images right")
    return wrong


def network_of(stage: dict[str, str], shortcut: dict[str, str]) -> Architecture:
    """Return the network whose strides are taken in some way."""
    stages = [{"width": width, "stride": 2, **stage} for width in (16, 32, 64)]
    values = {"input": [3, SIDE, SIDE], "classes": 4, "stem": {"width": 16, "stride": 2}, "stages": stages}
    return parse(Architecture, values | {"shortcut": shortcut}, source="way")


@cache
def shapes() -> DataSet:
    """Return the images; one of each class is held out for validation, which nothing here asks for."""
    parts = [*drawn(TRAINED, seed=1), *drawn(TESTED, seed=2)]
    return load_data(tuple(parts), input_shape=(3, SIDE, SIDE), validation=0.01)


def drawn(count: int, *, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return so many pictures, of several sizes, and their labels."""
    pictures = [np.asarray(draw(KINDS[number % 4], Random(f"{seed}/{number}"))) for number in range(count)]
    return pictures, np.arange(count) % 4


if __name__ == "__main__":
    main(measure, (__doc__ or "").splitlines()[0])
