"""Real values -> their signs, with a clipped, polynomial or swish-like gradient in place of that of the step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnas.binarize.weight import BinaryWeight, one_scale

SWISH_STEEPNESS = 5.0  # beta of the swish gradient


class ClippedStraightThrough(torch.autograd.Function):
    """Forward: the signs given for the values. Backward: factor * gradient where |v| < 1, and zero elsewhere."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, signs: Tensor, factor: Tensor | None) -> Tensor:
        ctx.save_for_backward(value, factor)
        return signs.view_as(signs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        value, factor = ctx.saved_tensors
        grad = grad if factor is None else grad * factor
        # Hardtanh has this very gradient, in one pass and without a mask in memory.
        inside: Tensor = torch.ops.aten.hardtanh_backward(grad, value, -1.0, 1.0)
        return inside, None, None


def hard_sign(value: Tensor, cut: float | Tensor = 0.0) -> Tensor:
    """Return +1 where value >= cut and -1 elsewhere (NaN included), without a gradient, in value's dtype."""
    # torch.sign(0) is 0; a packed bit has no third value, so zero counts as +1.
    if torch.compiler.is_compiling():
        return torch.where(value.detach() >= cut, 1.0, -1.0).to(value.dtype)
    # Written to a float tensor, the comparison and the change from 0 to -1 are one fast pass each, where a compiler
    # would make one slow one of them.
    positive = torch.ge(value.detach(), cut, out=torch.empty_like(value, requires_grad=False))
    return torch.threshold_(positive, 0, -1)


def clipped(value: Tensor, signs: Tensor, *, factor: Tensor | None = None) -> Tensor:
    """Return the signs, with a gradient that passes to values |v| < 1, times the factor, and is zero elsewhere."""
    through: Tensor = ClippedStraightThrough.apply(value, signs, factor)
    return through


def clipped_sign(value: Tensor) -> Tensor:
    """Return the sign of each value, sign(0) = +1; the gradient passes unchanged where |v| < 1, is zero elsewhere.

    Source: Hubara et al., Binarized Neural Networks, 2016 (arXiv:1602.02830), section 1.3.
    """
    signs = hard_sign(value)
    return clipped(value, signs) if torch.is_grad_enabled() and value.requires_grad else signs


def sign(weight: Tensor) -> BinaryWeight:
    """Binarize each weight to its sign: scale 1, no offset; clipped straight-through gradient.

    Args:
        weight: latent weights [..., out, in, kh, kw] or [out, in], floating point.
    Raises:
        ShapeError: weight has no filter dimension, or no element.
    Source: Hubara et al., Binarized Neural Networks, 2016 (arXiv:1602.02830).
    """
    return BinaryWeight(clipped_sign(weight), one_scale(weight, 1.0))


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
