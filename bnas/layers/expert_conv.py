"""A binary convolution that chooses, for each image, one of several filter banks."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.binarize import ELEMENTWISE_BACKWARD, activation_binarizer, weight_binarizer
from bnas.errors import SpecError
from bnas.layers.binary_conv import check_conv, describe_conv, effective_weight, fresh_alpha, fresh_latent, padded_conv

USAGE_MEMORY = 0.98  # share of the old average that a training batch keeps: about the last 50 batches count
ROOM = 2**24  # numbers that the weight gradients of single images may take up at a time

Parts = list[tuple[int, Tensor]]  # (expert, [images it won]) for each expert in use


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
        if self.training and len(x):
            self._count(winner)
        parts = _by_winner(winner, self.experts)
        return self._trained(x, share, parts) if torch.is_grad_enabled() else self._evaluated(x, parts)

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

    def _evaluated(self, x: Tensor, parts: Parts) -> Tensor:
        y = None
        for expert, images in parts:
            part = x.index_select(0, images)
            if self.precision == "binary":
                part = self.binarize_input(part)
            weight = self._effective(self.weight[expert])
            part = padded_conv(part, weight, stride=self.stride, groups=self.groups, pad_value=self.pad_value)
            y = _room_for(len(x), part) if y is None else y
            y.index_copy_(0, images, part)
        assert y is not None
        return y

    def _trained(self, x: Tensor, share: Tensor, parts: Parts) -> Tensor:
        if self.precision == "binary":
            x = self.binarize_input(x)
        # Frozen weights take part too: the gate's gradient needs to know how the filters follow from them.
        latent = self.weight if self.weight.requires_grad else self.weight.detach().requires_grad_()
        bank = self._effective(latent)
        slopes, directions = None, None
        if share.requires_grad and self.experts > 1:
            slopes, directions = self._directions(latent, bank)
        if torch.is_autocast_enabled(x.device.type):  # the hand-written backward pass needs one dtype throughout
            dtype = torch.get_autocast_dtype(x.device.type)
            x, bank = x.to(dtype), bank.to(dtype)
        geometry = _Geometry(bank.shape[-1], self.stride, self.groups, self.pad_value)
        y: Tensor = _ExpertConv.apply(x, bank, share, slopes, directions, parts, geometry)
        return y

    def _directions(self, latent: Tensor, bank: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return what turns gradients by an image's effective weights W_b into gradients by the choice of expert.

        With J the derivative of the winner's effective weights by its latent ones,
        dL/dphi[b, n] = <J^T dL/dW_b, weight[n]> = <dL/dW_b, J weight[n]>: products with fixed
        numbers, instead of a backward pass through the binarizer for each image.

        Returns: where J is diagonal, its diagonals and the latent weights, both in the shape of the bank;
            else None and J weight[n] for each winner e, [n, e, out, in / groups, kernel, kernel].
        """
        theta = latent.detach()
        if self.alpha is None or self.real_weights or self.weights in ELEMENTWISE_BACKWARD:
            (slopes,) = torch.autograd.grad(bank, latent, torch.ones_like(bank), retain_graph=True)
            return slopes, theta
        # J v is the gradient of <J^T u, v> by u, so a binarizer needs no forward-mode derivative of its own.
        point = theta.expand(len(theta), *theta.shape).clone().requires_grad_()
        value = self._effective(point)
        u = torch.zeros_like(value, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, point, u, create_graph=True)
        (moved,) = torch.autograd.grad(pulled, u, theta.unsqueeze(1).expand_as(point))
        return None, moved


def _by_winner(winner: Tensor, experts: int) -> Parts:
    """Return which images each expert in use won; an empty batch goes to the first expert."""
    counts = torch.bincount(winner, minlength=experts).tolist()
    order = torch.argsort(winner, stable=True)
    parts = [(expert, images) for expert, images in enumerate(order.split(counts)) if len(images)]
    return parts or [(0, order)]


def _room_for(images: int, part: Tensor) -> Tensor:
    """Return an empty tensor for this many images like those of part, in part's memory format."""
    nhwc = part.is_contiguous(memory_format=torch.channels_last) and not part.is_contiguous()
    form = torch.channels_last if nhwc else torch.contiguous_format
    return torch.empty((images, *part.shape[1:]), dtype=part.dtype, device=part.device, memory_format=form)


class _Geometry(NamedTuple):
    """How a convolution moves over an image."""

    kernel: int
    stride: int
    groups: int
    pad_value: int


