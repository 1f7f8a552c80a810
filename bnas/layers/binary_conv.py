"""A convolution that binarizes its weights, or its weights and its input."""

import torch.nn.functional as F
from torch import Tensor, nn

from bnas.errors import SpecError
from bnas.layers.binary_layer import BinaryLayer, check_precision, fresh_latent, shown_settings

Sides = int | tuple[int, int]  # of a kernel or a padding: one number for both, or height and width


class OddConv(BinaryLayer):
    """The geometry of a binary convolution with one filter bank or several: the kernel's sides are odd.

    The input is padded after it is binarized.

    Args:
        banks: how many filter banks, where the weight has a dimension for them; () where it has none.
        others: as in `BinaryConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: Sides,
        stride: int,
        groups: int,
        precision: str,
        weights: str,
        activations: str,
        pad_value: int,
        banks: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        check_conv(in_channels, out_channels, kernel, stride, groups)
        check_precision("convolution", precision, pad_value)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel, self.stride, self.groups, self.pad_value = kernel, stride, groups, pad_value
        self.weight = nn.Parameter(fresh_latent(*banks, out_channels, in_channels // groups, *both(kernel)))
        self.take_on(precision=precision, weights=weights, activations=activations)

    def extra_repr(self) -> str:
        names = ("kernel", "stride", "groups", "precision", "weights", "activations", "pad_value")
        return f"{self.in_channels}, {self.out_channels}, {shown_settings(self, *names)}"


class BinaryConv(OddConv):
    """y = alpha * conv(binarize(x), binarize(weight)), with a learned alpha for each output channel.

    Attributes:
        weight: latent weights [out, in / groups, kernel height, kernel width].
        others: as in `BinaryLayer`.

    Args:
        kernel: side in pixels, odd; or height and width.
        precision: `real`, `weight` or `binary`.
        weights: name of a weight binarizer, or `pkg.mod:attr`.
        activations: name of an activation binarizer, or `pkg.mod:attr`.
        padding: pixels on each side, or above and below, and beside; None for half the kernel.
        pad_value: what surrounds a binary input: -1, 0 or +1; other precisions pad with 0.
    Raises:
        SpecError: the kernel is even, groups do not divide the channels, or a pad_value or precision is not allowed.
        LookupFailed: a binarizer has no such name.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: Sides = 3,
        stride: int = 1,
        padding: Sides | None = None,
        groups: int = 1,
        precision: str = "binary",
        weights: str = "xnor",
        activations: str = "sign",
        pad_value: int = 0,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel=kernel, stride=stride, groups=groups, precision=precision,
            weights=weights, activations=activations, pad_value=pad_value,
        )  # fmt: skip
        self.padding = same_padding(kernel) if padding is None else both(padding)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, height, width] -> [batch, out, (height + 2 padding - kernel) // stride + 1, width likewise]."""
        x, weight = self.operand(x), self.binary_weight()
        return padded_conv(
            x, weight, stride=self.stride, padding=self.padding, groups=self.groups, pad_value=self.pad_value
        )


def both(sides: Sides) -> tuple[int, int]:
    """Return height and width of what is given as one number or as two."""
    return (sides, sides) if isinstance(sides, int) else sides


def same_padding(kernel: Sides) -> tuple[int, int]:
    """Return the padding above and below, and beside, that keeps the size of an image."""
    height, width = both(kernel)
    return height // 2, width // 2


def check_conv(in_channels: int, out_channels: int, kernel: Sides, stride: int, groups: int) -> None:
    """Raise SpecError unless the arguments are the geometry of a convolution that can be built and exported."""
    if min(in_channels, out_channels, *both(kernel), stride, groups) < 1:
        raise SpecError(
            "convolution: channels, kernel, stride and groups must be positive, but got "
            f"{in_channels=}, {out_channels=}, {kernel=}, {stride=}, {groups=}"
        )
    if any(side % 2 == 0 for side in both(kernel)):
        raise SpecError(f"convolution: kernel must be odd, so that padding by half of it is even, but got {kernel}")
    if in_channels % groups or out_channels % groups:
        raise SpecError(
            f"convolution: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}; "
            "choose a common divisor"
        )


def padded_conv(
    x: Tensor, weight: Tensor, *, stride: int, groups: int, pad_value: int, padding: tuple[int, int] | None = None
) -> Tensor:
    """Convolve after surrounding the images with pad_value; half a kernel of it unless told otherwise."""
    rows, columns = (weight.shape[-2] // 2, weight.shape[-1] // 2) if padding is None else padding
    if pad_value and (rows or columns):
        x, rows, columns = F.pad(x, (columns, columns, rows, rows), value=float(pad_value)), 0, 0
    return F.conv2d(x, weight, stride=stride, padding=(rows, columns), groups=groups)
