"""The one training loop: an objective over batches, minimised for some epochs, resumable after any step."""

import itertools
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from bnas.data import Split
from bnas.errors import Stopped
from bnas.progress import Progress, silent
from bnas.space.recipe import Stage
from bnas.train.optimizers import make_optimizers
from bnas.train.ranks import ALONE, Ranks
from bnas.train.state import Measure, Reached, Store, resume, save
from bnas.train.step import Objective, Step

SECONDS_BETWEEN_CHECKPOINTS = 20.0


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
    optimize: Callable[[nn.Module, Stage], list[Optimizer]] = make_optimizers,
    before_epoch: Callable[[int, Sequence[Optimizer]], None] | None = None,
    measure: Measure | None = None,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
) -> None:
    """Train `model` up to an epoch, from where the store has it or from the start.

    The result is a function of the arguments alone: an interrupted call, made again, ends in the same weights. Where
    the stage has `ema`, the model is measured with the averages of its weights and ends with them; a call that goes on
    takes up the weights themselves.

    Args:
        model: what is trained; its parameters are changed in place.
        objective: the loss of one step, computed with `model`.
        data: the training split, which deals its batches by seed and epoch.
        stage: epochs, optimizer, rate, warm-up and weight decay.
        name: the name of the checkpoint, and of the phase in progress, log and errors.
        until: stop after this epoch of the stage's epochs; the rate follows the whole stage. None: train to the end.
        optimize: gives the optimizers of a model and a stage.
        before_epoch: called with the number of each epoch that is about to start, and the optimizers.
        measure: called after each epoch, on rank 0; what it returns is logged beside the loss.
        progress: called after each step; where it raises `Stopped`, the step is kept first.
        ranks: processes that make the same call, each of which takes its part of every batch.
    Raises:
        TrainingError: the loss is not finite; the last good checkpoint stays. Or another rank is gone.
    """
    end = stage.epochs if until is None else min(until, stage.epochs)
    optimizers = optimize(model, stage)
    places = ranks.part(batch) if ranks.count > 1 else None
    steps = data.steps(batch)
    take_step = Step(
        model, optimizers, objective, stage, steps=steps, name=name, seed=ranks.own(seed), device=device,
        total=ranks.total, add_up=ranks.add_gradients,
    )  # fmt: skip
    averages = take_step.averages
    done = resume(model, optimizers, averages, measure, store, name)
    ranks.share(model)
    take_step.come_to(done.epoch * steps + done.step)
    share = 1.0 if places is None else len(places) / batch
    saved = time.monotonic()

    def keep(*, now: bool) -> None:
        nonlocal saved
        if now or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            save(model, optimizers, averages, measure, store, name, done)
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
                progress(name, epoch * steps + done.step, end * steps, f"loss {value:.3f}")
            except Stopped:
                keep(now=True)
                raise
            if done.step < steps:
                keep(now=False)
        ranks.share(model)
        with averages.in_place():
            measured = measure() if measure and ranks.leads else {}
        store.log("epoch", phase=name, epoch=epoch + 1, epochs=stage.epochs, loss=done.loss / steps, **measured)
        done = Reached(epoch + 1)
        keep(now=done.epoch == end)
    averages.exchange()
    ranks.share(model)  # the averages of batch norm are each rank's own
