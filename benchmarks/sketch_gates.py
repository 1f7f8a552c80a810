"""Gates that use their experts more evenly than the published one, to be compared with it in `sketches.py`.

Behind a batch norm the average of a channel over an image hardly varies between images, so that a linear gate picks the
same expert for nearly all of them. Both gates here hardly do so, and add no loss; at inference both are linear.
"""

import torch
from torch import Tensor, nn

from bnas.layers import ExpertConv

PUSH = 0.01  # by which a logit moves in a step towards the choice of each expert as often as the others


class StandardisedGate(nn.Module):
    """A linear gate of channels that have mean 0 and deviation 1 over the images."""

    def __init__(self, gate: nn.Linear) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(gate.in_features, affine=False), gate

    def forward(self, seen: Tensor) -> Tensor:
        """[batch, channels] -> logits [batch, experts]."""
        y: Tensor = self.linear(self.norm(seen))
        return y


class BalancedGate(StandardisedGate):
    """The same, with a bias that is not learned: it falls for experts that win too often, and rises for the others.

    Source: Wang et al., Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts, 2024 (arXiv:2408.15664).
    """

    push: Tensor

    def __init__(self, gate: nn.Linear) -> None:
        super().__init__(gate)
        self.register_buffer("push", torch.zeros(gate.out_features))

    def forward(self, seen: Tensor) -> Tensor:
        logits = super().forward(seen) + self.push
        if self.training:
            won = torch.bincount(logits.argmax(1), minlength=len(self.push)) / len(logits)
            self.push.add_(PUSH * torch.sign(1 / len(self.push) - won))
        return logits


GATES: dict[str, type[StandardisedGate]] = {
    "standardised gate": StandardisedGate, "balanced gate": BalancedGate
}  # fmt: skip


def with_gates(network: nn.Module, kind: type[StandardisedGate] | None) -> nn.Module:
    """Return the network with gates of a kind in place of the linear ones; None leaves them."""
    for layer in network.modules():
        if kind and isinstance(layer, ExpertConv) and isinstance(layer.gate, nn.Linear):
            layer.gate = kind(layer.gate)  # type: ignore[assignment]
    return network
