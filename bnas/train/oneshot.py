"""A space and images -> its supernet, trained."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from bnas.data import DataSet
from bnas.errors import TrainingError
from bnas.progress import Progress, silent
from bnas.seeds import derived, seeded
from bnas.space.arch import Architecture
from bnas.space.recipe import Distillation, Stage, batch_for
from bnas.space.settings import SupernetRecipe
from bnas.space.space import SearchSpace
from bnas.supernet import Supernet
from bnas.train.binary_watch import SupernetWatch
from bnas.train.lazy_adamw import LazyAdamW
from bnas.train.loop import fit
from bnas.train.objective import distance
from bnas.train.optimizers import groups_of
from bnas.train.ranks import ALONE, Ranks
from bnas.train.state import Store, model_weights

NAME = "supernet"
DRAWN_IN_A_SANDWICH = 2


class Draws(Protocol):
    """The sub-networks of the steps."""

    @property
    def largest(self) -> Architecture:
        """The one that teaches in a sandwich."""

    @property
    def smallest(self) -> Architecture:
        """The one that is in every sandwich beside it."""

    def __call__(self, number: int) -> Architecture:
        """Return that of a step, the same whenever it is asked for."""


class Lesson(NamedTuple):
    """A real network that teaches the supernet, and how much."""

    teacher: nn.Module
    weights: Distillation

    def __call__(self, logits: Tensor, images: Tensor) -> Tensor:
        """Return how far logits are from those of the teacher for the same images."""
        with torch.no_grad():
            taught = self.teacher(images.clone())  # a network may change what it is given
        return distance(logits, [], taught, [], self.weights)


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
    objective = partial(OBJECTIVES[recipe.mode], supernet, recipe, drawn, lone_steps, lesson=lesson)
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


def single(
    supernet: Supernet,
    recipe: SupernetRecipe,
    draws: Draws,
    lone_steps: int,
    images: Tensor,
    labels: Tensor,
    step: int,
    *,
    lesson: Lesson | None = None,
) -> Tensor:
    """Return the loss of one drawn sub-network."""
    arch = _maybe_lone(draws(step), step < lone_steps)
    return _learned(supernet(images, arch), recipe, images, labels, lesson)


def sandwich(
    supernet: Supernet,
    recipe: SupernetRecipe,
    draws: Draws,
    lone_steps: int,
    images: Tensor,
    labels: Tensor,
    step: int,
    *,
    lesson: Lesson | None = None,
) -> Tensor:
    """Return the loss of the largest sub-network, which alone has the lesson, and how far others are from it."""
    lone = step < lone_steps
    taught = supernet(images, _maybe_lone(draws.largest, lone), real_weights=recipe.teacher == "real")
    loss = _learned(taught, recipe, images, labels, lesson)
    target = F.log_softmax(taught.detach(), 1)
    pupils = [_maybe_lone(draws.smallest, lone)]
    first = step * DRAWN_IN_A_SANDWICH
    pupils += [_maybe_lone(draws(first + index), lone) for index in range(DRAWN_IN_A_SANDWICH)]
    for arch in pupils:
        said = F.log_softmax(supernet(images, arch), 1)
        loss = loss + F.kl_div(said, target, reduction="batchmean", log_target=True)
    return loss


def _learned(logits: Tensor, recipe: SupernetRecipe, images: Tensor, labels: Tensor, lesson: Lesson | None) -> Tensor:
    """Return the loss of logits: by the labels, and by the lesson where there is one."""
    loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    return loss if lesson is None else loss + lesson(logits, images)


OBJECTIVES = {"single": single, "sandwich": sandwich}


def _maybe_lone(arch: Architecture, lone: bool) -> Architecture:
    return arch.with_one_expert() if lone else arch
