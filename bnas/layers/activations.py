"""Activations with learned parameters: a PReLU that is quick on a CPU, and the sign and PReLU of ReActNet."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.binarize import activation_binarizer


class QuickSlope(torch.autograd.Function):
    """Forward: PReLU. Backward: its gradients by value and slope, without a full-size gradient for each slope."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(value, slope)
        return F.prelu(value, slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = ctx.saved_tensors
        grad = grad.to(value.dtype)  # of a real value autocast makes bfloat16
        by_slope = value.clamp_max(0).mul_(grad).sum((0, 2, 3))
        above: Tensor = torch.ops.aten.threshold_backward(grad, value, 0)
        return above.lerp_(grad, slope.view(-1, 1, 1)), by_slope


def prelu(value: Tensor, slope: Tensor) -> Tensor:
    """Return each value where it is above 0, else times the slope of its channel.

    The backward pass is a few quick ones; torch's own costs a third of a convolution's on a CPU.

    Args:
        value: [batch, channels, height, width].
        slope: [channels].
    """
    if value.device.type != "cpu" or torch.compiler.is_compiling():
        return F.prelu(value, slope)  # one kernel there
    y: Tensor = QuickSlope.apply(value, slope.to(value.dtype))
    return y


class PReLU(nn.PReLU):
    """y = x where x is above 0, else slope * x, with a learned slope for each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width] -> the same."""
        return prelu(x, self.weight)


class RSign(nn.Module):
    """y = sign(x - threshold), with a learned threshold per channel.

    After a batch norm it adds nothing, whose bias is that threshold; it is for a sign with none before it.

    Args:
        activations: name of the activation binarizer, whose gradient it has; the paper's is `polynomial`.
    Source: Liu et al., ReActNet, 2020 (arXiv:2003.03488), section 4.2.
    """

    def __init__(self, channels: int, *, activations: str = "polynomial") -> None:
        super().__init__()
        self.activations = activations
        self.binarize_input = activation_binarizer(activations)
        self.threshold = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width] -> the same, of -1 and +1."""
        return self.binarize_input(x - self.threshold.view(-1, 1, 1))


class RPReLU(nn.Module):
    """y = PReLU(x - before) + after, all three learned per channel.

    Source: Liu et al., ReActNet, 2020 (arXiv:2003.03488), section 4.2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.after = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width] -> the same."""
        bent = prelu(x - self.before.view(-1, 1, 1), self.slope)
        return bent.add_(self.after.view(-1, 1, 1))
