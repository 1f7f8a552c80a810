"""A convolution of each image with the filter bank chosen for it, and its gradients by images, banks and choice.

Two ways, each ahead of the other for its shapes on a CPU. `all_at_once`: one convolution in which every image has
groups of its own; where groups are narrow it keeps the speed of a plain one. `by_expert`: one plain convolution for the
images of each expert; in learning, image by image gradients as batched products.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bnas.layers.binary_conv import padded_conv

NARROW = 32  # channels in a group up to which all at once is the faster way to learn
NARROWER = 16  # the same for the output alone
ROOM = 2**24  # numbers that filters, or their gradients, of single images may take up at a time


class Geometry(NamedTuple):
    """How a convolution moves over an image."""

    kernel: tuple[int, ...]  # height and width
    stride: int
    groups: int
    pad_value: int


class ExpertChoice(NamedTuple):
    """What chose each image's filter bank, and how its gradient is found; see `ExpertConv`.

    winner [batch]; share [batch, experts]; slopes like the bank, or None; directions like the bank,
    or where slopes is None one bank for each expert n and winner e, [n, e, ...].
    """

    winner: Tensor
    share: Tensor
    slopes: Tensor | None
    directions: Tensor


def by_expert(x: Tensor, winner: Tensor, experts: int, convolve: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return all images as `convolve` makes them, which is given some images and the expert that won them.

    What is returned has the memory format of x.
    """
    parts = _by_winner(winner, experts)
    if len(parts) == 1:
        return convolve(x, parts[0][0])
    y = None
    for expert, images in parts:  # what one needs is small, and stays in the cache
        part = convolve(_some(x, images), expert)
        y = _room_for(len(x), part, like=x) if y is None else y
        y.index_copy_(0, images, part)
    assert y is not None
    return y


def learned_conv(x: Tensor, bank: Tensor, choice: ExpertChoice, geometry: Geometry) -> Tensor:
    """Convolve each image with its winner's filters; `choice.share` gets the gradient of the choice."""
    if all_at_once(x, bank, learning=True):
        return grouped_conv(x, ChosenFilters.apply(bank, choice.share, choice), geometry)
    y: Tensor = ChosenConv.apply(x, bank, choice.share, choice, geometry)
    return y


def all_at_once(x: Tensor, bank: Tensor, *, learning: bool) -> bool:
    """Return whether one convolution with a group for each image is the faster way: where groups are narrow."""
    narrow = bank.shape[2] <= (NARROW if learning else NARROWER)
    fits = 0 < len(x) * bank[0].numel() <= ROOM
    return x.device.type == "cpu" and x.is_contiguous() and narrow and fits


def grouped_conv(x: Tensor, filters: Tensor, geometry: Geometry) -> Tensor:
    """Convolve image b of x with filters[b], in one convolution."""
    many = geometry._replace(groups=len(x) * geometry.groups)
    y = _conv(x.reshape(1, -1, *x.shape[2:]), filters.flatten(0, 1), many)
    return y.view(len(x), -1, *y.shape[2:])


class ChosenFilters(torch.autograd.Function):
    """Forward: each image's filters. Backward: gradients by bank and choice from those by each image's filters."""

    @staticmethod
    def forward(ctx: Any, bank: Tensor, share: Tensor, choice: ExpertChoice) -> Tensor:
        ctx.save_for_backward(choice.winner, choice.slopes, choice.directions)
        ctx.share_dtype, ctx.bank_shape = share.dtype, bank.shape
        return bank.index_select(0, choice.winner)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        winner, slopes, directions = ctx.saved_tensors
        rows = grad.flatten(1)
        won = F.one_hot(winner, len(directions)).to(rows.dtype)
        grad_bank = (won.T @ rows).view(ctx.bank_shape)
        # Of every pair of expert and winner: slopes times gradients of each image would be far more numbers.
        toward = directions if slopes is None else directions.unsqueeze(1) * slopes
        gate = torch.einsum("bf,nef,be->bn", rows, toward.to(rows.dtype).flatten(2), won)
        return grad_bank, gate.to(ctx.share_dtype), None


