"""Sketch-A-Net, with batch norm."""

from torch import Tensor, nn

from bnas.networks.models.parts import Preset, classifier, conv, linear


class SketchANet(nn.Module):
    """Drawings [batch, 1, 225, 225] -> logits [batch, classes]; fc6 and fc7 are the papers' conv6 and conv7.

    Source: Yu et al., Sketch-a-Net that Beats Humans, 2015 (arXiv:1501.07873), table 1.
    """

    def __init__(self, preset: Preset, classes: int) -> None:
        super().__init__()
        self.conv1 = conv(1, 64, 15, stride=3, padding=0, precision=preset.first, weights=preset.weights)
        self.conv2 = conv(64, 128, 5, padding=0, precision=preset.precision("conv2"), weights=preset.weights)
        self.conv3 = conv(128, 256, 3, precision=preset.precision("conv3"), weights=preset.weights)
        self.conv4 = conv(256, 256, 3, precision=preset.precision("conv4"), weights=preset.weights)
        self.conv5 = conv(256, 256, 3, precision=preset.precision("conv5"), weights=preset.weights)
        self.fc6 = linear(256 * 7 * 7, 512, precision=preset.precision("fc6"), weights=preset.weights)
        self.fc7 = linear(512, 512, precision=preset.precision("fc7"), weights=preset.weights)
        self.fc8 = classifier(512, classes, preset)
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, drawings: Tensor) -> Tensor:
        x = self.pool(self.conv1(drawings))
        x = self.pool(self.conv2(x))
        x = self.pool(self.conv5(self.conv4(self.conv3(x))))
        y: Tensor = self.fc8(self.fc7(self.fc6(x.flatten(1))))
        return y
