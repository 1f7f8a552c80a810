"""LeNet-5 as it is used for MNIST today: 32 and 64 filters, 512 hidden values."""

from torch import Tensor, nn

from bnas.networks.models.parts import Preset, classifier, conv, linear


class LeNet5(nn.Module):
    """Digits [batch, 1, 28, 28] -> logits [batch, classes].

    Source: LeCun et al., 1998, with the widths 32-C5, 64-C5, 512 of the papers on binary and ternary weights.
    """

    def __init__(self, preset: Preset, classes: int) -> None:
        super().__init__()
        self.conv1 = conv(1, 32, 5, padding=0, precision=preset.first, weights=preset.weights)
        self.conv2 = conv(32, 64, 5, padding=0, precision=preset.precision("conv2"), weights=preset.weights)
        self.fc3 = linear(64 * 4 * 4, 512, precision=preset.precision("fc3"), weights=preset.weights)
        self.fc4 = classifier(512, classes, preset)
        self.pool = nn.MaxPool2d(2)

    def forward(self, digits: Tensor) -> Tensor:
        x = self.pool(self.conv2(self.pool(self.conv1(digits))))
        y: Tensor = self.fc4(self.fc3(x.flatten(1)))
        return y