class ChosenConv(torch.autograd.Function):
    """The convolution by experts, with gradients by x, bank and choice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bank: Tensor, share: Tensor, choice: ExpertChoice, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, bank, *choice)
        ctx.geometry = geometry
        return by_expert(x, choice.winner, len(bank), lambda some, expert: _conv(some, bank[expert], geometry))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, bank, winner, share, slopes, directions = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        taps = math.prod(geometry.kernel)
        slopes = None if slopes is None else _tap_major(slopes).to(grad.dtype)
        directions = _tap_major(directions).to(grad.dtype)
        grad_x = _room_for(len(x), x, like=x) if ctx.needs_input_grad[0] else None
        grad_bank = bank.new_zeros(len(bank), taps, bank[0].numel() // taps)
        grad_share = torch.zeros_like(share)
        few = max(1, ROOM // bank[0].numel())
        for expert, images in _by_winner(winner, len(bank)):
            toward = (directions[:, expert] if slopes is None else directions).permute(1, 2, 0)
            for some in images.split(few):
                some_x, some_grad = _some(x, some), _some(grad, some)
                if grad_x is not None:
                    grad_x.index_copy_(0, some, _input_gradient(some_grad, some_x, bank[expert], geometry))
                each = _image_gradients(some_grad, some_x, geometry)
                grad_bank[expert] += torch.bmm(each.new_ones(taps, 1, len(some)), each).squeeze(1)
                along = each if slopes is None else each.mul_(slopes[expert].unsqueeze(1))
                grad_share.index_copy_(0, some, torch.bmm(along, toward).sum(0).to(share.dtype))
        return (
            grad_x,
            grad_bank.unflatten(-1, bank.shape[1:3]).movedim(1, -1).reshape(bank.shape),
            grad_share,
            None,
            None,
        )


def _conv(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    return padded_conv(x, weight, stride=geometry.stride, groups=geometry.groups, pad_value=geometry.pad_value)


def _by_winner(winner: Tensor, experts: int) -> list[tuple[int, Tensor]]:
    """Return (expert, [images it won]) for each expert in use; an empty batch goes to the first."""
    counts = torch.bincount(winner, minlength=experts).tolist()
    order = torch.argsort(winner, stable=True)
    parts = [(expert, images) for expert, images in enumerate(order.split(counts)) if len(images)]
    return parts or [(0, order)]


def _some(x: Tensor, images: Tensor) -> Tensor:
    """Return these images, in x's memory format."""
    return x.index_select(0, images) if x.is_contiguous() else x[images]


def _room_for(images: int, part: Tensor, *, like: Tensor) -> Tensor:
    """Return an empty tensor for this many images as part has them, in the memory format of another."""
    nhwc = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    form = torch.channels_last if nhwc else torch.contiguous_format
    return torch.empty((images, *part.shape[1:]), dtype=part.dtype, device=part.device, memory_format=form)


def _tap_major(weight: Tensor) -> Tensor:
    """[..., out, in, height, width] -> [..., height * width, out * in]."""
    return weight.flatten(-2).movedim(-1, -3).flatten(-2).contiguous()


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient of a convolution by its input."""
    half, stride = [side // 2 for side in geometry.kernel], geometry.stride
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, half, [1, 1], False, [0, 0], geometry.groups, [True, False, False]
    )
    return gradients[0]


def _image_gradients(grad: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """Return each image's own weight gradient [kernel height * width, batch, out * in / groups].

    It is one batched product per tap of the kernel. In a padded image laid out pixel by pixel, what a
    tap meets is one contiguous window, if rows of the output are as long as those of the image; so
    the output's gradient gets columns of zeros, and no window is ever copied. With a stride, every
    stride-th row and column make an image of their own, and each tap looks into one of these.
    """
    (tall, wide), stride, groups, pad_value = geometry
    batch, out, height, width = grad.shape
    down, reach = (tall - 1) // stride, (wide - 1) // stride  # pixels between the taps that look into the same image
    rows, columns, channels = height + down, width + reach, x.shape[1] // groups
    above, left = tall // 2, wide // 2
    right, below = columns * stride - left - x.shape[3], rows * stride - above - x.shape[2]
    x = F.pad(x, (left, right, above, below), value=float(pad_value))
    x = x.reshape(batch, groups, channels, rows, stride, columns, stride).permute(4, 6, 0, 1, 3, 5, 2)
    # The last windows run past the end, where the gradient is zero: numbers there must only be finite.
    flat = x.new_zeros(x.numel() + reach * channels)
    flat[: x.numel()].view(x.shape).copy_(x)
    images, image = batch * groups, rows * columns * channels
    grad = F.pad(grad, (0, reach)).reshape(images, out // groups, height * columns)
    each = grad.new_empty(tall * wide, images, out // groups, channels)
    for tap in range(tall * wide):
        i, j = divmod(tap, wide)
        start = (i % stride * stride + j % stride) * images * image + (i // stride * columns + j // stride) * channels
        window = flat.as_strided((images, height * columns, channels), (image, channels, 1), start)
        torch.bmm(grad, window, out=each[tap])
    return each.view(tall * wide, batch, -1)
