"""A model and its optimizers <-> a checkpoint."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Checkpoint(Protocol):
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

    def load_checkpoint(self, name: str) -> Checkpoint | None:
        """Return what is kept under a name."""

    def log(self, event: str, **fields: Any) -> None:
        """Write one event."""


def save(
    model: nn.Module, optimizers: Sequence[Optimizer], store: Store, name: str, *, epoch: int, loss: float
) -> None:
    """Keep the model, the optimizers' tensors and the epochs done."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for place, optimizer in enumerate(optimizers):
        for index, entry in optimizer.state_dict()["state"].items():
            prefix = f"optimizer.{place}.{index}"
            tensors |= {f"{prefix}.{key}": value for key, value in entry.items() if torch.is_tensor(value)}
    # A copy each: slices of one storage cannot be written twice.
    kept = {key: value.detach().cpu().clone() for key, value in tensors.items()}
    store.save_checkpoint(name, kept, {"epoch": epoch, "loss": loss})


def resume(model: nn.Module, optimizers: Sequence[Optimizer], store: Store, name: str) -> int:
    """Put back what the store has under a name, and return how many epochs it had done; 0 if it has nothing."""
    checkpoint = store.load_checkpoint(name)
    if checkpoint is None:
        return 0
    weights: dict[str, Tensor] = {}
    entries: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in checkpoint.tensors.items():
        part, _, rest = key.partition(".")
        if part == "model":
            weights[rest] = value
        else:
            place, index, leaf = rest.split(".")
            # A copy: the optimizer goes on in the tensors it is given.
            entries[int(place)].setdefault(int(index), {})[leaf] = value.clone()
    model.load_state_dict(weights)
    for optimizer, entry in zip(optimizers, entries, strict=True):
        optimizer.load_state_dict({"state": entry, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(checkpoint.state["epoch"])
