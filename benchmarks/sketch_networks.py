"""The papers' networks for drawings of 28x28, narrow, in the papers' own blocks and in ours; what is tried in them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bnas.binarize import BinaryWeight
from bnas.binarize.alpha_beta import alpha_beta
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.layers import PReLU
from bnas.layers.binary_layer import BinaryLayer
from bnas.networks.models import Preset, ResNet
from bnas.networks.models.googlenet import INCEPTIONS, INCEPTIONS_BEFORE_POOL, Inception
from bnas.networks.models.parts import classifier, conv, linear
from bnas.networks.models.squeezenet import FIRES, FIRES_BEFORE_POOL, Fire
from bnas.space.arch import Architecture
from bnas.spec import parse

SIZE = 28
INCEPTION_SHARE, FIRE_SHARE = 8, 4  # what the published channels are divided by
STEP, MOST_STEPS = 0.02, 200  # by which a factor of widths grows, from 1


class SketchANet28(nn.Module):
    """Sketch-A-Net: drawings [batch, 1, 28, 28] -> logits; the first kernel is 5, not 15, and takes every pixel.

    Args:
        width: filters of the first layer, where the published network has 64.
    """

    def __init__(self, preset: Preset, classes: int, *, width: int = 8) -> None:
        super().__init__()

        def unit(name: str, ins: int, outs: int, kernel: int) -> nn.Module:
            return conv(ins, outs, kernel, precision=preset.precision(name), weights=preset.weights)

        def flat(name: str, ins: int, outs: int) -> nn.Module:
            return linear(ins, outs, precision=preset.precision(name), weights=preset.weights)

        self.conv1 = conv(1, width, 5, precision=preset.first, weights=preset.weights)
        self.conv2 = unit("conv2", width, 2 * width, 5)
        self.conv3 = unit("conv3", 2 * width, 4 * width, 3)
        self.conv4 = unit("conv4", 4 * width, 4 * width, 3)
        self.conv5 = unit("conv5", 4 * width, 4 * width, 3)
        self.fc6 = flat("fc6", 4 * width * 3 * 3, 8 * width)
        self.fc7 = flat("fc7", 8 * width, 8 * width)
        self.fc8 = classifier(8 * width, classes, preset)
        self.pool, self.last_pool = nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d(3, 2)

    def forward(self, drawings: Tensor) -> Tensor:
        x = self.pool(self.conv1(drawings))  # 14x14
        x = self.pool(self.conv2(x))  # 7x7
        x = self.last_pool(self.conv5(self.conv4(self.conv3(x))))  # 3x3
        y: Tensor = self.fc8(self.fc7(self.fc6(x.flatten(1))))
        return y


class GoogLeNet28(nn.Module):
    """GoogLeNet with an eighth of its channels: drawings [batch, 1, 28, 28] -> logits; a 3x3 stem of stride 2."""

    def __init__(self, preset: Preset, classes: int) -> None:
        super().__init__()
        self.conv1 = conv(1, 24, 3, stride=2, precision=preset.first, weights=preset.weights)
        width = 24
        for name, channels in INCEPTIONS.items():
            few = tuple(count // INCEPTION_SHARE for count in channels)
            self.add_module(name, Inception(name, width, few, preset))  # type: ignore[arg-type]
            width = few[0] + few[2] + few[4] + few[5]
        self.fc = classifier(width, classes, preset)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, drawings: Tensor) -> Tensor:
        x = self.conv1(drawings)
        for name in INCEPTIONS:
            x = self.get_submodule(name)(x)
            x = self.pool(x) if name in INCEPTIONS_BEFORE_POOL else x
        y: Tensor = self.fc(x.mean((2, 3)))
        return y


class SqueezeNet28(nn.Module):
    """SqueezeNet with a quarter of its channels: drawings [batch, 1, 28, 28] -> logits; a 3x3 stem of stride 2."""

    def __init__(self, preset: Preset, classes: int) -> None:
        super().__init__()
        self.conv1 = conv(1, 24, 3, stride=2, precision=preset.first, weights=preset.weights)
        width = 24
        for index, (squeeze, expand) in enumerate(FIRES, 2):
            squeeze, expand = squeeze // FIRE_SHARE, expand // FIRE_SHARE
            self.add_module(f"fire{index}", Fire(f"fire{index}", width, squeeze, expand, preset))
            width = 2 * expand
        self.conv10 = conv(width, classes, 1, precision=preset.last, weights=preset.weights)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, drawings: Tensor) -> Tensor:
        x = self.conv1(drawings)
        for index in range(2, 2 + len(FIRES)):
            x = self.get_submodule(f"fire{index}")(x)
            x = self.pool(x) if f"fire{index}" in FIRES_BEFORE_POOL else x
        y: Tensor = self.conv10(x).mean((2, 3))
        return y


def resnet18(preset: Preset, classes: int, *, width: int = 8) -> nn.Module:
    """Return a ResNet-18 for drawings [batch, 1, 28, 28], with a 3x3 stem of stride 2."""
    network = ResNet(preset, classes, depths=(2, 2, 2, 2), width=width, small=True)
    network.conv1 = conv(1, width, 3, stride=2, precision=preset.first, weights=preset.weights)
    return network


PAPERS: dict[str, Callable[[Preset, int], nn.Module]] = {
    "Sketch-A-Net": SketchANet28,
    "ResNet-18": resnet18,
    "GoogLeNet": GoogLeNet28,
    "SqueezeNet": SqueezeNet28,
}


class Block(NamedTuple):
    """How a network's layers are binarized and what stands round them; as it is by itself, the papers' own block.

    learned_alpha: each filter has a learned scale, as ours have. prelu: in place of ReLU, likewise.
    centred: latent weights are kept at mean 0 over input channels in training, as alpha-beta's authors do.
    recipe: the name of what it is trained by.
    """

    precision: str
    weights: str = "xnor"
    learned_alpha: bool = False
    prelu: bool = False
    centred: bool = True
    recipe: str = "straight_through"


BY_GROUP: Any = {"centred": False, "recipe": "group"}  # as group weights are trained
FBIN = Block("binary"), Block("binary", "alpha_beta")
BLOCKS: dict[str, Block] = {
    "real": Block("real"),
    "WBin xnor": Block("weight"),
    "WBin alpha_beta": Block("weight", "alpha_beta"),
    "WBin group": Block("weight", "group", **BY_GROUP),
    "WBin xnor + recipe of group": Block("weight", **BY_GROUP),
    "real + recipe of group": Block("real", **BY_GROUP),
    "FBin xnor": FBIN[0],
    "FBin alpha_beta": FBIN[1],
    **{
        f"FBin {block.weights} + {what}": block._replace(**{name: value})
        for block in FBIN
        for what, name, value in (
            ("learned alpha", "learned_alpha", True), ("PReLU", "prelu", True), ("not centred", "centred", False)
        )
    },
    "FBin alpha_beta + class means": FBIN[1]._replace(weights="sketch_networks:with_class_means"),
    "FBin alpha_beta + no offset": FBIN[1]._replace(weights="sketch_networks:without_offset"),
}  # fmt: skip


def with_class_means(weight: Tensor) -> BinaryWeight:
    """Return what `alpha_beta` does, with the exact derivative of both values in its gradient too."""
    return alpha_beta(weight, class_means=True)


def without_offset(weight: Tensor) -> BinaryWeight:
    """Return what `alpha_beta` does, but with values of opposite sign and equal size."""
    return alpha_beta(weight)._replace(offset=None)


def in_papers_block(name: str, block: Block, classes: int) -> nn.Module:
    """Return a network of the papers in a block; its first and last layer are real."""
    network = PAPERS[name](Preset(block.precision, "real", block.weights), classes)
    for module in list(network.modules()):
        if isinstance(module, BinaryLayer) and module.alpha is not None and not block.learned_alpha:
            torch.nn.init.ones_(module.alpha).requires_grad_(False)
        if block.prelu:
            _bend(module)
    return network


def _bend(parent: nn.Module) -> None:
    """Put PReLU, which knows the channels of what it stands behind, in place of ReLU."""
    for name, child in list(parent.named_children()):
        if isinstance(child, nn.ReLU):
            layer = next(m for m in parent.children() if hasattr(m, "out_channels") or hasattr(m, "out_features"))
            is_flat = hasattr(layer, "out_features")
            channels = layer.out_features if is_flat else layer.out_channels
            setattr(parent, name, nn.PReLU(channels) if is_flat else PReLU(channels))  # type: ignore[arg-type]


def ours(widths: Sequence[int], classes: int, **stages: Any) -> Architecture:
    """Return a network in our blocks, a shortcut round each convolution: stem of stride 2, a stage for each width.

    Args:
        stages: more keys of every stage; a list has a value for each.
    """
    described = [
        {"width": width, "stride": 2 if index else 1}
        | {key: value[index] if isinstance(value, Sequence) else value for key, value in stages.items()}
        for index, width in enumerate(widths)
    ]
    whole: Mapping[str, Any] = {
        "input": [1, SIZE, SIZE], "classes": classes, "stem": {"width": widths[0], "stride": 2}, "stages": described,
        "shortcut": {"kind": "repeat"}, "binarizers": {"weight": "xnor"},
    }  # fmt: skip
    return parse(Architecture, whole, source="sketches")


def widened(widths: Sequence[int], groups: int, classes: int, depths: Sequence[int]) -> Architecture:
    """Return the widest network with so many groups whose BOPs are at most those of the widths with one group.

    All widths grow by one factor; the 1x1 convolutions that mix the groups count.
    """
    network = partial(ours, classes=classes, depth=list(depths))
    limit = cost(plan(network(widths))).bops
    best = network(widths)
    for step in range(MOST_STEPS):
        factor = 1 + STEP * step
        grown = [max(groups, round(width * factor / groups) * groups) for width in widths]
        arch = network(grown, groups=groups)
        if cost(plan(arch)).bops > limit:
            break
        best = arch
    return best
