"""ResNet-18 and ResNet-34, for large images and for small ones."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from bnas.networks.models.parts import Preset, classifier, conv


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; a shortcut's 1x1 convolution always has a real input."""

    def __init__(self, name: str, in_channels: int, out_channels: int, stride: int, preset: Preset) -> None:
        super().__init__()
        unit = partial(conv, precision=preset.precision(name), weights=preset.weights)
        self.conv1 = unit(in_channels, out_channels, 3, stride=stride)
        self.conv2 = unit(out_channels, out_channels, 3, act=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            precision = preset.precision(name)
            self.shortcut = conv(
                in_channels, out_channels, 1, stride=stride, act=False, weights=preset.weights,
                precision="weight" if precision == "binary" else precision,
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class ResNet(nn.Module):
    """Images [batch, 3, height, width] -> logits [batch, classes].

    Source: He et al., Deep Residual Learning, 2015 (arXiv:1512.03385), table 1.
    Args:
        depths: blocks in layer1 to layer4.
        small: a 3x3 stem without pooling, as for images of 32x32; else 7x7 stride 2 and pooling, as for 224x224.
    """

    def __init__(self, preset: Preset, classes: int, *, depths: tuple[int, int, int, int], small: bool = False) -> None:
        super().__init__()
        first = partial(conv, 3, 64, precision=preset.first, weights=preset.weights)
        self.conv1 = first(3) if small else first(7, stride=2)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        width = 64
        for stage, depth in enumerate(depths, 1):
            blocks = []
            for index in range(depth):
                into, stride = (width, 1) if index or stage == 1 else (width // 2, 2)
                blocks.append(BasicBlock(f"layer{stage}.{index}", into, width, stride, preset))
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            width *= 2
        self.fc = classifier(512, classes, preset)

    def forward(self, images: Tensor) -> Tensor:
        return self.with_maps(images)[0]

    def with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and what each stage gives, for attention matching."""
        x, maps = self.pool(self.conv1(images)), []
        for layer in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(layer)(x)
            maps.append(x)
        return self.fc(x.mean((2, 3))), maps
