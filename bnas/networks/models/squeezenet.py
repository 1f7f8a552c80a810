"""SqueezeNet 1.0, with batch norm."""

import torch
from torch import Tensor, nn

from bnas.networks.models.parts import Preset, conv

# squeeze and expand widths of fire2 to fire9
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
FIRES_BEFORE_POOL = ("fire4", "fire8")


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 convolutions side by side to many."""

    def __init__(self, name: str, in_channels: int, squeeze: int, expand: int, preset: Preset) -> None:
        super().__init__()

        def unit(part: str, ins: int, outs: int, kernel: int) -> nn.Sequential:
            return conv(ins, outs, kernel, precision=preset.precision(f"{name}.{part}"), weights=preset.weights)

        self.squeeze = unit("squeeze", in_channels, squeeze, 1)
        self.expand1x1 = unit("expand1x1", squeeze, expand, 1)
        self.expand3x3 = unit("expand3x3", squeeze, expand, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat((self.expand1x1(x), self.expand3x3(x)), 1)


class SqueezeNet(nn.Module):
    """Images [batch, 3, 224, 224] -> logits [batch, classes].

    Source: Iandola et al., SqueezeNet, 2016 (arXiv:1602.07360), table 1.
    """

    def __init__(self, preset: Preset, classes: int) -> None:
        super().__init__()
        self.conv1 = conv(3, 96, 7, stride=2, padding=0, precision=preset.first, weights=preset.weights)
        width = 96
        for index, (squeeze, expand) in enumerate(FIRES, 2):
            self.add_module(f"fire{index}", Fire(f"fire{index}", width, squeeze, expand, preset))
            width = 2 * expand
        self.conv10 = conv(width, classes, 1, precision=preset.last, weights=preset.weights)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.conv1(images))
        for index in range(2, 2 + len(FIRES)):
            x = self.get_submodule(f"fire{index}")(x)
            x = self.pool(x) if f"fire{index}" in FIRES_BEFORE_POOL else x
        y: Tensor = self.conv10(x).mean((2, 3))
        return y


def published_real_inputs() -> tuple[str, ...]:
    """Return the layers whose inputs the hybrid network keeps real: all of fire2, and every 1x1 expansion."""
    fires = range(2, 2 + len(FIRES))
    return ("fire2.squeeze", "fire2.expand3x3", *(f"fire{index}.expand1x1" for index in fires))
