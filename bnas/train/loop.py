"""The one training loop: an objective over batches, minimised for some epochs, resumable after any of them."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bnas.data import Split
from bnas.errors import TrainingError
from bnas.layers.binary_conv import set_hardness
from bnas.progress import Progress, silent
from bnas.recipe import Stage
from bnas.train.optimizers import latent_weights, make_optimizers, schedule, set_rate
from bnas.train.state import Store, resume, save

Objective = Callable[[Tensor, Tensor, int], Tensor]  # (images, labels, step) -> loss to minimise

SECONDS_BETWEEN_CHECKPOINTS = 20.0
HARD_FROM = 0.85  # share of a stage after which annealed weights are binary


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
    measure: Callable[[], Mapping[str, Any]] | None = None,
    progress: Progress = silent,
) -> None:
    """Train `model` up to an epoch, from where the store has it or from the start.

    The result is a function of the arguments alone: an interrupted call, made again, ends in the same weights.

    Args:
        model: what is trained; its parameters are changed in place.
        objective: the loss of one step, computed with `model`.
        data: the training split, which deals its batches by seed and epoch.
        stage: epochs, optimizer, rate, warm-up and weight decay.
        name: the name of the checkpoint, and of the phase in progress, log and errors.
        until: stop after this epoch of the stage's epochs; the rate follows the whole stage. None: train to the end.
        before_epoch: called with the number of each epoch that is about to start.
        measure: called after each epoch; what it returns is logged beside the loss.
    Raises:
        TrainingError: the loss is not finite; the last good checkpoint stays.
    """
    end = stage.epochs if until is None else min(until, stage.epochs)
    optimizers = make_optimizers(model, stage)
    clipped = latent_weights(model) if stage.clip_latent else []
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=stage.dtype == "bfloat16")
    done = resume(model, optimizers, store, name)
    steps = data.steps(batch)
    anneals = any(name.endswith("hardness") for name, _ in model.named_buffers())
    saved = time.monotonic()
    for epoch in range(done, end):
        if before_epoch:
            before_epoch(epoch)
        model.train()
        total = 0.0
        batches = data.batches(batch, seed=seed, epoch=epoch, augment=True, drop_last=True, device=device)
        for index, (images, labels) in enumerate(batches):
            step = epoch * steps + index
            set_rate(optimizers, stage.rate * schedule(step, stage.epochs * steps, stage.warmup))
            if anneals:
                set_hardness(model, min(1.0, step / (HARD_FROM * stage.epochs * steps)))
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            with mixed:
                loss = objective(images, labels, step)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(
                    f"{name}: the loss is {value} at epoch {epoch + 1}, step {index + 1}, rate "
                    f"{optimizers[-1].param_groups[0]['lr']:.3g}; the last good checkpoint is kept; lower the rate "
                    f"({stage.rate:g}) or look at the data"
                )
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            _clip(clipped)
            total += value
            progress(name, step + 1, stage.epochs * steps, f"loss {value:.3f}")
        measured = measure() if measure else {}
        store.log("epoch", phase=name, epoch=epoch + 1, epochs=stage.epochs, loss=total / steps, **measured)
        if epoch + 1 == end or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            save(model, optimizers, store, name, epoch=epoch + 1, loss=total / steps)
            saved = time.monotonic()


@torch.no_grad()
def _clip(weights: list[nn.Parameter]) -> None:
    for weight in weights:
        weight.clamp_(-1, 1)
