"""The activations of ReActNet: a sign with a learned threshold, and a PReLU that shifts what comes in and goes out."""

import torch
from torch import Tensor, nn

from bnas.binarize import activation_binarizer
from bnas.layers.prelu import prelu


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
