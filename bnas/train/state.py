"""A model and its optimizers <-> a checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bnas.train.averages import Averages


class Kept(Protocol):
    """What a store gives back."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name."""

    @property
    def state(self) -> dict[str, Any]:
        """Plain values by name."""


class Store(Protocol):
    """Where training keeps its state and writes how it goes; a run folder is one."""

    def save_checkpoint(self, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Keep tensors and plain values under a name, in place of what was there."""

    def load_checkpoint(self, name: str) -> Kept | None:
        """Return what is kept under a name."""

    def log(self, event: str, **fields: Any) -> None:
        """Write one event."""


class Measure(Protocol):
    """What measures a model after each epoch, and what it has to remember from one to the next."""

    def __call__(self) -> Mapping[str, Any]:
        """Return what is logged beside the loss."""

    def state(self) -> dict[str, Tensor]:
        """Return what it remembers."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what another remembered."""


class Reached(NamedTuple):
    """How far training is: whole epochs, then steps of the next one, with the sum of their losses."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0


def save(
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    averages: Averages,
    watch: Measure | None,
    store: Store,
    name: str,
    done: Reached,
) -> None:
    """Keep the model, the optimizers' tensors, averages, what is remembered of epochs before, and how far they are."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in averages.state().items()}
    tensors |= {f"watch.{key}": value for key, value in (watch.state() if watch else {}).items()}
    for place, optimizer in enumerate(optimizers):
        for index, entry in optimizer.state_dict()["state"].items():
            prefix = f"optimizer.{place}.{index}"
            tensors |= {f"{prefix}.{key}": value for key, value in entry.items() if torch.is_tensor(value)}
    # A copy each: slices of one storage cannot be written twice.
    kept = {key: value.detach().cpu().clone() for key, value in tensors.items()}
    store.save_checkpoint(name, kept, done._asdict())


def model_weights(kept: Kept) -> dict[str, Tensor]:
    """Return the weights that count of the model in a checkpoint, averaged where they are, by their names in it."""
    return _part(kept, "model") | _part(kept, "average")


def _part(kept: Kept, part: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}."): value for key, value in kept.tensors.items() if key.startswith(f"{part}.")}


def resume(
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    averages: Averages,
    watch: Measure | None,
    store: Store,
    name: str,
) -> Reached:
    """Put back what the store has under a name, and return how far it is; nowhere if the store has nothing."""
    checkpoint = store.load_checkpoint(name)
    if checkpoint is None:
        return Reached()
    entries: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in _part(checkpoint, "optimizer").items():
        place, index, leaf = key.split(".")
        # A copy: the optimizer goes on in the tensors it is given.
        entries[int(place)].setdefault(int(index), {})[leaf] = value.clone()
    model.load_state_dict(_part(checkpoint, "model"))
    averages.restore(_part(checkpoint, "average"))
    if watch:
        watch.restore(_part(checkpoint, "watch"))
    for optimizer, entry in zip(optimizers, entries, strict=True):
        optimizer.load_state_dict({"state": entry, "param_groups": optimizer.state_dict()["param_groups"]})
        _lay_out_as_weights(optimizer)
    return Reached(**checkpoint.state)


def _lay_out_as_weights(optimizer: Optimizer) -> None:
    """Lay what an optimizer keeps of a weight out as the weight is: fused steps go through both in memory's order."""
    for weight, entry in optimizer.state.items():
        for key, value in entry.items():
            if torch.is_tensor(value) and value.shape == weight.shape:
                entry[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
