"""VGG-Small, the plain CIFAR-10 network of the papers on low-bit networks."""

from torch import Tensor, nn

from bnas.models.parts import Preset, classifier, conv


class VGGSmall(nn.Module):
    """Images [batch, 3, 32, 32] -> logits [batch, classes]: 128-128, 256-256, 512-512, one linear layer.

    Source: Zhang et al., LQ-Nets, 2018 (arXiv:1807.10029), section 4.
    """

    def __init__(self, preset: Preset, classes: int) -> None:
        super().__init__()
        self.conv1 = conv(3, 128, 3, precision=preset.first, weights=preset.weights)
        self.conv2 = conv(128, 128, 3, precision=preset.precision("conv2"), weights=preset.weights)
        self.conv3 = conv(128, 256, 3, precision=preset.precision("conv3"), weights=preset.weights)
        self.conv4 = conv(256, 256, 3, precision=preset.precision("conv4"), weights=preset.weights)
        self.conv5 = conv(256, 512, 3, precision=preset.precision("conv5"), weights=preset.weights)
        self.conv6 = conv(512, 512, 3, precision=preset.precision("conv6"), weights=preset.weights)
        self.fc7 = classifier(512 * 4 * 4, classes, preset)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.conv2(self.conv1(images)))
        x = self.pool(self.conv4(self.conv3(x)))
        x = self.pool(self.conv6(self.conv5(x)))
        y: Tensor = self.fc7(x.flatten(1))
        return y
