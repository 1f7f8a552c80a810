"""A binary convolution that chooses, for each image, one of several filter banks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.binarize import ELEMENTWISE_BACKWARD, activation_binarizer, weight_binarizer
from bnas.errors import SpecError
from bnas.layers.binary_conv import check_conv, describe_conv, effective_weight, fresh_alpha, fresh_latent

USAGE_MEMORY = 0.98  # share of the old average that a training batch keeps: about the last 50 batches count


class ExpertConv(nn.Module):
    """y = alpha * conv(binarize(x), binarize(weight[n])), where a gate picks the expert n for each image.

    The gate sees the real input: p = softmax(gate(global average pool of x)), n = argmax p.
    Backward, the choice is straight through to p. Only the winner's weights get a weight gradient.
    With theta_b the winner's latent weights for image b, the choice of expert n gets
    dL/dphi[b, n] = <dL/dtheta_b, weight[n]>.

    Attributes:
        weight: latent weights [experts, out, in / groups, kernel, kernel].
        alpha: output scales [out], one for all experts; None when precision is `real`.
        gate: linear layer, in -> experts.
        usage: share of images that each expert won in about the last 50 training batches [experts].
        real_weights: compute with the latent weights, as in `BinaryConv`.

    Args, Raises: as `BinaryConv`; SpecError also when experts is below 1.
    Source: Bulat, Martinez, Tzimiropoulos, High-Capacity Expert Binary Networks, 2021 (arXiv:2010.03558), section 4.1.
    """

    usage: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        precision: str = "binary",
        weights: str = "xnor",
        activations: str = "sign",
        pad_value: int = 0,
        experts: int = 4,
    ) -> None:
        super().__init__()
        check_conv(in_channels, out_channels, kernel, stride, groups, precision, pad_value)
        if experts < 1:
            raise SpecError(f"expert convolution: experts must be at least 1, but got {experts}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel, self.stride, self.groups = kernel, stride, groups
        self.precision, self.weights, self.activations = precision, weights, activations
        self.pad_value, self.experts = pad_value, experts
        self.binarize_weight = weight_binarizer(weights)
        self.binarize_input = activation_binarizer(activations)
        self.real_weights = False
        self.weight = nn.Parameter(fresh_latent(experts, out_channels, in_channels // groups, kernel, kernel))
        self.alpha = None if precision == "real" else nn.Parameter(fresh_alpha(self.weight, self.binarize_weight))
        self.gate = nn.Linear(in_channels, experts)
        self.register_buffer("usage", torch.full((experts,), 1 / experts), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, height, width] -> [batch, out, ceil(height / stride), ceil(width / stride)]."""
        share = F.softmax(self._logits(x), dim=1)
        winner = share.argmax(1)
        if self.training:
            self._count(winner)
        if self.precision == "binary":
            x = self.binarize_input(x)
        half = self.weight.shape[-1] // 2
        if half:
            x = F.pad(x, (half,) * 4, value=float(self.pad_value))
        bank = self._effective(self.weight)
        if torch.is_autocast_enabled(x.device.type):  # the hand-written backward pass needs one dtype throughout
            dtype = torch.get_autocast_dtype(x.device.type)
            x, bank = x.to(dtype), bank.to(dtype)
        if not (torch.is_grad_enabled() and (x.requires_grad or bank.requires_grad or share.requires_grad)):
            return _conv_by_winner(x, bank, winner, self.stride, self.groups)
        tangents = self._tangents() if share.requires_grad and len(bank) > 1 else None
        y: Tensor = _ExpertConv.apply(x, bank, share, winner, tangents, self.stride, self.groups)
        return y

    def expert_of(self, x: Tensor) -> Tensor:
        """Return the winning expert for each image of x [batch, in, height, width], as [batch] of int64."""
        return self._logits(x).argmax(1)

    def usage_entropy(self) -> Tensor:
        """Return the entropy of `usage` in bits: log2(experts) when all win equally often, 0 when one takes all."""
        return -torch.special.xlogy(self.usage, self.usage).sum() / torch.log(self.usage.new_tensor(2.0))

    def extra_repr(self) -> str:
        return f"{describe_conv(self)}, experts={self.experts}"

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.gate(x.mean((2, 3)))
        return logits

    def _count(self, winner: Tensor) -> None:
        won = torch.bincount(winner, minlength=self.experts).to(self.usage.dtype) / len(winner)
        self.usage.lerp_(won, 1 - USAGE_MEMORY)

    def _effective(self, latent: Tensor) -> Tensor:
        return effective_weight(latent, self.alpha, self.binarize_weight, real_weights=self.real_weights)

    def _tangents(self) -> Tensor:
        """Return how expert e's effective weights move when its latent weights move along expert n's.

        <dL/dtheta_b, weight[n]> is then <dL/dW_b, tangents[n, e]>, with W_b the effective weights
        of image b's winner e: one product with a fixed bank instead of a backward pass per image.

        Returns: [experts n, experts e, out, in / groups, kernel, kernel], without a gradient.
        """
        theta = self.weight.detach()
        with torch.enable_grad():
            if self.alpha is None or self.real_weights or self.weights in ELEMENTWISE_BACKWARD:
                point = theta.clone().requires_grad_()
                (slope,) = torch.autograd.grad(self._effective(point).sum(), point)
                return slope * theta.unsqueeze(1)
            point = theta.expand(len(theta), *theta.shape).clone().requires_grad_()
            value = self._effective(point)
            dual = torch.zeros_like(value, requires_grad=True)
            (pulled,) = torch.autograd.grad(value, point, dual, create_graph=True)
            (tangents,) = torch.autograd.grad(pulled, dual, theta.unsqueeze(1).expand_as(point))
            return tangents


