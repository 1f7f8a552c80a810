"""What people have batches as -> inputs of a model, and labels where there are any."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bnas.errors import DataError
from bnas.select.conversion import answer_of, copies

Batches = Iterable[Any]
"""Of each batch: a tensor [batch, ...]; or (inputs, labels), inputs being a tensor or one for each argument."""


class Example(NamedTuple):
    """One batch."""

    inputs: tuple[Tensor, ...]
    labels: Any = None


def examples(batches: Batches, model: nn.Module) -> list[Example]:
    """Return batches as examples, where the model's parameters are.

    Raises:
        DataError: there are none, or one is of another form.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if device.type == "meta":
        raise DataError("calibration: the model is on the meta device, which holds no weights; make it on the CPU")
    found = [_example(batch, device) for batch in batches]
    if not found:
        raise DataError("calibration: there are no batches; give at least one of a few dozen images")
    return found


def answers(model: nn.Module, batches: Iterable[Example]) -> Iterator[Any]:
    """Yield what a model returns for each batch; it gets a copy, which it may change.

    Raises:
        DataError: it fails on one; says which.
    """
    for number, batch in enumerate(batches, 1):
        yield answer_of(model, copies(batch.inputs), what=f"batch {number}")


def _example(batch: Any, device: torch.device) -> Example:
    inputs, labels = (batch, None) if isinstance(batch, Tensor) else _pair(batch)
    listed = inputs if isinstance(inputs, tuple | list) else (inputs,)
    tensors = tuple(listed)
    if not tensors or not all(isinstance(tensor, Tensor) and tensor.ndim for tensor in tensors):
        raise DataError(f"calibration: {_FORM}, but one holds {type(inputs).__name__}")
    moved = tuple(tensor.to(device) for tensor in tensors)
    return Example(moved, labels.to(device) if isinstance(labels, Tensor) else labels)


_FORM = "a batch must be a tensor, or (inputs, labels) with a tensor, or a tuple of tensors, as inputs"


def _pair(batch: Any) -> Iterator[Any]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise DataError(f"calibration: {_FORM}, but one is a {type(batch).__name__}")
    return iter(batch)
