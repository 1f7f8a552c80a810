"""A binary convolution that chooses, for each image, one of several filter banks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.errors import SpecError
from bnas.layers.binary_conv import OddConv, Sides, padded_conv
from bnas.layers.chosen_conv import ExpertChoice, Geometry, all_at_once, by_expert, grouped_conv, learned_conv
from bnas.space.binarizer_traits import traits_of

USAGE_MEMORY = 0.98  # share of the old average that a training batch keeps: about the last 50 batches count


class ExpertConv(OddConv):
    """y = alpha * conv(binarize(x), binarize(weight[n])), where a gate picks the expert n for each image.

    The gate sees the real input: p = softmax(gate(global average pool of x)), n = argmax p.
    Backward, the choice is straight through to p. Only the winner's weights get a weight gradient.
    With theta_b the winner's latent weights for image b, the choice of expert n gets
    dL/dphi[b, n] = <dL/dtheta_b, weight[n]>.

    Attributes:
        weight: latent weights [experts, out, in / groups, kernel height, kernel width].
        alpha: output scales [out], one for all experts.
        gate: linear layer, in -> experts.
        usage: share of images that each expert won in about the last 50 training batches [experts].
        alone: the first expert takes every image, for the start of a training; it is then copied to the others.
        others: as in `BinaryLayer`.

    Args, Raises: as `BinaryConv`; SpecError also when experts is below 1.
    Source: Bulat, Martinez, Tzimiropoulos, High-Capacity Expert Binary Networks, 2021 (arXiv:2010.03558), section 4.1.
    """

    usage: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: Sides = 3,
        stride: int = 1,
        groups: int = 1,
        precision: str = "binary",
        weights: str = "xnor",
        activations: str = "sign",
        pad_value: int = 0,
        experts: int = 4,
    ) -> None:
        if experts < 1:
            raise SpecError(f"expert convolution: experts must be at least 1, but got {experts}")
        super().__init__(
            in_channels, out_channels, kernel=kernel, stride=stride, groups=groups, precision=precision,
            weights=weights, activations=activations, pad_value=pad_value, banks=(experts,),
        )  # fmt: skip
        self.experts, self.alone = experts, False
        self.gate = nn.Linear(in_channels, experts)
        self.register_buffer("usage", torch.full((experts,), 1 / experts), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, height, width] -> [batch, out, ceil(height / stride), ceil(width / stride)]."""
        if self.alone:
            return self._convolved(x, 0)
        share = F.softmax(self._logits(x), dim=1)
        winner = share.argmax(1)
        if self.training and torch.is_grad_enabled() and len(x):
            self._count(winner)
        if torch.is_grad_enabled() and share.requires_grad and self.experts > 1:
            # Its backward pass is by hand, and which images an expert gets is not known ahead. Not a decorator: that
            # loads the whole compiler wherever a layer is imported.
            learned = torch.compiler.disable(self._learned) if torch.compiler.is_compiling() else self._learned
            y: Tensor = learned(self.operand(x), share, winner)
            return y
        if len(x) > 1 and self.experts > 1 and all_at_once(x, self.weight, learning=False):
            filters = self.effective_weight(self.weight).index_select(0, winner)
            return grouped_conv(self.operand(x), filters, self._geometry())
        return by_expert(x, winner, self.experts, self._convolved)

    def expert_of(self, x: Tensor) -> Tensor:
        """Return the winning expert for each image of x [batch, in, height, width], as [batch] of int64."""
        if self.alone:
            return torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self._logits(x).argmax(1)

    def usage_entropy(self) -> Tensor:
        """Return the entropy of `usage` in bits: log2(experts) when all win equally often, 0 when one takes all."""
        return -torch.special.xlogy(self.usage, self.usage).sum() / torch.log(self.usage.new_tensor(2.0))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, experts={self.experts}"

    def _logits(self, x: Tensor) -> Tensor:
        # Not mean(): its backward pass writes a whole tensor, that of sum() a view.
        logits: Tensor = self.gate(x.sum((2, 3)) / (x.shape[2] * x.shape[3]))
        return logits

    def _count(self, winner: Tensor) -> None:
        won = torch.bincount(winner, minlength=self.experts).to(self.usage.dtype) / len(winner)
        self.usage.lerp_(won, 1 - USAGE_MEMORY)

    def _convolved(self, x: Tensor, expert: int) -> Tensor:
        x = self.operand(x)
        filters = self.effective_weight(self.weight[expert])  # of the banks in use alone: one image needs one
        return padded_conv(x, filters, stride=self.stride, groups=self.groups, pad_value=self.pad_value)

    def _learned(self, x: Tensor, share: Tensor, winner: Tensor) -> Tensor:
        # Frozen weights take part too: the gate's gradient needs to know how the filters follow from them.
        latent = self.weight if self.weight.requires_grad else self.weight.detach().requires_grad_()
        bank = self.effective_weight(latent)
        slopes, directions = self._directions(latent, bank)
        x, bank = _in_one_dtype(x, bank)
        return learned_conv(x, bank, ExpertChoice(winner, share, slopes, directions), self._geometry())

    def _geometry(self) -> Geometry:
        return Geometry(self.weight.shape[-2:], self.stride, self.groups, self.pad_value)

    def _directions(self, latent: Tensor, bank: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return what turns gradients by an image's effective weights W_b into gradients by the choice of expert.

        With J the derivative of the winner's effective weights by its latent ones,
        dL/dphi[b, n] = <J^T dL/dW_b, weight[n]> = <dL/dW_b, J weight[n]>: products with fixed
        numbers, instead of a backward pass through the binarizer for each image.

        Returns: where J is diagonal, its diagonals and the latent weights, both in the shape of the bank;
            else None and J weight[n] for each winner e, [n, e, out, in / groups, kernel height, kernel width].
        """
        theta = latent.detach()
        if self.alpha is None or self.real_weights or traits_of(self.weights).elementwise_backward:
            (slopes,) = torch.autograd.grad(bank, latent, torch.ones_like(bank), retain_graph=True)
            return slopes, theta
        point = theta.expand(len(theta), *theta.shape).clone().requires_grad_()
        return None, _moved(self.effective_weight(point), point, theta.unsqueeze(1).expand_as(point))


def _in_one_dtype(x: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the dtype of autocast, if any: a backward pass by hand does not change dtypes as it goes."""
    if not torch.is_autocast_enabled(x.device.type):
        return x, bank
    dtype = torch.get_autocast_dtype(x.device.type)
    return x.to(dtype), bank.to(dtype)


def _moved(value: Tensor, point: Tensor, direction: Tensor) -> Tensor:
    """Return the derivative of value along a direction of point; zero where value is hard and has none."""
    # J v is the gradient of <J^T u, v> by u, so a binarizer needs no forward-mode derivative of its own.
    if not value.requires_grad:
        return torch.zeros_like(direction)
    u = torch.zeros_like(value, requires_grad=True)
    (pulled,) = torch.autograd.grad(value, point, u, create_graph=True, allow_unused=True)
    if pulled is None:
        return torch.zeros_like(direction)
    return torch.autograd.grad(pulled, u, direction)[0]
