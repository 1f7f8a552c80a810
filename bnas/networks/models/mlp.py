"""TFC, SFC and LFC, the fully connected networks of FINN for digits."""

from torch import Tensor, nn

from bnas.networks.models.parts import Preset, classifier, linear


class MLP(nn.Module):
    """Digits [batch, 1, 28, 28] -> logits [batch, classes]: three hidden layers of one width.

    Published with every layer binary, the first too (TFC-W1A1 and others). Its input is the sign of the normalised
    image: a pixel is +1 where it is at least as bright as the mean pixel of the training images, else -1. That costs no
    MAC and no byte.

    Args:
        hidden: values of a hidden layer: 64 in TFC, 256 in SFC, 1024 in LFC.
    Source: Umuroglu et al., FINN, 2017 (arXiv:1612.07119), and the trained networks published with it.
    """

    def __init__(self, preset: Preset, classes: int, *, hidden: int) -> None:
        super().__init__()
        names = ["fc1", "fc2", "fc3"]
        precisions = [preset.first, *map(preset.precision, names[1:])]
        # The sign of the next layer is this one's activation; a ReLU stands before real inputs.
        acts = [after != "binary" for after in (*precisions[1:], preset.last)]
        into = 28 * 28
        for name, precision, act in zip(names, precisions, acts, strict=True):
            sees_image_bits = name == "fc1" and precision == "binary"  # a norm of each pixel would only move thresholds
            unit = linear(
                into, hidden, precision=precision, weights=preset.weights, norm=not sees_image_bits, act=act
            )  # fmt: skip
            self.add_module(name, unit)
            into = hidden
        self.fc4 = classifier(hidden, classes, preset)

    def forward(self, digits: Tensor) -> Tensor:
        x = digits.flatten(1)
        for name in ("fc1", "fc2", "fc3", "fc4"):
            x = self.get_submodule(name)(x)
        return x
