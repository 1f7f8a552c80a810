"""Activations -> their signs, with gradients that approximate the step better than the clipped identity does."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnas.binarize.sign import hard_sign

SWISH_STEEPNESS = 5.0  # beta of the swish gradient


class ApproximateSign(torch.autograd.Function):
    """Forward: the sign. Backward: the gradient times a given function of the value."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(value)
        ctx.slope = slope
        return hard_sign(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (value,) = ctx.saved_tensors
        return grad * ctx.slope(value), None


def polynomial_sign(value: Tensor) -> Tensor:
    """Return the sign of each value, sign(0) = +1; gradient 2 - 2 |v| where |v| < 1, zero elsewhere.

    It is the gradient of a piecewise polynomial: 2 v + v^2 below zero, 2 v - v^2 above.
    Source: Liu et al., Bi-Real Net, 2018 (arXiv:1808.00278), section 3.2.
    """
    signs: Tensor = ApproximateSign.apply(value, polynomial_slope)
    return signs


def swish_sign(value: Tensor) -> Tensor:
    """Return the sign of each value, sign(0) = +1; gradient beta (2 - z tanh(z / 2)) / (1 + cosh z), z = beta v.

    Beta is 5. It is the gradient of 2 sigmoid(z) (1 + z (1 - sigmoid(z))) - 1: beta at zero, below zero far from it.
    Source: Darabi et al., BNN+: Improved Binary Network Training, 2018 (arXiv:1812.11800), section 3.1.
    """
    signs: Tensor = ApproximateSign.apply(value, swish_slope)
    return signs


def polynomial_slope(value: Tensor) -> Tensor:
    """Return the gradient of `polynomial_sign`."""
    return value.abs().neg_().add_(1).clamp_min_(0).mul_(2)


def swish_slope(value: Tensor) -> Tensor:
    """Return the gradient of `swish_sign`."""
    # 1 / (1 + cosh z) = (1 - tanh(z / 2)^2) / 2, which does not overflow; at 50 it has long been zero.
    z = (SWISH_STEEPNESS * value).clamp_(-50, 50)
    t = (z / 2).tanh_()
    return (SWISH_STEEPNESS / 2) * (1 - t * t) * (2 - z * t)
