"""The parts of a network: stem, block, shortcuts, head. Constructors take plain values, which exports can print."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.layers.activations import PReLU, RPReLU
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.expert_conv import ExpertConv


class ConvNorm(nn.Module):
    """A real convolution, batch norm, and an activation."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y


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

    def __init__(self, in_channels: int, width: int, *, kernel: int, block: int) -> None:
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
        self, in_channels: int, width: int, *, levels: int, kernel: int, stride: int, weights: str, activations: str,
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
    kernel: int,
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


class SqueezeExcite(nn.Module):
    """sigmoid(expand(relu(squeeze(global average pool of x)))), one factor for each output channel and image."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = max(1, out_channels // 8)
        self.squeeze = nn.Linear(in_channels, hidden, bias=False)
        self.expand = nn.Linear(hidden, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, height, width] -> [batch, out, 1, 1]."""
        y: Tensor = self.expand(F.relu(self.squeeze(x.mean((2, 3)))))
        return y.sigmoid()[:, :, None, None]


class ConvUnit(nn.Module):
    """Batch norm, binary convolution with its alpha, squeeze-excite, PReLU (or ReActNet's, or none), and a shortcut.

    With `downsample="max_pool"` the convolution sees every pixel, and a max pooling right behind it takes the stride:
    it chooses among sums, which no sign has made alike yet, and what comes after has fewer pixels to do.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        groups: int,
        experts: int,
        precision: str,
        shortcut_kind: str,
        reduction: int,
        squeeze_excite: bool,
        weights: str,
        activations: str,
        pad_value: int,
        prelu: bool,
        downsample: str,
        shortcut_pool: str,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.pool = CeilingMaxPool(stride) if downsample == "max_pool" and stride > 1 else None
        step = 1 if self.pool else stride
        pad_value = pad_value if precision == "binary" else 0  # a real input is padded with the value that adds nothing
        if experts == 1:
            self.conv: nn.Module = BinaryConv(
                in_channels, out_channels, kernel=kernel, stride=step, groups=groups, precision=precision,
                weights=weights, activations=activations, pad_value=pad_value,
            )  # fmt: skip
        else:
            self.conv = ExpertConv(
                in_channels, out_channels, kernel=kernel, stride=step, groups=groups, precision=precision,
                weights=weights, activations=activations, pad_value=pad_value, experts=experts,
            )  # fmt: skip
        self.excite = SqueezeExcite(in_channels, out_channels) if squeeze_excite else None
        bent: nn.Module = RPReLU(out_channels) if activations == "react" else PReLU(out_channels)
        self.act = bent if prelu else nn.Identity()
        self.shortcut = shortcut(
            in_channels, out_channels, stride, kind=shortcut_kind, reduction=reduction, pool=shortcut_pool
        )

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        y = self.conv(normed)
        if self.pool is not None:
            y = self.pool(y)
        if self.excite is not None:
            y = y * self.excite(normed)
        # In place: memory that is new to the process takes longer to get than the sum to write.
        z: Tensor = self.act(y).add_(self.shortcut(x))
        return z


class Block(nn.Module):
    """A unit, and where its groups keep channels apart and `mixed` is true, a 1x1 unit without groups to mix them.

    [batch, in, height, width] -> [batch, out, ceil(height / stride), ceil(width / stride)].
    Source: Bulat et al., High-Capacity Expert Binary Networks, 2021 (arXiv:2010.03558), section 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        experts: int = 1,
        precision: str = "binary",
        shortcut_kind: str = "repeat",
        reduction: int = 4,
        squeeze_excite: bool = False,
        mixed: bool = True,
        weights: str = "xnor",
        activations: str = "sign",
        pad_value: int = 0,
        prelu: bool = True,
        downsample: str = "conv",
        shortcut_pool: str = "average",
    ) -> None:
        super().__init__()

        def unit(ins: int, kernel: int, stride: int, groups: int) -> ConvUnit:
            return ConvUnit(
                ins, out_channels, kernel=kernel, stride=stride, groups=groups, experts=experts, precision=precision,
                shortcut_kind=shortcut_kind, reduction=reduction, squeeze_excite=squeeze_excite,
                weights=weights, activations=activations, pad_value=pad_value, prelu=prelu, downsample=downsample,
                shortcut_pool=shortcut_pool,
            )  # fmt: skip

        self.main = unit(in_channels, kernel, stride, groups)
        self.mix = unit(out_channels, 1, 1, 1) if groups > 1 and mixed else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.main(x)
        return x if self.mix is None else self.mix(x)


class Head(nn.Module):
    """Batch norm, global average pool, classifier: [batch, width, height, width] -> logits [batch, classes]."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(self.norm(x).mean((2, 3)))
        return y


class Network(nn.Module):
    """Stem, stages of blocks, head: images [batch, channels, height, width] -> logits [batch, classes]."""

    def __init__(self, stem: nn.Module, stages: Sequence[Sequence[nn.Module]], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.with_maps(images)[0]

    def with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and what each stage gives, for attention matching."""
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return self.head(x), maps
