"""Wide ResNet for small images."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from bnas.networks.models.parts import Preset, classifier, plain_conv


class WideBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; where channels change, the shortcut is a 1x1 one."""

    def __init__(self, name: str, in_channels: int, out_channels: int, stride: int, preset: Preset) -> None:
        super().__init__()
        plain = partial(plain_conv, precision=preset.precision(name), weights=preset.weights)
        self.norm1, self.norm2 = nn.BatchNorm2d(in_channels), nn.BatchNorm2d(out_channels)
        self.conv1 = plain(in_channels, out_channels, 3, stride=stride)
        self.conv2 = plain(out_channels, out_channels, 3)
        self.shortcut = plain(in_channels, out_channels, 1, stride=stride) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        y = self.conv2(F.relu(self.norm2(self.conv1(active))))
        z: Tensor = y + (x if self.shortcut is None else self.shortcut(active))
        return z


class WideResNet(nn.Module):
    """Images [batch, 3, 32, 32] -> logits [batch, classes]; depth 28 and widening factor 10 unless told otherwise.

    Source: Zagoruyko and Komodakis, Wide Residual Networks, 2016 (arXiv:1605.07146), table 1.
    """

    def __init__(self, preset: Preset, classes: int, *, depth: int = 28, widening: int = 10) -> None:
        super().__init__()
        self.conv1 = plain_conv(3, 16, 3, precision=preset.first, weights=preset.weights)
        width = 16
        for group, out in enumerate((16 * widening, 32 * widening, 64 * widening), 1):
            blocks = []
            for index in range((depth - 4) // 6):
                stride = 2 if group > 1 and index == 0 else 1
                blocks.append(WideBlock(f"group{group}.{index}", width, out, stride, preset))
                width = out
            self.add_module(f"group{group}", nn.Sequential(*blocks))
        self.norm = nn.BatchNorm2d(width)
        self.fc = classifier(width, classes, preset)

    def forward(self, images: Tensor) -> Tensor:
        return self.with_maps(images)[0]

    def with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and what each group gives, for attention matching."""
        x, maps = self.conv1(images), []
        for group in ("group1", "group2", "group3"):
            x = self.get_submodule(group)(x)
            maps.append(x)
        return self.fc(F.relu(self.norm(x)).mean((2, 3))), maps
