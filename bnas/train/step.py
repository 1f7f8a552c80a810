"""A stage of training and its network: what the network begins with, and what one step does to it.

Like `objective`, `optimizers` and `evaluate` it needs torch alone and knows a stage by its attributes, whatever its
type: an export carries these modules whole, and trains as we do.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bnas.errors import TrainingError
from bnas.layers.binary_layer import BinaryLayer, set_hardness
from bnas.seeds import derived, reseed, seeded
from bnas.train.averages import Averages
from bnas.train.optimizers import centrable_weights, latent_weights, schedule, set_rate

Objective = Callable[[Tensor, Tensor, int], Tensor]  # (images, labels, step) -> loss to minimise
Net = TypeVar("Net", bound=nn.Module)

FILTER_SIDES = 4  # out, in, height, width
HARD_FROM = 0.85  # share of a stage after which annealed weights are as near to binary as training takes them


def start_stage(make: Callable[[Any], Net], stage: Any, before: nn.Module | None, *, seed: int) -> Net:
    """Return the network of a stage with the weights of the stage before; one expert becomes all of them.

    What computes in bfloat16 lies in channels last, which processors of it are fast in; in float32 it changes little.
    """
    with seeded(seed):
        network = make(stage)
    if before is not None:
        inherit(network, before)
    elif stage.one_expert:
        begin_as_one(network)
    for module in network.modules():
        if isinstance(module, BinaryLayer):
            module.real_weights = stage.weights == "real"
            module.real_inputs = stage.inputs == "real"
    return in_channels_last(network) if stage.dtype == "bfloat16" else network


def in_channels_last(network: Net) -> Net:
    """Return a network, its filters laid out so that its maps are too; `Module.to` refuses those of experts."""
    for weight in network.parameters():
        if weight.ndim == FILTER_SIDES:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


@torch.no_grad()
def inherit(network: nn.Module, before: nn.Module) -> None:
    """Copy weights by name; one filter bank goes to every expert; gates that were not there stay as they are."""
    own = network.state_dict()
    for name, tensor in before.state_dict().items():
        own[name].copy_(tensor)  # broadcasts [out, ...] over [experts, out, ...]


@torch.no_grad()
def begin_as_one(network: nn.Module) -> None:
    """Make the experts of each layer equal, and have the first take every image, until `Step` gives them all a part."""
    for layer in expert_layers(network):
        layer.weight.copy_(layer.weight[:1].clone().expand_as(layer.weight))
        layer.alone = True


def expert_layers(network: nn.Module) -> list[Any]:
    """Return the layers with experts, known by what they have: an export of a network without them holds no such."""
    return [layer for layer in network.modules() if isinstance(layer, BinaryLayer) and hasattr(layer, "alone")]


class Step:
    """One step of training: the rate and hardness of the moment, the loss, its gradient, the new weights.

    Args:
        model: what is trained; its parameters are changed in place.
        optimizers: of its parameters.
        objective: the loss of one step, computed with `model`.
        stage: as a recipe has it.
        steps: of an epoch.
        name: of the stage, for errors.
        seed: of what the network draws, as dropout does; with the step it decides all that is drawn in it.
        total: the loss of the whole batch, where several processes have a part of it each.
        add_up: makes the gradients of the model those of the whole batch, likewise.

    Attributes:
        averages: of the weights over the steps, where the stage has `ema`; who ends a stage exchanges them.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        objective: Objective,
        stage: Any,
        *,
        steps: int,
        name: str,
        seed: int,
        device: torch.device,
        total: Callable[[Tensor], float] = Tensor.item,
        add_up: Callable[[nn.Module], None] = lambda model: None,
    ) -> None:
        self._model, self._optimizers, self._objective = model, optimizers, objective
        self._stage, self._steps, self._name, self._seed = stage, steps, name, seed
        self._total, self._add_up = total, add_up
        self._centred = centrable_weights(model) if stage.centre_latent else []
        self._clipped = latent_weights(model) if stage.clip_latent else []
        self._growing = [layer for layer in expert_layers(model) if layer.alone]
        lone_epochs = round(stage.one_expert * stage.epochs)
        self._lone_steps = steps * (lone_epochs if stage.one_expert == 1 else min(lone_epochs, stage.epochs - 1))
        self._anneals = any(name.endswith("hardness") for name, _ in model.named_buffers())
        self.averages = Averages(model, stage)
        self._mixed = torch.autocast(device.type, torch.bfloat16, enabled=stage.dtype == "bfloat16")

    def __call__(self, images: Tensor, labels: Tensor, step: int, *, share: float = 1.0) -> float:
        """Change the weights, and return the loss of the whole batch before the change.

        Args:
            step: how many steps of the stage were before.
            share: of the batch that these images are.

        Raises:
            TrainingError: the loss is not finite; the weights are as they were.
        """
        whole = self._stage.epochs * self._steps
        self._grow(step)
        self._harden(step)
        set_rate(self._optimizers, self._stage.rate * schedule(step, whole, self._stage.warmup))
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        reseed(derived(self._seed, "step", step))
        with self._mixed:
            loss = share * self._objective(images, labels, step)
        value = self._total(loss)
        if not math.isfinite(value):
            raise TrainingError(
                f"{self._name}: the loss is {value} at epoch {step // self._steps + 1}, step {step % self._steps + 1}, "
                f"rate {self._optimizers[-1].param_groups[0]['lr']:.3g}; what was saved before stays; lower the "
                f"rate ({self._stage.rate:g}) or look at the data"
            )
        loss.backward()
        self._add_up(self._model)
        self._teach_all_as_one()
        for optimizer in self._optimizers:
            optimizer.step()
        constrain(self._centred, self._clipped)
        self.averages.take_in(step)
        return value

    def come_to(self, step: int) -> None:
        """Have the model compute as the steps before this one left it, in what no checkpoint holds.

        Layers with experts have the first alone, or all; annealed weights are as near to binary as they were.
        """
        self._grow(step)
        self._harden(max(0, step - 1))

    def _grow(self, step: int) -> None:
        for layer in self._growing:
            layer.alone = step < self._lone_steps

    def _harden(self, step: int) -> None:
        """Bring annealed weights as near to binary as they are in a step."""
        if self._anneals:
            set_hardness(self._model, min(1.0, step / (HARD_FROM * self._stage.epochs * self._steps)))

    def _teach_all_as_one(self) -> None:
        """Give every expert the gradient of the one that took all images: they stay equal, and so do their averages."""
        for layer in self._growing:
            if layer.alone and layer.weight.grad is not None:
                layer.weight.grad.copy_(layer.weight.grad[:1].clone().expand_as(layer.weight))


@torch.no_grad()
def constrain(centred: Sequence[tuple[nn.Parameter, int]], clipped: Sequence[nn.Parameter]) -> None:
    """Take the mean along a dimension from weights, and bring weights back between -1 and 1."""
    for weight, dim in centred:
        weight.sub_(weight.mean(dim, keepdim=True))
    for weight in clipped:
        inside = 1 - torch.finfo(weight.dtype).eps / 2  # the last number below 1: at 1 the gradient is 0 for good
        weight.clamp_(-inside, inside)
