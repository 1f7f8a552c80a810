"""The parts of a network: block and head. Constructors take plain values, which exports can print."""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from bnas.layers.activations import PReLU, RPReLU
from bnas.layers.binary_conv import BinaryConv, Sides
from bnas.layers.binary_layer import BinaryLinear
from bnas.layers.expert_conv import ExpertConv
from bnas.layers.shortcuts import CeilingMaxPool, shortcut


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
        kernel: Sides,
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
        kind = BinaryConv if experts == 1 else partial(ExpertConv, experts=experts)
        self.conv = kind(
            in_channels, out_channels, kernel=kernel, stride=step, groups=groups, precision=precision,
            weights=weights, activations=activations, pad_value=pad_value,
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
        kernel: Sides = 3,
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

        def unit(ins: int, kernel: Sides, stride: int, groups: int) -> ConvUnit:
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
    """Batch norm, global average pool, classifier: [batch, width, height, width] -> logits [batch, classes].

    The precision is that of the classifier, which reads the averages, or their signs.
    """

    def __init__(
        self, width: int, classes: int, *, precision: str = "real", weights: str = "xnor", activations: str = "sign"
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.classifier: nn.Module = (
            nn.Linear(width, classes)
            if precision == "real"
            else BinaryLinear(width, classes, bias=True, precision=precision, weights=weights, activations=activations)
        )

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
