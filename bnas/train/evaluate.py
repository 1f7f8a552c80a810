"""A network and images -> its accuracy; batch-norm statistics set anew."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bnas.errors import DataError


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the batch-norm statistics to the average over batches of images; leave everything else as it was."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for images in batches:
        network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


@torch.no_grad()
def evaluate(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Return (accuracy, mean cross-entropy) of a network over batches of (images, labels)."""
    return _scored(network.eval(), batches)


@torch.no_grad()
def evaluate_soft(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Return what `evaluate` does, with weights that become binary gradually as soft as training left them."""
    network.eval()
    annealed = [module for module in network.modules() if getattr(module, "hardness", None) is not None]
    for module in annealed:
        module.training = True  # not what is in it: a batch norm there would count the images
    found = _scored(network, batches)
    network.eval()
    return found


def _scored(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    right, loss, count = 0, 0.0, 0
    for images, labels in batches:
        logits = network(images)
        right += int((logits.argmax(1) == labels).sum())
        loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        count += len(labels)
    if not count:
        raise DataError("evaluation: there are no images; give a split that has some")
    return right / count, loss / count
