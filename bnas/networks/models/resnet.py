"""ResNet-18 and ResNet-34, for large images and for small ones, and ResNet-20."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from bnas.networks.models.parts import Preset, classifier, conv


class PaddedShortcut(nn.Module):
    """Every second pixel, with channels of zeros before and after until there are enough: no parameters, no MACs.

    Source: He et al., Deep Residual Learning, 2015 (arXiv:1512.03385), section 3.3, option A.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, more = stride, out_channels - in_channels
        self.before, self.after = more // 2, more - more // 2

    def forward(self, x: Tensor) -> Tensor:
        seen = x[:, :, :: self.stride, :: self.stride]
        return F.pad(seen, (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; a shortcut's 1x1 convolution always has a real input.

    Args:
        padded: where size or channels change, a shortcut without parameters in place of a 1x1 convolution.
    """

    def __init__(
        self, name: str, in_channels: int, out_channels: int, stride: int, preset: Preset, *, padded: bool = False
    ) -> None:
        super().__init__()
        unit = partial(conv, precision=preset.precision(name), weights=preset.weights)
        self.conv1 = unit(in_channels, out_channels, 3, stride=stride)
        self.conv2 = unit(out_channels, out_channels, 3, act=False)
        self.shortcut: nn.Module = nn.Identity()
        changes = stride > 1 or in_channels != out_channels
        if changes and padded:
            self.shortcut = PaddedShortcut(in_channels, out_channels, stride)
        elif changes:
            precision = preset.precision(name)
            self.shortcut = conv(
                in_channels, out_channels, 1, stride=stride, act=False, weights=preset.weights,
                precision="weight" if precision == "binary" else precision,
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class ResNet(nn.Module):
    """Images [batch, 3, height, width] -> logits [batch, classes].

    Source: He et al., Deep Residual Learning, 2015 (arXiv:1512.03385), table 1; of ResNet-20, section 4.2.
    Args:
        depths: blocks in layer1, layer2, ...
        width: channels of the stem and of layer1; each later layer has twice those of the one before.
        padded: as in `BasicBlock`.
        small: a 3x3 stem without pooling, as for images of 32x32; else 7x7 stride 2 and pooling, as for 224x224.
    """

    def __init__(
        self,
        preset: Preset,
        classes: int,
        *,
        depths: tuple[int, ...],
        width: int = 64,
        small: bool = False,
        padded: bool = False,
    ) -> None:
        super().__init__()
        first = partial(conv, 3, width, precision=preset.first, weights=preset.weights)
        self.conv1 = first(3) if small else first(7, stride=2)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        self.layers = [f"layer{stage}" for stage in range(1, len(depths) + 1)]
        into = width
        for name, depth in zip(self.layers, depths, strict=True):
            blocks = []
            for index in range(depth):
                stride = 1 if index or name == "layer1" else 2
                out = into * stride
                blocks.append(BasicBlock(f"{name}.{index}", into, out, stride, preset, padded=padded))
                into = out
            self.add_module(name, nn.Sequential(*blocks))
        self.fc = classifier(into, classes, preset)

    def forward(self, images: Tensor) -> Tensor:
        return self.with_maps(images)[0]

    def with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and what each stage gives, for attention matching."""
        x, maps = self.pool(self.conv1(images)), []
        for layer in self.layers:
            x = self.get_submodule(layer)(x)
            maps.append(x)
        return self.fc(x.mean((2, 3))), maps
