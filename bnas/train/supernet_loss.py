"""A supernet, images and the number of a step -> the loss of the sub-networks that are drawn for it."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.space.arch import Architecture
from bnas.space.recipe import Distillation
from bnas.space.settings import SupernetRecipe
from bnas.supernet import Supernet
from bnas.train.objective import distance

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


@dataclass(frozen=True)
class SupernetLoss:
    """The loss of one step: of a drawn sub-network, or of a sandwich, as `mode` of the recipe says.

    lone_steps: so many steps at the start every sub-network has one expert.
    lesson: what a real network teaches the sub-networks that learn the labels; None leaves them the labels.
    """

    supernet: Supernet
    recipe: SupernetRecipe
    draws: Draws
    lone_steps: int = 0
    lesson: Lesson | None = None

    def __call__(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """Return it for a batch: images [batch, channels, height, width], labels int64 [batch]."""
        return (self._sandwich if self.recipe.mode == "sandwich" else self._single)(images, labels, step)

    def _single(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        return self._learned(self.supernet(images, self._at(step, self.draws(step))), images, labels)

    def _sandwich(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """Return the loss of the largest sub-network, which alone has the lesson, and how far others are from it."""
        largest = self._at(step, self.draws.largest)
        taught = self.supernet(images, largest, real_weights=self.recipe.teacher == "real")
        loss, target = self._learned(taught, images, labels), F.log_softmax(taught.detach(), 1)
        first = step * DRAWN_IN_A_SANDWICH
        for arch in (self.draws.smallest, *map(self.draws, range(first, first + DRAWN_IN_A_SANDWICH))):
            said = F.log_softmax(self.supernet(images, self._at(step, arch)), 1)
            loss = loss + F.kl_div(said, target, reduction="batchmean", log_target=True)
        return loss

    def _learned(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits: by the labels, and by the lesson where there is one."""
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        return loss if self.lesson is None else loss + self.lesson(logits, images)

    def _at(self, step: int, arch: Architecture) -> Architecture:
        """Return a sub-network as it is trained in a step."""
        return arch.with_one_expert() if step < self.lone_steps else arch
