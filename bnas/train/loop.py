"""The one training loop: an objective over batches, minimised for some epochs, resumable after any step."""

import itertools
import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bnas.data import Split
from bnas.errors import Stopped, TrainingError
from bnas.layers.binary_layer import set_hardness
from bnas.progress import Progress, silent
from bnas.space.recipe import Stage
from bnas.train.optimizers import centrable_weights, latent_weights, make_optimizers, schedule, set_rate
from bnas.train.ranks import ALONE, Ranks
from bnas.train.state import Measure, Reached, Store, resume, save

Objective = Callable[[Tensor, Tensor, int], Tensor]  # (images, labels, step) -> loss to minimise

SECONDS_BETWEEN_CHECKPOINTS = 20.0
HARD_FROM = 0.85  # share of a stage after which annealed weights are as near to binary as training takes them


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
    before_epoch: Callable[[int, Sequence[Optimizer]], None] | None = None,
    measure: Measure | None = None,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
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
        before_epoch: called with the number of each epoch that is about to start, and the optimizers.
        measure: called after each epoch, on rank 0; what it returns is logged beside the loss.
        progress: called after each step; where it raises `Stopped`, the step is kept first.
        ranks: processes that make the same call, each of which takes its part of every batch.
    Raises:
        TrainingError: the loss is not finite; the last good checkpoint stays. Or another rank is gone.
    """
    end = stage.epochs if until is None else min(until, stage.epochs)
    optimizers = make_optimizers(model, stage)
    done = resume(model, optimizers, measure, store, name)
    ranks.share(model)
    places = ranks.part(batch) if ranks.count > 1 else None
    steps = data.steps(batch)
    take_step = _Step(model, optimizers, objective, stage, steps=steps, name=name, device=device, ranks=ranks)
    share = 1.0 if places is None else len(places) / batch
    saved = time.monotonic()

    def keep(*, now: bool) -> None:
        nonlocal saved
        if now or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            save(model, optimizers, measure, store, name, done)
            saved = time.monotonic()

    for epoch in range(done.epoch, end):
        if before_epoch and not done.step:
            before_epoch(epoch, optimizers)
        model.train()
        batches = data.batches(
            batch, seed=seed, epoch=epoch, augment=True, drop_last=True, device=device, places=places
        )
        for images, labels in itertools.islice(batches, done.step, None):
            value = take_step(images, labels, epoch * steps + done.step, share=share)
            done = Reached(epoch, done.step + 1, done.loss + value)
            try:
                progress(name, epoch * steps + done.step, stage.epochs * steps, f"loss {value:.3f}")
            except Stopped:
                keep(now=True)
                raise
            if done.step < steps:
                keep(now=False)
        ranks.share(model)
        measured = measure() if measure and ranks.leads else {}
        store.log("epoch", phase=name, epoch=epoch + 1, epochs=stage.epochs, loss=done.loss / steps, **measured)
        done = Reached(epoch + 1)
        keep(now=done.epoch == end)


class _Step:
    """One step of training: the rate and hardness of the moment, the loss, its gradient, the new weights."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        objective: Objective,
        stage: Stage,
        *,
        steps: int,
        name: str,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self._model, self._optimizers, self._objective = model, optimizers, objective
        self._stage, self._steps, self._name, self._ranks = stage, steps, name, ranks
        self._centred = centrable_weights(model) if stage.centre_latent else []
        self._clipped = latent_weights(model) if stage.clip_latent else []
        self._anneals = any(name.endswith("hardness") for name, _ in model.named_buffers())
        self._mixed = torch.autocast(device.type, torch.bfloat16, enabled=stage.dtype == "bfloat16")

    def __call__(self, images: Tensor, labels: Tensor, step: int, *, share: float) -> float:
        """Change the weights, and return the loss of the whole batch before the change.

        Args:
            share: of the batch that these images are.

        Raises:
            TrainingError: the loss is not finite; the weights are as they were.
        """
        whole = self._stage.epochs * self._steps
        set_rate(self._optimizers, self._stage.rate * schedule(step, whole, self._stage.warmup))
        if self._anneals:
            set_hardness(self._model, min(1.0, step / (HARD_FROM * whole)))
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        with self._mixed:
            loss = share * self._objective(images, labels, step)
        value = self._ranks.total(loss)
        if not math.isfinite(value):
            raise TrainingError(
                f"{self._name}: the loss is {value} at epoch {step // self._steps + 1}, step {step % self._steps + 1}, "
                f"rate {self._optimizers[-1].param_groups[0]['lr']:.3g}; the last good checkpoint is kept; lower the "
                f"rate ({self._stage.rate:g}) or look at the data"
            )
        loss.backward()
        self._ranks.add_gradients(self._model)
        for optimizer in self._optimizers:
            optimizer.step()
        _constrain(self._centred, self._clipped)
        return value


@torch.no_grad()
def _constrain(centred: list[tuple[nn.Parameter, int]], clipped: list[nn.Parameter]) -> None:
    for weight, dim in centred:
        weight.sub_(weight.mean(dim, keepdim=True))
    for weight in clipped:
        weight.clamp_(-1, 1)
