"""A convolution that binarizes its weights, or its weights and its input."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.binarize import (
    WeightBinarizer,
    activation_binarizer,
    at_binary_magnitude,
    filter_dims,
    is_annealed,
    weight_binarizer,
)
from bnas.errors import SpecError


class BinaryConv(nn.Module):
    """y = alpha * conv(binarize(x), binarize(weight)), with a learned alpha for each output channel.

    Precision `real` is a plain convolution without alpha, `weight` binarizes the weights only,
    `binary` the weights and the input. The input is padded after it is binarized.

    Attributes:
        weight: latent weights [out, in / groups, kernel, kernel].
        alpha: output scales [out], in the unit of weight; None when precision is `real`.
        real_weights: compute with the latent weights, at the magnitude of their binary form;
            for a stage of training where only activations are binary.
        real_inputs: compute with the input as it is, for a stage of training where nothing is binary yet.
        hardness: for an annealed weight binarizer, how close to binary it is in training mode; see `set_hardness`.
            Evaluation mode always computes with binary weights.

    Args:
        kernel: side in pixels, odd.
        precision: `real`, `weight` or `binary`.
        weights: name of a weight binarizer, or `pkg.mod:attr`.
        activations: name of an activation binarizer, or `pkg.mod:attr`.
        padding: pixels on each side; None for kernel // 2.
        pad_value: what surrounds a binary input: -1, 0 or +1; other precisions pad with 0.
    Raises:
        SpecError: the kernel is even, groups do not divide the channels, or a pad_value or precision is not allowed.
        LookupFailed: a binarizer has no such name.
    """

    hardness: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        precision: str = "binary",
        weights: str = "xnor",
        activations: str = "sign",
        pad_value: int = 0,
    ) -> None:
        super().__init__()
        check_conv(in_channels, out_channels, kernel, stride, groups, precision, pad_value)
        self.padding = kernel // 2 if padding is None else padding
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel, self.stride, self.groups = kernel, stride, groups
        self.precision, self.weights, self.activations = precision, weights, activations
        self.pad_value = pad_value
        self.binarize_weight = weight_binarizer(weights)
        self.binarize_input = activation_binarizer(activations)
        self.real_weights = self.real_inputs = False
        self.weight = nn.Parameter(fresh_latent(out_channels, in_channels // groups, kernel, kernel))
        self.alpha = None if precision == "real" else nn.Parameter(fresh_alpha(self.weight, self.binarize_weight))
        self.register_buffer("hardness", fresh_hardness(self.binarize_weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, height, width] -> [batch, out, (height + 2 padding - kernel) // stride + 1, width likewise]."""
        if self.precision == "binary" and not self.real_inputs:
            x = self.binarize_input(x)
        # alpha on the weights, not on the output: the same product, on far fewer numbers.
        binarize = at_hardness(self.binarize_weight, self.hardness) if self.training else self.binarize_weight
        weight = effective_weight(self.weight, self.alpha, binarize, real_weights=self.real_weights)
        return padded_conv(
            x, weight, stride=self.stride, padding=self.padding, groups=self.groups, pad_value=self.pad_value
        )

    def extra_repr(self) -> str:
        return describe_conv(self)


def check_conv(
    in_channels: int, out_channels: int, kernel: int, stride: int, groups: int, precision: str, pad_value: int
) -> None:
    """Raise SpecError unless the arguments describe a convolution that can be built and exported."""
    if min(in_channels, out_channels, kernel, stride, groups) < 1:
        raise SpecError(
            "convolution: channels, kernel, stride and groups must be positive, but got "
            f"{in_channels=}, {out_channels=}, {kernel=}, {stride=}, {groups=}"
        )
    if kernel % 2 == 0:
        raise SpecError(f"convolution: kernel must be odd, so that padding by half of it is even, but got {kernel}")
    if in_channels % groups or out_channels % groups:
        raise SpecError(
            f"convolution: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}; "
            "choose a common divisor"
        )
    if precision not in ("real", "weight", "binary"):
        raise SpecError(f"convolution: precision must be real, weight or binary, but got {precision!r}")
    if pad_value not in ((-1, 0, 1) if precision == "binary" else (0,)):
        raise SpecError(
            f"convolution: pad_value must be -1, 0 or 1 for a binary input and 0 for a real one, "
            f"but got {pad_value} with precision {precision!r}"
        )


