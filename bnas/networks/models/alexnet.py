"""AlexNet in one tower, with batch norm."""

from torch import Tensor, nn

from bnas.networks.models.parts import Preset, classifier, conv, linear


class AlexNet(nn.Module):
    """Images [batch, 3, 224, 224] -> logits [batch, classes]; fc6 and fc7 are the papers' conv6 and conv7.

    Source: Krizhevsky et al., 2012, without the split over two devices: the network whose operations the papers on
    binary networks give (XNOR-Net, arXiv:1603.05279; Hybrid Binary Networks, arXiv:1804.03867).
    """

    def __init__(self, preset: Preset, classes: int) -> None:
        super().__init__()
        self.conv1 = conv(3, 96, 11, stride=4, padding=2, precision=preset.first, weights=preset.weights)
        self.conv2 = conv(96, 256, 5, precision=preset.precision("conv2"), weights=preset.weights)
        self.conv3 = conv(256, 384, 3, precision=preset.precision("conv3"), weights=preset.weights)
        self.conv4 = conv(384, 384, 3, precision=preset.precision("conv4"), weights=preset.weights)
        self.conv5 = conv(384, 256, 3, precision=preset.precision("conv5"), weights=preset.weights)
        self.fc6 = linear(256 * 6 * 6, 4096, precision=preset.precision("fc6"), weights=preset.weights)
        self.fc7 = linear(4096, 4096, precision=preset.precision("fc7"), weights=preset.weights)
        self.fc8 = classifier(4096, classes, preset)
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.conv1(images))
        x = self.pool(self.conv2(x))
        x = self.pool(self.conv5(self.conv4(self.conv3(x))))
        y: Tensor = self.fc8(self.fc7(self.fc6(x.flatten(1))))
        return y
