"""An architecture -> what it reaches when it is trained alone, by a fixed recipe."""

import time
from functools import partial
from typing import NamedTuple

import torch

from bnas.data import DataSet
from bnas.progress import Progress, silent
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe
from bnas.train import Store, build_for, evaluate, train_staged

BATCH = 500  # images of one evaluation step


class Alone(NamedTuple):
    """What a network trained alone reaches, and the processor's seconds it took."""

    validation_accuracy: float
    test_accuracy: float
    seconds: float


def train_alone(
    arch: Architecture,
    recipe: Recipe,
    data: DataSet,
    *,
    seed: int,
    store: Store,
    device: torch.device,
    name: str = "alone",
    progress: Progress = silent,
) -> Alone:
    """Return what an architecture reaches, trained from where the store has it or from the start.

    The test images serve to judge scores that were made without them, never to choose a network.

    Raises:
        TrainingError: a loss is not finite.
    """
    started = time.process_time()
    network = train_staged(
        partial(build_for, arch), recipe, data, name=name, seed=seed, store=store, device=device, progress=progress
    )
    seconds = time.process_time() - started
    validation, _ = evaluate(network, data.validation.batches(BATCH, device=device))
    test, _ = evaluate(network, data.test.batches(BATCH, device=device))
    return Alone(validation, test, seconds)
