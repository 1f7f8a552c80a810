"""GoogLeNet, with batch norm and without the auxiliary classifiers, which only training uses."""

import torch
from torch import Tensor, nn

from bnas.networks.models.parts import Preset, classifier, conv

# name: channels of 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; 1x1 after pooling
INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
INCEPTIONS_BEFORE_POOL = ("inception3b", "inception4e")


class Inception(nn.Module):
    """Convolutions of 1x1, 3x3 and 5x5 and a pooling, side by side."""

    def __init__(self, name: str, in_channels: int, channels: tuple[int, ...], preset: Preset) -> None:
        super().__init__()
        one, reduced3, three, reduced5, five, pooled = channels

        def unit(ins: int, outs: int, kernel: int) -> nn.Sequential:
            return conv(ins, outs, kernel, precision=preset.precision(name), weights=preset.weights)

        self.one = unit(in_channels, one, 1)
        self.three = nn.Sequential(unit(in_channels, reduced3, 1), unit(reduced3, three, 3))
        self.five = nn.Sequential(unit(in_channels, reduced5, 1), unit(reduced5, five, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), unit(in_channels, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.one(x), self.three(x), self.five(x), self.pooled(x)), 1)


class GoogLeNet(nn.Module):
    """Images [batch, 3, 224, 224] -> logits [batch, classes].

    Source: Szegedy et al., Going Deeper with Convolutions, 2014 (arXiv:1409.4842), table 1.
    """

    def __init__(self, preset: Preset, classes: int) -> None:
        super().__init__()
        self.conv1 = conv(3, 64, 7, stride=2, precision=preset.first, weights=preset.weights)
        self.conv2_reduce = conv(64, 64, 1, precision=preset.precision("conv2_reduce"), weights=preset.weights)
        self.conv2 = conv(64, 192, 3, precision=preset.precision("conv2"), weights=preset.weights)
        width = 192
        for name, channels in INCEPTIONS.items():
            self.add_module(name, Inception(name, width, channels, preset))
            one, _, three, _, five, pooled = channels
            width = one + three + five + pooled
        self.fc = classifier(width, classes, preset)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.conv1(images))
        x = self.pool(self.conv2(self.conv2_reduce(x)))
        for name in INCEPTIONS:
            x = self.get_submodule(name)(x)
            x = self.pool(x) if name in INCEPTIONS_BEFORE_POOL else x
        y: Tensor = self.fc(x.mean((2, 3)))
        return y