class _ExpertConv(torch.autograd.Function):
    """The convolution of each image with its winner's filters, and the gradients that `ExpertConv` defines."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bank: Tensor,
        share: Tensor,
        slopes: Tensor | None,
        directions: Tensor | None,
        parts: Parts,
        geometry: _Geometry,
    ) -> Tensor:
        _kernel, stride, groups, pad_value = geometry
        inputs, y = [], None
        for expert, images in parts:
            part = x.index_select(0, images)
            inputs.append(part)
            part = padded_conv(part, bank[expert], stride=stride, groups=groups, pad_value=pad_value)
            y = _room_for(len(x), part) if y is None else y
            y.index_copy_(0, images, part)
        ctx.save_for_backward(bank, share, slopes, directions, *inputs)
        ctx.parts, ctx.geometry = parts, geometry
        assert y is not None
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        bank, share, slopes, directions, *inputs = ctx.saved_tensors
        by_x, by_bank, by_share = ctx.needs_input_grad[:3]
        grad_x = _room_for(len(grad), inputs[0]) if by_x else None
        grad_bank = torch.zeros_like(_tap_major(bank))
        grad_share = torch.zeros_like(share) if by_share else None
        slopes, directions = (
            None if each is None else _tap_major(each).to(grad.dtype) for each in (slopes, directions)
        )
        for (expert, images), x in zip(ctx.parts, inputs, strict=True):
            part = grad.index_select(0, images)
            if grad_x is not None:
                grad_x.index_copy_(0, images, _input_gradient(part, x, bank[expert], ctx.geometry))
            if not by_bank and directions is None:
                continue
            few = max(1, ROOM // bank[expert].numel())
            for which, some_grad, some_x in zip(images.split(few), part.split(few), x.split(few), strict=True):
                each = _image_gradients(some_grad, some_x, ctx.geometry)
                grad_bank[expert] += torch.bmm(each.new_ones(len(each), 1, len(which)), each).squeeze(1)
                if grad_share is None or directions is None:
                    continue
                toward = directions[:, expert] if slopes is None else directions
                along = each if slopes is None else each.mul_(slopes[expert].unsqueeze(1))
                gate = torch.bmm(along, toward.permute(1, 2, 0)).sum(0)
                grad_share.index_copy_(0, which, gate.to(share.dtype))
        return grad_x, _from_tap_major(grad_bank, bank) if by_bank else None, grad_share, None, None, None, None


def _tap_major(weight: Tensor) -> Tensor:
    """[..., out, in, kernel, kernel] -> [..., kernel * kernel, out * in]."""
    return weight.flatten(-2).movedim(-1, -3).flatten(-2).contiguous()


def _from_tap_major(numbers: Tensor, like: Tensor) -> Tensor:
    return numbers.unflatten(-1, like.shape[-4:-2]).movedim(-3, -1).reshape(like.shape)


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
    half = geometry.kernel // 2
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        [geometry.stride] * 2,
        [half] * 2,
        [1, 1],
        False,
        [0, 0],
        geometry.groups,
        [True, False, False],
    )
    return gradients[0]


def _image_gradients(grad: Tensor, x: Tensor, geometry: _Geometry) -> Tensor:
    """Return each image's own weight gradient [kernel * kernel, batch, out * in / groups].

    It is one batched product per tap of the kernel. In a padded image laid out pixel by pixel, what a
    tap meets is one contiguous window, if rows of the output are as long as those of the image; so
    the output's gradient gets columns of zeros, and no window is ever copied. With a stride, every
    stride-th row and column make an image of their own, and each tap looks into one of these.
    """
    kernel, stride, groups, pad_value = geometry
    batch, out, height, width = grad.shape
    reach = (kernel - 1) // stride  # pixels from the first to the last tap that look into the same image
    rows, columns, channels = height + reach, width + reach, x.shape[1] // groups
    half = kernel // 2
    right, below = columns * stride - half - x.shape[3], rows * stride - half - x.shape[2]
    x = F.pad(x, (half, right, half, below), value=float(pad_value))
    x = x.reshape(batch, groups, channels, rows, stride, columns, stride).permute(4, 6, 0, 1, 3, 5, 2)
    # The last windows run past the end, where the gradient is zero: numbers there must only be finite.
    flat = x.new_zeros(x.numel() + reach * channels)
    flat[: x.numel()].view(x.shape).copy_(x)
    images, image = batch * groups, rows * columns * channels
    grad = F.pad(grad, (0, reach)).reshape(images, out // groups, height * columns)
    each = grad.new_empty(kernel * kernel, images, out // groups, channels)
    for tap in range(kernel * kernel):
        i, j = divmod(tap, kernel)
        start = (i % stride * stride + j % stride) * images * image + (i // stride * columns + j // stride) * channels
        window = flat.as_strided((images, height * columns, channels), (image, channels, 1), start)
        torch.bmm(grad, window, out=each[tap])
    return each.view(kernel * kernel, batch, -1)
