"""A recipe and images -> a network trained in one go, and its accuracy, on the processor that is there."""

from collections.abc import Callable

import torch
from nowhere import NoStore
from torch import nn

from bnas.data import DataSet, Split
from bnas.space.recipe import Recipe, Stage
from bnas.train import evaluate, train_staged
from bnas.train.retrain import EVALUATION_BATCH


def processor() -> torch.device:
    """Return the GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    make: Callable[[Stage], nn.Module], recipe: Recipe, data: DataSet, *, seed: int, teacher: nn.Module | None = None
) -> nn.Module:
    """Return a network trained by a recipe.

    Args:
        make, teacher: as in `train_staged`.
    """
    return train_staged(
        make, recipe, data, name="benchmark", seed=seed, store=NoStore(), device=processor(), teacher=teacher
    )


def accuracy(network: nn.Module, images: Split) -> float:
    """Return the share of images that a network is right about, computed where its weights are."""
    device = next(network.parameters()).device
    return evaluate(network, images.batches(EVALUATION_BATCH, device=device))[0]