def fresh_latent(*shape: int) -> Tensor:
    """Return new latent weights [..., out, in, kh, kw]: normal, variance 1 / fan-in, four deviations below 1 at most.

    Beyond 1 the straight-through gradient is zero, and a weight that starts there never moves.
    """
    return torch.randn(*shape) * min(math.prod(shape[-3:]) ** -0.5, 0.25)


def fresh_alpha(latent: Tensor, binarize: WeightBinarizer) -> Tensor:
    """Return the output scales [out] for which binarizing the weights keeps their mean magnitude.

    Where the binary weights of a filter are zero, as `xnor` has them for one of zeros, any scale does: 1.
    """
    with torch.no_grad():
        dims = filter_dims(latent)
        binary = binarize(latent).dense().abs().mean(dims)
        ratio = torch.where(binary == 0, 1, latent.abs().mean(dims) / binary)
    return ratio.reshape(-1, latent.shape[-4]).mean(0)


def fresh_hardness(binarize: WeightBinarizer) -> Tensor | None:
    """Return the hardness in which a binarizer trains unless told otherwise; None for one that is not annealed."""
    return torch.tensor(0.5) if is_annealed(binarize) else None


def at_hardness(binarize: WeightBinarizer, hardness: Tensor | None) -> WeightBinarizer:
    """Return the binarizer as it is in training, where an annealed one is not yet hard."""
    return binarize if hardness is None else partial(binarize, hardness=hardness)


def set_hardness(model: nn.Module, hardness: float) -> None:
    """Set how hard all annealed weight binarizers in a model are in training mode; the training loop raises it.

    From 0, where a filter is hardly changed or its gradient hardly bent, to 1 at the end. To measure
    how far the soft weights still are from the hard ones, put the model in evaluation mode and its
    binary convolutions alone in training mode.

    Raises:
        SpecError: hardness is not in [0, 1].
    """
    if not 0 <= hardness <= 1:
        raise SpecError(f"hardness must be in [0, 1], but got {hardness}")
    for module in model.modules():
        buffer = dict(module.named_buffers(recurse=False)).get("hardness")
        if buffer is not None:
            buffer.fill_(hardness)


def effective_weight(latent: Tensor, alpha: Tensor | None, binarize: WeightBinarizer, *, real_weights: bool) -> Tensor:
    """Return the weights that the convolution computes with, alpha included, in the shape of latent.

    Args:
        latent: [..., out, in, kh, kw].
        alpha: output scales [out], or None for a real layer, which computes with the latent weights.
    """
    if alpha is None:
        return latent
    binary = binarize(latent)
    alpha = alpha.view(-1, 1, 1, 1)
    if real_weights:
        return at_binary_magnitude(latent, binary.dense()) * alpha
    return binary.times(alpha).dense()


def padded_conv(
    x: Tensor, weight: Tensor, *, stride: int, groups: int, pad_value: int, padding: int | None = None
) -> Tensor:
    """Convolve after surrounding the images with pad_value; half a kernel of it unless told otherwise."""
    width = weight.shape[-1] // 2 if padding is None else padding
    if pad_value and width:
        x, width = F.pad(x, (width,) * 4, value=float(pad_value)), 0
    return F.conv2d(x, weight, stride=stride, padding=width, groups=groups)


def describe_conv(conv: nn.Module) -> str:
    """Return what `print(module)` shows of a convolution, in the words of its constructor."""
    names = ("kernel", "stride", "groups", "precision", "weights", "activations", "pad_value")
    settings = ", ".join(f"{name}={getattr(conv, name)!r}" for name in names)
    return f"{conv.in_channels}, {conv.out_channels}, {settings}"
