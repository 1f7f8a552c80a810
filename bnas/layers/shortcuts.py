"""What goes round a convolution. Constructors take plain values, which exports can print."""

from torch import Tensor, nn

from bnas.layers.activations import PReLU
from bnas.layers.conv_norm import ConvNorm


class CeilingPool(nn.AvgPool2d):
    """Average pooling whose size after a stride is rounded up, as a same-padded convolution's is."""

    def __init__(self, stride: int) -> None:
        super().__init__(stride, stride, ceil_mode=True)


class CeilingMaxPool(nn.MaxPool2d):
    """Max pooling whose size after a stride is rounded up, as a same-padded convolution's is."""

    def __init__(self, stride: int) -> None:
        super().__init__(stride, stride, ceil_mode=True)


def pooling(stride: int, *, pool: str) -> nn.Module:
    """Return what takes a stride, by the `average` or by the `max`; nothing where there is none."""
    if stride == 1:
        return nn.Identity()
    return CeilingMaxPool(stride) if pool == "max" else CeilingPool(stride)


class RepeatShortcut(nn.Module):
    """A pool, then the channels over again until there are enough: no parameters, no MACs."""

    def __init__(self, out_channels: int, stride: int, *, pool: str = "average") -> None:
        super().__init__()
        self.out_channels = out_channels
        self.pool = pooling(stride, pool=pool)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        times = -(-self.out_channels // x.shape[1])
        return x.repeat(1, times, 1, 1)[:, : self.out_channels] if times > 1 else x[:, : self.out_channels]


class ConvShortcut(nn.Module):
    """A pool, then a real 1x1 convolution and batch norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, pool: str = "average") -> None:
        super().__init__()
        self.pool = pooling(stride, pool=pool)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(self.pool(x)))
        return y


class BottleneckShortcut(nn.Module):
    """A pool, then two real 1x1 convolutions through fewer channels, each with batch norm and PReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, *, reduction: int, pool: str = "average"
    ) -> None:
        super().__init__()
        hidden = max(1, in_channels // reduction)
        self.pool = pooling(stride, pool=pool)
        self.reduce = ConvNorm(in_channels, hidden, act=PReLU(hidden))
        self.expand = ConvNorm(hidden, out_channels, act=PReLU(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.expand(self.reduce(self.pool(x)))
        return y


def shortcut(
    in_channels: int, out_channels: int, stride: int, *, kind: str, reduction: int, pool: str = "average"
) -> nn.Module:
    """Return what goes round a convolution; nothing at all where neither channels nor size change."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    if kind == "repeat":
        return RepeatShortcut(out_channels, stride, pool=pool)
    if kind == "conv":
        return ConvShortcut(in_channels, out_channels, stride, pool=pool)
    return BottleneckShortcut(in_channels, out_channels, stride, reduction=reduction, pool=pool)
