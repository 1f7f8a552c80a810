"""The reference networks of the papers, as ordinary modules, by name and precision."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

from torch import nn

from bnas.binarize import weight_binarizer
from bnas.errors import LookupFailed
from bnas.lookup import not_among, unknown
from bnas.networks.models.alexnet import AlexNet
from bnas.networks.models.cnv import CNV
from bnas.networks.models.googlenet import GoogLeNet
from bnas.networks.models.lenet import LeNet5
from bnas.networks.models.mlp import MLP
from bnas.networks.models.parts import Preset
from bnas.networks.models.resnet import ResNet
from bnas.networks.models.sketch_a_net import SketchANet
from bnas.networks.models.squeezenet import SqueezeNet, published_real_inputs
from bnas.networks.models.vgg_small import VGGSmall
from bnas.networks.models.wide_resnet import WideResNet
from bnas.space.values import PRECISIONS, Precision

LayersByPreset = Mapping[str, Collection[str]]
WEIGHTS_ONLY: LayersByPreset = {"real": (), "weight": ()}
ALL_INPUTS: LayersByPreset = {**WEIGHTS_ONLY, "binary": ()}
# Late layers of a plain network keep real inputs: the published choice, and its smaller variant.
LATE: LayersByPreset = {**ALL_INPUTS, "hybrid": ("fc6", "fc7"), "hybrid-last": ("fc7",)}
LAST_BLOCKS: LayersByPreset = {
    **ALL_INPUTS, "hybrid": ("layer3.1", "layer4.0", "layer4.1"), "hybrid-last": ("layer4.1",)
}  # fmt: skip


class ReferenceModel(NamedTuple):
    """A network with the input and classes of its paper, and the layers that keep real inputs in each preset.

    binary_ends: precisions of the first and the last layer in the preset `binary`; real in all others.
    """

    build: Callable[[Preset, int], nn.Module]
    input: tuple[int, int, int]
    classes: int
    presets: LayersByPreset
    binary_ends: tuple[Precision, Precision] = ("real", "real")

    def ends(self, preset: str) -> tuple[Precision, Precision]:
        """Return the precisions of the first and of the last layer, as its paper has them."""
        return self.binary_ends if preset == "binary" else ("real", "real")


_RESNET18 = partial(ResNet, depths=(2, 2, 2, 2))
_RESNET20 = partial(ResNet, depths=(3, 3, 3), width=16, small=True, padded=True)
_RESNET34 = partial(ResNet, depths=(3, 4, 6, 3))
MODELS: dict[str, ReferenceModel] = {
    "lenet5": ReferenceModel(LeNet5, (1, 28, 28), 10, WEIGHTS_ONLY),
    "vgg_small": ReferenceModel(VGGSmall, (3, 32, 32), 10, ALL_INPUTS),
    "resnet18": ReferenceModel(_RESNET18, (3, 224, 224), 1000, LAST_BLOCKS),
    "resnet34": ReferenceModel(_RESNET34, (3, 224, 224), 1000, ALL_INPUTS),
    "resnet18_cifar": ReferenceModel(partial(_RESNET18, small=True), (3, 32, 32), 10, ALL_INPUTS),
    "resnet20_cifar": ReferenceModel(_RESNET20, (3, 32, 32), 10, ALL_INPUTS),
    "wrn28_10": ReferenceModel(WideResNet, (3, 32, 32), 10, WEIGHTS_ONLY),
    "alexnet": ReferenceModel(AlexNet, (3, 224, 224), 1000, LATE),
    "googlenet": ReferenceModel(GoogLeNet, (3, 224, 224), 1000, ALL_INPUTS),
    "squeezenet": ReferenceModel(SqueezeNet, (3, 224, 224), 1000, {**ALL_INPUTS, "hybrid": published_real_inputs()}),
    "sketch_a_net": ReferenceModel(SketchANet, (1, 225, 225), 250, LATE),
    "cnv": ReferenceModel(CNV, (3, 32, 32), 10, ALL_INPUTS, ("weight", "binary")),
    "tfc": ReferenceModel(partial(MLP, hidden=64), (1, 28, 28), 10, ALL_INPUTS, ("binary", "binary")),
    "sfc": ReferenceModel(partial(MLP, hidden=256), (1, 28, 28), 10, ALL_INPUTS, ("binary", "binary")),
    "lfc": ReferenceModel(partial(MLP, hidden=1024), (1, 28, 28), 10, ALL_INPUTS, ("binary", "binary")),
}


def build_model(
    name: str,
    *,
    precision: str = "real",
    first: str | None = None,
    last: str | None = None,
    weights: str = "xnor",
    classes: int | None = None,
) -> nn.Module:
    """Return a freshly initialised reference network.

    Args:
        name: an entry of `MODELS`.
        precision: `real`; `weight` (binary weights in all but the first and last layer); `binary` (inputs too); where
            a paper has it `hybrid` (inputs too, but for the layers that it publishes, most of them late) and
            `hybrid-last` (but for the very last of these).
        first: precision of the first layer, `real` or `weight`: an image is no binary input. `binary` too where the
            paper's network makes it one: tfc, sfc, lfc. None: as in the paper.
        last: precision of the classifier. The papers' op counts take it as binary even where it is not. None: as in the
            paper, real in most.
        weights: name of a weight binarizer, or `pkg.mod:attr`.
        classes: outputs; as many as in the paper unless given.
    Raises:
        LookupFailed: no model, preset, precision or weight binarizer of this name.
    """
    preset = preset_for(name, precision=precision, first=first, last=last, weights=weights)
    return MODELS[name].build(preset, classes or MODELS[name].classes)


def unknown_model(name: str, *, what: str = "model") -> str:
    """Say that a name is of no reference network, and what else names one where files do, too."""
    if name.endswith(".py"):
        return unknown(name, MODELS, what=what)
    others = "pkg.mod:attr, file.py:attr, an architecture's YAML file, or a folder that holds a network, as RUN/best"
    return f"{not_among(name, MODELS, what=what)}, or give {others}"


def preset_for(name: str, *, precision: str, first: str | None, last: str | None, weights: str) -> Preset:
    """Return how far the layers of a reference network are binarized.

    Args, Raises: as in `build_model`.
    """
    if name not in MODELS:
        raise LookupFailed(not_among(name, MODELS, what="model"))
    reference = MODELS[name]
    if precision not in reference.presets:
        raise LookupFailed(f"{name}: it has no preset {precision!r}; choose from {', '.join(reference.presets)}")
    published_first, published_last = reference.ends(precision)
    first, last = first or published_first, last or published_last
    if last not in PRECISIONS:
        raise LookupFailed(f"{name}: last: {last!r} is no precision; choose from {', '.join(PRECISIONS)}")
    allowed = PRECISIONS if reference.binary_ends[0] == "binary" else ("real", "weight")
    if first not in allowed:
        raise LookupFailed(
            f"{name}: first: {first!r} is no precision of a first layer; choose from {', '.join(allowed)}"
        )
    weight_binarizer(weights)
    return Preset(precision, last, weights, reference.presets[precision], first)


__all__ = [
    "CNV",
    "MLP",
    "MODELS",
    "AlexNet",
    "GoogLeNet",
    "LeNet5",
    "Preset",
    "ReferenceModel",
    "ResNet",
    "SketchANet",
    "SqueezeNet",
    "VGGSmall",
    "WideResNet",
    "build_model",
    "preset_for",
    "unknown_model",
]
