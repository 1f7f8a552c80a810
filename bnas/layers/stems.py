"""The layers that see the image, of each kind. Constructors take plain values, which exports can print."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.layers.binary_conv import BinaryConv, Sides
from bnas.layers.conv_norm import ConvNorm


class BranchedStem(nn.Module):
    """The stem of the expert network: total stride 4.

    Source: Bulat et al., High-Capacity Expert Binary Networks, 2021 (arXiv:2010.03558), section 4.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        self.first = ConvNorm(in_channels, half, kernel=3, stride=2, act=nn.ReLU())
        self.branch = nn.Sequential(
            ConvNorm(half, quarter, act=nn.ReLU()), ConvNorm(quarter, half, kernel=3, stride=2, act=nn.ReLU())
        )
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.join = ConvNorm(width, width, act=nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y: Tensor = self.join(torch.cat((self.branch(x), self.pool(x)), 1))
        return y


class SpaceToDepthStem(ConvNorm):
    """The pixels of each block become channels of one, then a real convolution: each pixel is read without overlap.

    [batch, in, height, width] -> [batch, width, ceil(height / block), ceil(width / block)]; blocks over the edge are
    filled with zeros.
    """

    def __init__(self, in_channels: int, width: int, *, kernel: Sides, block: int) -> None:
        super().__init__(in_channels * block**2, width, kernel=kernel, act=nn.ReLU())
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        below, beside = (-side % self.block for side in x.shape[2:])
        whole = F.pad(x, (0, beside, 0, below)) if below or beside else x
        return super().forward(F.pixel_unshuffle(whole, self.block))


class Thermometer(nn.Module):
    """Each value above each of some thresholds: channels over again, less a threshold that each of them learns.

    The signs of what it gives are the code. The thresholds begin where they cut values of mean 0 and variance 1, as
    normalised pixels are, into equal shares.

    Source: Zhang et al., FracBNN, 2021 (arXiv:2012.12206), whose thresholds are fixed.
    """

    def __init__(self, in_channels: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        shares = torch.arange(1, levels + 1) / (levels + 1)
        self.threshold = nn.Parameter(torch.special.ndtri(shares).repeat_interleave(in_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, height, width] -> [batch, levels * in, height, width]."""
        return x.repeat(1, self.levels, 1, 1) - self.threshold.view(-1, 1, 1)


class ThermometerStem(nn.Module):
    """The bits of a thermometer, a binary convolution of them, batch norm, ReLU."""

    def __init__(
        self, in_channels: int, width: int, *, levels: int, kernel: Sides, stride: int, weights: str, activations: str,
        pad_value: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.thresholds = Thermometer(in_channels, levels)
        self.conv = BinaryConv(
            in_channels * levels, width, kernel=kernel, stride=stride, weights=weights, activations=activations,
            pad_value=pad_value,
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(self.conv(self.thresholds(x))))
        return y


def stem(
    in_channels: int,
    width: int,
    *,
    kind: str,
    kernel: Sides,
    stride: int,
    levels: int = 1,
    weights: str = "xnor",
    activations: str = "sign",
    pad_value: int = 0,
) -> nn.Module:
    """Return the layers that see the image; all that comes after the stride is for a thermometer."""
    if kind == "branched":
        return BranchedStem(in_channels, width)
    if kind == "space_to_depth":
        return SpaceToDepthStem(in_channels, width, kernel=kernel, block=stride)
    if kind == "thermometer":
        return ThermometerStem(
            in_channels, width, levels=levels, kernel=kernel, stride=stride, weights=weights, activations=activations,
            pad_value=pad_value,
        )  # fmt: skip
    return ConvNorm(in_channels, width, kernel=kernel, stride=stride, act=nn.ReLU())
