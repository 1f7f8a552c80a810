"""A model and a stage -> its optimizers, Bop among them, and the rate at each step."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from bnas.binarize import filter_dims, has_exact_gradient
from bnas.layers.binary_layer import LatentWeights
from bnas.torch_inside import AnyTransposedConv


class TensorByTensor(Optimizer):
    """An optimizer whose step moves each tensor on its own."""

    def move(self, weight: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        """Change a weight in place, by its gradient and the settings of its group."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; weights without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self.move(weight, weight.grad, group)
        return loss


class Bop(TensorByTensor):
    """Flip the sign of a weight when the average gradient pushes against it, strongly and for long enough.

    m <- (1 - adaptivity) m + adaptivity g;  w <- -w where |m| > threshold and sign(m) = sign(w).
    A weight keeps its magnitude, so that a binarizer with a scale from the weights keeps its scale.

    Args:
        params: weights behind binary ones.
        adaptivity: weight of the newest gradient in the average, gamma in the paper.
        threshold: of the average gradient, tau in the paper.
    Source: Helwegen et al., Latent Weights Do Not Exist: Rethinking Binarized Neural Network Optimization, 2019
        (arXiv:1906.02107), algorithm 1.
    """

    def __init__(self, params: Iterable[Tensor], *, adaptivity: float = 1e-3, threshold: float = 1e-6) -> None:
        super().__init__(params, {"adaptivity": adaptivity, "threshold": threshold})

    def move(self, weight: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        """Flip what is to be flipped."""
        state = self.state[weight]
        if "average" not in state:
            state["average"] = torch.zeros_like(weight)
        average = state["average"].lerp_(gradient, group["adaptivity"])
        against = (average.abs() > group["threshold"]) & (average * weight > 0)
        weight.mul_(torch.where(against, -1.0, 1.0).to(weight.dtype))


def make_optimizers(model: nn.Module, stage: Any) -> list[Optimizer]:
    """Return the stage's optimizers, which share the model's parameters out among them.

    Only weights of two or more dimensions decay, and of those behind binary ones only those with exact gradients.
    """
    latent = latent_weights(model) if stage.weights == "binary" else []
    if stage.optimizer == "bop":
        flipped = {id(parameter) for parameter in latent}
        others = [p for p in model.parameters() if id(p) not in flipped]
        own = [Bop(latent, adaptivity=stage.bop.adaptivity, threshold=stage.bop.threshold)] if latent else []
        return [*own, AdamW(_groups(others, stage, free=()), lr=stage.rate, fused=True)]
    groups = groups_of(model, stage)
    if stage.optimizer == "sgd":
        nesterov = stage.momentum > 0
        return [SGD(groups, lr=stage.rate, momentum=stage.momentum, nesterov=nesterov, fused=True)]
    return [AdamW(groups, lr=stage.rate, fused=True)]


def groups_of(model: nn.Module, stage: Any) -> list[dict[str, object]]:
    """Return the parameters of a model in groups for one optimizer: those that decay, and those that do not."""
    free = straight_through_weights(model) if stage.weights == "binary" else []
    return _groups(model.parameters(), stage, free=free)


def latent_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters behind binary weights."""
    return [weight for weight, _ in _binary_layers(model)]


def centrable_weights(model: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """Return the latent weights with several input channels, each with their dimension.

    Transposed convolutions, whose weights torch has the other way round, are not among them.
    """
    found = [(w, filter_dims(w)[0]) for w, layer in _binary_layers(model) if not isinstance(layer, AnyTransposedConv)]
    return [(weight, dim) for weight, dim in found if weight.shape[dim] > 1]


def straight_through_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the latent weights whose gradient is not exact: where these decay, bits flip for no reason."""
    return [weight for weight, module in _binary_layers(model) if not has_exact_gradient(module.weights)]


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the share of the rate at a step: a linear rise over the warm-up, then half a cosine down to nothing."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def set_rate(optimizers: Iterable[Optimizer], rate: float) -> None:
    """Give every parameter group that has a rate this one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if "lr" in group:
                group["lr"] = rate


def _binary_layers(model: nn.Module) -> list[tuple[nn.Parameter, LatentWeights]]:
    layers = [m for m in model.modules() if isinstance(m, LatentWeights) and m.has_binary_weights]
    return [(dict(layer.named_parameters(recurse=False))["weight"], layer) for layer in layers]


def _groups(parameters: Iterable[nn.Parameter], stage: Any, *, free: Iterable[nn.Parameter]) -> list[dict[str, object]]:
    """Return parameter groups: those that decay, and those that do not, `free` ones among them."""
    spared = {id(parameter) for parameter in free}
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in parameters:
        (decayed if parameter.ndim > 1 and id(parameter) not in spared else kept).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": stage.weight_decay}, {"params": kept, "weight_decay": 0.0}
    ]  # fmt: skip
    return [group for group in groups if group["params"]]
