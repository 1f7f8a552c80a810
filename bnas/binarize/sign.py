"""Real values -> their signs, with the clipped straight-through gradient."""

from typing import Any

import torch
from torch import Tensor

from bnas.binarize.weight import BinaryWeight, one_scale


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
