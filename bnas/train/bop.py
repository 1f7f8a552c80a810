"""Gradients -> flipped signs: an optimizer for binary weights that needs no latent values."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


class Bop(Optimizer):
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
                    self._flip(weight, group["adaptivity"], group["threshold"])
        return loss

    def _flip(self, weight: Tensor, adaptivity: float, threshold: float) -> None:
        state = self.state[weight]
        if "average" not in state:
            state["average"] = torch.zeros_like(weight)
        average = state["average"].lerp_(weight.grad, adaptivity)
        against = (average.abs() > threshold) & (average * weight > 0)
        weight.mul_(torch.where(against, -1.0, 1.0).to(weight.dtype))
