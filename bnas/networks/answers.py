"""What a classifier answers, in whatever shape its author chose -> its logits."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.cost.trace.plain_model import tensors_in
from bnas.errors import ShapeError

_MOST_SHOWN = 4  # tensors of an answer


def logits_of(answer: Any, *, classes: int = 1) -> Tensor:
    """Return the logits [batch, outputs] in what a model answers.

    That is the answer itself where it is a tensor; else what it has as `.logits` or under the key "logits"; else the
    first tensor [batch, classes] of a tuple, a mapping or a dataclass, or the first [batch, more] where all such are
    equally wide. What comes beside it, as the logits of an auxiliary head, is left out.

    Args:
        classes: how many there are to tell apart.
    Raises:
        ShapeError: there is none, or several of which any may be it; says what there is.
    """
    if isinstance(answer, Tensor):
        return answer
    named = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
    if isinstance(named, Tensor):
        return named
    found = tensors_in(answer)
    wide = [x for x in found if x.ndim == 2 and x.is_floating_point() and x.shape[1] >= classes]
    exact = [x for x in wide if x.shape[1] == classes]
    if exact or len({x.shape[1] for x in wide}) == 1:
        return (exact or wide)[0]
    shapes = ", ".join(str(list(tensor.shape)) for tensor in found[:_MOST_SHOWN]) or "no tensor"
    raise ShapeError(
        f"answer: must be logits [batch, {classes}], or a tuple or mapping that holds them or names them `logits`, but "
        f"is a {type(answer).__name__} of {shapes}; change what the model returns"
    )


def check_logits(answer: Any, *, batch: int, classes: int, where: str) -> int:
    """Return how many outputs a model's answer has; raise unless it holds logits for a batch.

    Args:
        where: what the message begins with.
    Raises:
        ShapeError: it does not; says which part of this it breaks, and the values.
    """
    try:
        logits = logits_of(answer, classes=classes)
    except ShapeError as problem:
        raise ShapeError(f"{where}: {problem}") from problem
    is_dense = logits.layout == torch.strided
    if logits.ndim != 2 or len(logits) != batch or not logits.is_floating_point() or not is_dense:
        kind = "" if logits.is_floating_point() else f" of {str(logits.dtype).removeprefix('torch.')}"
        kind += "" if is_dense else ", sparse"
        raise ShapeError(
            f"{where}: {classes} classes need logits [{batch}, {classes}] for a batch of {batch}, but the model gives "
            f"{list(logits.shape)}{kind}; change its last layer"
        )
    return logits.shape[1]


def answer_loss(answer: Any, labels: Tensor, *, classes: int) -> Tensor:
    """Return the mean cross-entropy of the logits in a model's answer.

    Args:
        labels: int64 [batch].
        classes: how many there are to tell apart.
    Raises:
        ShapeError: it holds none.
    """
    return F.cross_entropy(logits_of(answer, classes=classes), labels.long())


class Classifier(nn.Module):
    """A network whose answer is its logits, whatever the network inside answers."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, images: Tensor) -> Tensor:
        """[batch, ...] -> [batch, outputs]."""
        return logits_of(self.network(images), classes=self.classes)