def _conv_by_winner(x: Tensor, bank: Tensor, winner: Tensor, stride: int, groups: int) -> Tensor:
    """Convolve each padded image of x with its winner's filters: one plain convolution for each expert in use."""
    parts, order = _by_winner(winner, len(bank))
    y = [F.conv2d(x[index], bank[e], stride=stride, groups=groups) for e, index in parts]
    return torch.cat(y)[torch.argsort(order)]


def _by_winner(winner: Tensor, experts: int) -> tuple[list[tuple[int, Tensor]], Tensor]:
    """Return (expert, [images it won]) for each expert in use, and all images in that order."""
    order = torch.argsort(winner, stable=True)
    counts = torch.bincount(winner, minlength=experts).tolist()
    return [(e, index) for e, index in enumerate(order.split(counts)) if len(index)], order


class _ExpertConv(torch.autograd.Function):
    """The convolution of each image with its winner's filters, and the gradients that `ExpertConv` defines."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bank: Tensor,
        share: Tensor,
        winner: Tensor,
        tangents: Tensor | None,
        stride: int,
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(x, bank, winner, tangents)
        ctx.share, ctx.stride, ctx.groups = (share.shape, share.dtype), stride, groups
        return _conv_by_winner(x, bank, winner, stride, groups)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, bank, winner, tangents = ctx.saved_tensors
        need_x, need_bank, need_share = ctx.needs_input_grad[:3]
        shape, dtype = ctx.share
        grad_x = torch.empty_like(x) if need_x else None
        grad_bank = torch.zeros_like(bank) if need_bank else None
        grad_share = grad.new_zeros(shape) if need_share else None
        for e, index in _by_winner(winner, len(bank))[0]:
            inputs, grads = x[index], grad[index]
            if grad_x is not None:
                grad_x[index] = _input_gradient(grads, inputs, bank[e], ctx.stride, ctx.groups)
            if grad_bank is None and tangents is None:
                continue
            per_image = _weight_gradients(grads, inputs, bank.shape[-1], ctx.stride, ctx.groups)
            if grad_bank is not None:
                grad_bank[e] = per_image.sum(0).view_as(bank[e])
            if grad_share is not None and tangents is not None:
                grad_share[index] = per_image.flatten(1) @ tangents[:, e].flatten(1).to(grad.dtype).T
        return grad_x, grad_bank, grad_share if grad_share is None else grad_share.to(dtype), None, None, None, None


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """Return the gradient of a convolution without padding with respect to its input x."""
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], groups, [True, False, False]
    )
    return gradients[0]


def _weight_gradients(grad: Tensor, x: Tensor, kernel: int, stride: int, groups: int) -> Tensor:
    """Return each image's own weight gradient [batch, groups, out / groups, in / groups * kernel * kernel]."""
    batch, out, height, width = grad.shape
    # A strided convolution may leave a margin of x unread, which unfold would count as one more position.
    x = x[:, :, : (height - 1) * stride + kernel, : (width - 1) * stride + kernel]
    columns = F.unfold(x, kernel, stride=stride).view(batch, groups, -1, height * width)
    return grad.reshape(batch, groups, out // groups, height * width) @ columns.transpose(-1, -2)
