"""The one training loop: an objective over batches, minimised for some epochs, resumable after any of them."""

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bnas.data import Split
from bnas.errors import TrainingError
from bnas.layers.binary_conv import BinaryConv, set_hardness
from bnas.layers.expert_conv import ExpertConv
from bnas.progress import Progress, silent
from bnas.recipe import Stage
from bnas.supernet import SharedUnit

Objective = Callable[[Tensor, Tensor, int], Tensor]  # (images, labels, step) -> loss to minimise

SECONDS_BETWEEN_CHECKPOINTS = 20.0
HARD_FROM = 0.85  # share of a stage after which annealed weights are binary


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


def fit(
    model: nn.Module,
    objective: Objective,
    data: Split,
    *,
    stage: Stage,
    batch: int,
    name: str,
    seed: int,
    store: Store,
    device: torch.device,
    until: int | None = None,
    before_epoch: Callable[[int], None] | None = None,
    progress: Progress = silent,
) -> None:
    """Train `model` up to an epoch, from where the store has it or from the start.

    The result is a function of the arguments alone: an interrupted call, made again, ends in the same weights.

    Args:
        model: what is trained; its parameters are changed in place.
        objective: the loss of one step, computed with `model`.
        data: the training split, which deals its batches by seed and epoch.
        stage: epochs, optimizer, rate, warm-up and weight decay.
        name: the name of the checkpoint, and of the phase in progress and errors.
        until: stop after this epoch of the stage's epochs; the rate follows the whole stage. None: train to the end.
        before_epoch: called with the number of each epoch that is about to start.
    Raises:
        TrainingError: the loss is not finite; the last good checkpoint stays.
    """
    end = stage.epochs if until is None else min(until, stage.epochs)
    optimizer = make_optimizer(model, stage)
    done = resume(model, optimizer, store, name)
    steps = data.steps(batch)
    anneals = any(name.endswith("hardness") for name, _ in model.named_buffers())
    saved, model = time.monotonic(), model.train()
    for epoch in range(done, end):
        if before_epoch:
            before_epoch(epoch)
        total = 0.0
        batches = data.batches(batch, seed=seed, epoch=epoch, augment=True, drop_last=True, device=device)
        for index, (images, labels) in enumerate(batches):
            step = epoch * steps + index
            set_rate(optimizer, stage.rate * schedule(step, stage.epochs * steps, stage.warmup))
            if anneals:
                set_hardness(model, min(1.0, step / (HARD_FROM * stage.epochs * steps)))
            optimizer.zero_grad(set_to_none=True)
            loss = objective(images, labels, step)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(
                    f"{name}: the loss is {value} at epoch {epoch + 1}, step {index + 1}, rate "
                    f"{optimizer.param_groups[0]['lr']:.3g}; the last good checkpoint is kept; lower the rate "
                    f"({stage.rate:g}) or look at the data"
                )
            loss.backward()
            optimizer.step()
            total += value
            progress(name, step + 1, stage.epochs * steps, f"loss {value:.3f}")
        store.log("epoch", phase=name, epoch=epoch + 1, epochs=stage.epochs, loss=total / steps)
        if epoch + 1 == end or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            save(model, optimizer, store, name, epoch=epoch + 1, loss=total / steps)
            saved = time.monotonic()


def make_optimizer(model: nn.Module, stage: Stage) -> Optimizer:
    """Return the stage's optimizer; only real weights of two or more dimensions decay."""
    latent = latent_weights(model) if stage.weights == "binary" else set()
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        decays = parameter.ndim > 1 and id(parameter) not in latent
        (decayed if decays else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=stage.rate, fused=True)


def latent_weights(model: nn.Module) -> set[int]:
    """Return the ids of the parameters behind binary weights: where these decay, bits flip for no reason."""
    found = set()
    for module in model.modules():
        named = dict(module.named_parameters(recurse=False))
        is_binary = isinstance(module, BinaryConv | ExpertConv) and module.precision != "real"
        if is_binary or isinstance(module, SharedUnit):
            found.add(id(named["weight"]))
    return found


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the share of the rate at a step: a linear rise over the warm-up, then half a cosine down to nothing."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group one rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def save(model: nn.Module, optimizer: Optimizer, store: Store, name: str, *, epoch: int, loss: float) -> None:
    """Keep the model, the optimizer's tensors and the epochs done."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in entry.items() if torch.is_tensor(value)}
    # A copy each: slices of one storage cannot be written twice.
    store.save_checkpoint(
        name, {key: value.detach().cpu().clone() for key, value in tensors.items()}, {"epoch": epoch, "loss": loss}
    )


def resume(model: nn.Module, optimizer: Optimizer, store: Store, name: str) -> int:
    """Put back what the store has under a name, and return how many epochs it had done; 0 if it has nothing."""
    checkpoint = store.load_checkpoint(name)
    if checkpoint is None:
        return 0
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
    for key, value in checkpoint.tensors.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = value
    model.load_state_dict(parts["model"])
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimizer"].items():
        index, _, leaf = key.partition(".")
        entries.setdefault(int(index), {})[leaf] = value.clone()  # the optimizer goes on in the tensors it is given
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(checkpoint.state["epoch"])
