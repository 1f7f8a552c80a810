"""A network and images -> its accuracy, and what it takes for what; batch-norm statistics set anew."""

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnas.errors import DataError
from bnas.torch_inside import AnyBatchNorm


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the batch-norm statistics to the average over batches of images; leave everything else as it was.

    That is of every kind of batch norm, subclasses too. One that keeps no statistics has none to set, and one that no
    batch comes to, as in a head for training alone, keeps what it has.
    """
    norms = [module for module in network.modules() if isinstance(module, AnyBatchNorm)]
    fates = [_Recalibrated(norm) for norm in norms if norm.running_mean is not None]
    network.eval()
    for fate in fates:
        fate.begin()
    for images in batches:
        network(images)
    for fate in fates:
        fate.end()
    network.eval()


class _Recalibrated:
    """One batch norm on its way to new statistics."""

    def __init__(self, norm: AnyBatchNorm) -> None:
        self._norm, self._momentum = norm, norm.momentum
        statistics = dict(norm.named_buffers(recurse=False))
        self._before = {name: tensor.clone() for name, tensor in statistics.items() if not is_lazy(tensor)}

    def begin(self) -> None:
        """Forget the statistics, and average over all batches to come."""
        self._norm.reset_running_stats()
        self._norm.momentum = None  # a cumulative average
        self._norm.train()

    def end(self) -> None:
        """Put back what is no statistic; and the statistics where no batch came."""
        self._norm.momentum = self._momentum
        if not self._norm.num_batches_tracked:
            for name, tensor in self._before.items():
                self._norm.get_buffer(name).copy_(tensor)


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


@torch.no_grad()
def confusion(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> list[dict[str, int]]:
    """Return how many images of each class a network takes for which: class, taken_for, images; of none, no row."""
    found = Counter[tuple[int, int]]()
    network.eval()
    for images, labels in batches:
        found.update(zip(labels.tolist(), network(images).argmax(1).tolist(), strict=True))
    return [{"class": right, "taken_for": said, "images": found[right, said]} for right, said in sorted(found)]


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
