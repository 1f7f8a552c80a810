"""What the tests of packed networks share: networks as training leaves them, and how far logits are apart."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnas.networks.build import build
from bnas.networks.models import MODELS
from bnas.ship.packed import exact_logits as exact_logits
from bnas.space.arch import Architecture

MANY = os.environ.get("BNAS_MANY") == "1"  # every preset and thousands of draws: minutes, where seconds serve
ARCHITECTURES = 30 if MANY else 2  # of a shipped space, for each target
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def pairs(ones: Iterable[Any], others: Iterable[Any], *, each: int = 1) -> list[tuple[Any, Any]]:
    """Return with BNAS_MANY=1 all pairs, else each of the ones with some of the others, which take turns."""
    others = list(others)
    step = 1 if MANY else len(others) // each
    return [(one, other) for n, one in enumerate(ones) for m, other in enumerate(others) if (n + m) % step == 0]


def worn(network: nn.Module, *, seed: int = 0) -> nn.Module:
    """Return a network with batch norms of any statistics, some gammas negative and some 0, and no two scales alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, NORMS):
                _wear_norm(module, generator)
        for name, values in network.named_parameters():
            if name.rpartition(".")[2] in ("alpha", "before", "after", "slope", "threshold") or ".act." in name:
                values.add_(torch.randn(values.shape, generator=generator) * 0.1)
    return network.eval()


def _wear_norm(norm: Any, generator: torch.Generator) -> None:
    size = norm.weight.shape
    norm.running_mean.copy_(torch.randn(size, generator=generator) * 0.3)
    norm.running_var.copy_(torch.rand(size, generator=generator) + 0.3)
    gamma = torch.randn(size, generator=generator)
    norm.weight.copy_(torch.where(torch.rand(size, generator=generator) < 0.1, 0, gamma))
    norm.bias.copy_(torch.randn(size, generator=generator) * 0.3)
    norm.num_batches_tracked.fill_(1)


def worn_network(arch: Architecture, *, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return worn(build(arch), seed=seed)


def small_input(name: str) -> tuple[int, int, int]:
    """Return a shape [channels, height, width] of images for a reference network: sides of 32, where it takes them."""
    channels, *sides = MODELS[name].input
    whole = name in ("alexnet", "sketch_a_net", "vgg_small", "lenet5", "cnv", "tfc", "sfc", "lfc")
    height, width = sides if whole else (min(side, 32) for side in sides)
    return channels, height, width


def images_for(shape: tuple[int, ...], *, batch: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, in units of the largest logit."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def hangs_on_rounding(logits: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Say of each image whether changes of a millionth change its logits by far more: a sign is not decided.

    Args:
        logits: what is computed in float64, of images [n, channels, height, width].
    """
    draw, expected = np.random.default_rng(0), logits(images)
    found = [logits(images * (1 + 1e-6 * draw.standard_normal(images.shape))) for _ in range(8)]
    return np.max([np.abs(other - expected).max(1) for other in found], 0) > 1e-4 * np.abs(expected).max()


def far_apart(
    found: np.ndarray, logits: Callable[[np.ndarray], np.ndarray], images: np.ndarray, *, close: float = 1e-4
) -> np.ndarray:
    """Say of each image whether its logits are wrong: further apart than `close`, and no matter of rounding.

    Args:
        logits: what should be found, computed in float64.
    """
    expected = logits(images)
    far = np.abs(found - expected).max(1) > close * np.abs(expected).max()
    return far & ~hangs_on_rounding(logits, images) if far.any() else far
