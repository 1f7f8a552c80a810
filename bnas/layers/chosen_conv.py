"""A convolution of each image with the filter bank chosen for it, and its gradients by images, banks and choice."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bnas.layers.binary_conv import padded_conv

NARROW = 32  # channels in a group up to which one convolution with a group for each image is faster on a CPU
ROOM = 2**24  # numbers that the weight gradients of single images may take up at a time

Parts = list[tuple[int, Tensor]]  # (expert, [images it won]) for each expert in use


def by_winner(winner: Tensor, experts: int) -> Parts:
    """Return which images each expert in use won; an empty batch goes to the first expert."""
    counts = torch.bincount(winner, minlength=experts).tolist()
    order = torch.argsort(winner, stable=True)
    parts = [(expert, images) for expert, images in enumerate(order.split(counts)) if len(images)]
    return parts or [(0, order)]


def room_for(images: int, part: Tensor) -> Tensor:
    """Return an empty tensor for this many images like those of part, in part's memory format."""
    nhwc = part.is_contiguous(memory_format=torch.channels_last) and not part.is_contiguous()
    form = torch.channels_last if nhwc else torch.contiguous_format
    return torch.empty((images, *part.shape[1:]), dtype=part.dtype, device=part.device, memory_format=form)


def taken(x: Tensor, images: Tensor) -> Tensor:
    """Return these images of x, in x's memory format, without a gradient."""
    return torch.index_select(x.detach(), 0, images, out=room_for(len(images), x))


class Geometry(NamedTuple):
    """How a convolution moves over an image."""

    kernel: int
    stride: int
    groups: int
    pad_value: int


class ChosenConv(torch.autograd.Function):
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
        geometry: Geometry,
    ) -> Tensor:
        _kernel, stride, groups, pad_value = geometry
        inputs, y = [], None
        for expert, images in parts:
            part = taken(x, images)
            inputs.append(part)
            part = padded_conv(part, bank[expert], stride=stride, groups=groups, pad_value=pad_value)
            y = room_for(len(x), part) if y is None else y
            y.index_copy_(0, images, part)
        ctx.save_for_backward(bank, share, slopes, directions, *inputs)
        ctx.parts, ctx.geometry = parts, geometry
        assert y is not None
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        bank, share, slopes, directions, *inputs = ctx.saved_tensors
        kernel, stride, groups, _pad_value = ctx.geometry
        by_x, by_bank, by_share = ctx.needs_input_grad[:3]
        narrow = grad.device.type == "cpu" and (bank.shape[2] <= NARROW or kernel == 1)
        image_gradients, taps = (_by_groups, 1) if narrow else (_by_windows, kernel * kernel)
        grad_x = room_for(len(grad), inputs[0]) if by_x else None
        grad_bank = torch.zeros_like(_arranged(bank, taps))
        grad_share = torch.zeros_like(share) if by_share else None
        slopes, directions = (
            None if numbers is None else _arranged(numbers, taps).to(grad.dtype) for numbers in (slopes, directions)
        )
        for (expert, images), x in zip(ctx.parts, inputs, strict=True):
            part = taken(grad, images)
            if grad_x is not None:
                grad_part, _ = _conv_backward(part, x, bank[expert], stride, kernel // 2, groups, (True, False))
                grad_x.index_copy_(0, images, grad_part)
            if not by_bank and directions is None:
                continue
            few = max(1, ROOM // bank[expert].numel())
            for which, some_grad, some_x in zip(images.split(few), part.split(few), x.split(few), strict=True):
                each = image_gradients(some_grad, some_x, ctx.geometry)
                grad_bank[expert] += torch.bmm(each.new_ones(taps, 1, len(which)), each).squeeze(1)
                if grad_share is None or directions is None:
                    continue
                toward = directions[:, expert] if slopes is None else directions
                along = each if slopes is None else each.mul_(slopes[expert].unsqueeze(1))
                gate = torch.bmm(along, toward.permute(1, 2, 0)).sum(0)
                grad_share.index_copy_(0, which, gate.to(share.dtype))
        return grad_x, _restored(grad_bank, bank) if by_bank else None, grad_share, None, None, None, None


def _arranged(weight: Tensor, taps: int) -> Tensor:
    """[..., out, in, kernel, kernel] -> [..., taps, numbers of a tap]; one tap may stand for the whole kernel."""
    if taps == 1:
        return weight.flatten(-4).unsqueeze(-2)
    return weight.flatten(-2).movedim(-1, -3).flatten(-2).contiguous()


def _restored(numbers: Tensor, like: Tensor) -> Tensor:
    if numbers.shape[-2] == 1:
        return numbers.view(like.shape)
    return numbers.unflatten(-1, like.shape[-4:-2]).movedim(-3, -1).reshape(like.shape)


def _conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, groups: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Return a convolution's gradients by x and by weight, of which only the wanted ones are tensors."""
    by_x, by_weight, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, [*wanted, False]
    )
    return by_x, by_weight


def _by_groups(grad: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """Return each image's own weight gradient [1, batch, out * in / groups * kernel * kernel].

    It is the weight gradient of one convolution in which every image has groups of its own.
    """
    kernel, stride, groups, pad_value = geometry
    batch, out, height, width = grad.shape
    half = kernel // 2
    if pad_value:
        x, half = F.pad(x, (half,) * 4, value=float(pad_value)), 0
    weight = x.new_empty(batch * out, x.shape[1] // groups, kernel, kernel)
    rows, grad = x.reshape(1, -1, *x.shape[2:]), grad.reshape(1, -1, height, width)
    _, each = _conv_backward(grad, rows, weight, stride, half, batch * groups, (False, True))
    return each.view(1, batch, -1)


def _by_windows(grad: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
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
