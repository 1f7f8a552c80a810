"""VGG-Small, the plain CIFAR-10 network of the papers on low-bit networks."""

from torch import Tensor, nn

from bnas.networks.models.parts import Preset, classifier, conv


class VGGSmall(nn.Module):
    """Images [batch, 3, size, size] -> logits [batch, classes]: 128-128, 256-256, 512-512, one linear layer.

    Args:
        width: filters of the first layer, where the published network has 128.
        size: side of the images, a multiple of 8.
    Source: Zhang et al., LQ-Nets, 2018 (arXiv:1807.10029), section 4.
    """

    def __init__(self, preset: Preset, classes: int, *, width: int = 128, size: int = 32) -> None:
        super().__init__()

        def unit(name: str, in_channels: int, out_channels: int) -> nn.Module:
            return conv(in_channels, out_channels, 3, precision=preset.precision(name), weights=preset.weights)

        self.conv1 = conv(3, width, 3, precision=preset.first, weights=preset.weights)
        self.conv2 = unit("conv2", width, width)
        self.conv3 = unit("conv3", width, 2 * width)
        self.conv4 = unit("conv4", 2 * width, 2 * width)
        self.conv5 = unit("conv5", 2 * width, 4 * width)
        self.conv6 = unit("conv6", 4 * width, 4 * width)
        self.fc7 = classifier(4 * width * (size // 8) ** 2, classes, preset)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        return self.with_maps(images)[0]

    def with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and what is pooled after each pair of convolutions, for attention matching."""
        x, maps = images, []
        for pair in ((self.conv1, self.conv2), (self.conv3, self.conv4), (self.conv5, self.conv6)):
            for unit in pair:
                x = unit(x)
            x = self.pool(x)
            maps.append(x)
        return self.fc7(x.flatten(1)), maps
