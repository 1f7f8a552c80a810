"""CNV, the small VGG of FINN for 32x32 images, without padding."""

from torch import Tensor, nn

from bnas.networks.models.parts import Preset, classifier, conv, linear

WIDTHS = (64, 64, 128, 128, 256, 256)


class CNV(nn.Module):
    """Images [batch, 3, 32, 32] -> logits [batch, classes]: six 3x3 convolutions, two hidden layers of 512, one more.

    The sides of the images go 30-28, pooled to 14-12-10, pooled to 5-3-1. Published with binary weights throughout and
    binary inputs of all layers but the first, which sees the image as it is (CNV-W1A1).

    Source: Umuroglu et al., FINN, 2017 (arXiv:1612.07119), and the trained networks published with it.
    """

    def __init__(self, preset: Preset, classes: int) -> None:
        super().__init__()
        names = ["conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc7", "fc8"]
        precisions = [preset.first, *map(preset.precision, names[1:])]
        # The sign of the next layer is this one's activation; a ReLU stands before real inputs.
        acts = [after != "binary" for after in (*precisions[1:], preset.last)]
        into = 3
        for name, out, precision, act in zip(names, (*WIDTHS, 512, 512), precisions, acts, strict=True):
            if name.startswith("conv"):
                unit = conv(into, out, 3, padding=0, precision=precision, weights=preset.weights, act=act)
            else:
                unit = linear(into, out, precision=precision, weights=preset.weights, act=act)
            self.add_module(name, unit)
            into = out
        self.fc9 = classifier(into, classes, preset)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        return self.with_maps(images)[0]

    def with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and what each pair of convolutions gives, for attention matching."""
        x, maps = images, []
        for number in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"conv{number}")(x)
            if number % 2 == 0:
                x = x if number == len(WIDTHS) else self.pool(x)
                maps.append(x)
        for name in ("fc7", "fc8", "fc9"):
            x = self.get_submodule(name)(x.flatten(1))
        return x, maps
