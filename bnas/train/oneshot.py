"""A space and images -> its supernet, trained."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from bnas.data import DataSet
from bnas.errors import TrainingError
from bnas.progress import Progress, silent
from bnas.seeds import derived, seeded
from bnas.space.arch import Architecture
from bnas.space.recipe import Stage, batch_for
from bnas.space.settings import SupernetRecipe
from bnas.space.space import SearchSpace
from bnas.supernet import Supernet
from bnas.train.binary_watch import SupernetWatch
from bnas.train.lazy_adamw import LazyAdamW
from bnas.train.loop import fit
from bnas.train.optimizers import groups_of
from bnas.train.ranks import ALONE, Ranks
from bnas.train.state import Store, model_weights
from bnas.train.supernet_loss import Draws, Lesson, SupernetLoss

NAME = "supernet"


class WholeSpace:
    """Draws from all of a space, every choice of a dimension as often as the others."""

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space, self._seed = space, seed
        self.largest, self.smallest = space.largest(), space.smallest()

    def __call__(self, number: int) -> Architecture:
        """Return the network of a step."""
        return self._space.architecture(self._space.fair(self._seed, number))


def train_supernet(
    space: SearchSpace,
    recipe: SupernetRecipe,
    data: DataSet,
    *,
    seed: int,
    store: Store,
    device: torch.device,
    draws: Draws | None = None,
    lesson: Lesson | None = None,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
) -> Supernet:
    """Return the supernet of a space trained by a recipe, from where the store has it or from the start.

    In the first epochs every sub-network has one expert; its weights are then copied to all. A step changes the weights
    that its sub-networks use, and no others.

    Args:
        draws: the sub-networks of the steps; None draws from the whole space.
        lesson: what a real network teaches the sub-networks that learn the labels; None leaves them the labels.
    Raises:
        TrainingError: a loss is not finite.
    """
    images = len(data.train)
    recipe, batch = recipe.on(images), batch_for(recipe.batch, images)
    with seeded(derived(seed, NAME)):
        supernet = Supernet(space).to(device)
    has_experts = any(max(stage.experts) > 1 for stage in space.stages)
    lone_epochs = min(round(recipe.one_expert * recipe.epochs), recipe.epochs - 1) if has_experts else 0

    def copy_when_due(epoch: int, optimizers: Sequence[Optimizer]) -> None:
        if lone_epochs and epoch == lone_epochs:
            supernet.copy_first_expert([optimizer.state for optimizer in optimizers])

    drawn = draws or WholeSpace(space, seed=seed)
    lone_steps = lone_epochs * data.train.steps(batch)
    objective = SupernetLoss(supernet, recipe, drawn, lone_steps=lone_steps, lesson=lesson)
    with seeded(derived(seed, NAME, "steps")):
        fit(
            supernet, objective, data.train, stage=_stage_of(recipe), batch=batch, name=NAME, seed=seed, store=store,
            device=device, optimize=_lazily, before_epoch=copy_when_due, measure=SupernetWatch(supernet),
            progress=progress, ranks=ranks,
        )  # fmt: skip
    return supernet


def _stage_of(recipe: SupernetRecipe) -> Stage:
    return Stage(
        epochs=recipe.epochs, rate=recipe.rate, warmup=recipe.warmup, weight_decay=recipe.weight_decay,
        dtype=recipe.dtype,
    )  # fmt: skip


def _lazily(supernet: nn.Module, stage: Stage) -> list[Optimizer]:
    return [LazyAdamW(groups_of(supernet, stage), lr=stage.rate)]


def load_supernet(space: SearchSpace, *, store: Store) -> Supernet:
    """Return the supernet that a store has, trained as far as it is.

    Raises:
        TrainingError: the store has none, or that of another space.
    """
    kept = store.load_checkpoint(NAME)
    if kept is None:
        raise TrainingError("supernet: none is kept in this run; run the command that began it again, so that it ends")
    supernet = Supernet(space)
    try:
        supernet.load_state_dict(model_weights(kept))
    except RuntimeError as problem:
        raise TrainingError("supernet: what is kept in this run belongs to another space; search again") from problem
    return supernet
