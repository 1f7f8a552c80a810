"""The parts of the reference networks: layers with norm and activation, at the precision that a preset gives."""

from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

from torch import nn

from bnas.layers.binary_conv import BinaryConv
from bnas.layers.binary_layer import BinaryLinear


class Preset(NamedTuple):
    """Which layers of a network are binarized, and how far.

    real: none. weight: the weights of all but the first and last. binary: their inputs too. hybrid: the inputs too, but
    for the layers in `real_inputs`. `first` and `last` are the precisions of the first layer and of the classifier,
    whatever the preset.
    """

    name: str
    last: str
    weights: str  # weight binarizer
    real_inputs: Collection[str] = ()
    first: str = "real"  # `binary` of a network whose image is made binary

    def precision(self, layer: str) -> str:
        """Return the precision of a layer between the first and the last."""
        if self.name in ("real", "weight"):
            return "real" if self.name == "real" else "weight"
        return "weight" if layer in self.real_inputs else "binary"


def plain_conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    precision: str = "real",
    weights: str = "xnor",
) -> nn.Module:
    """Return a convolution without bias; `padding` as in `conv`."""
    if precision == "real":
        pad = kernel // 2 if padding is None else padding
        return nn.Conv2d(in_channels, out_channels, kernel, stride, pad, bias=False)
    return BinaryConv(
        in_channels, out_channels, kernel=kernel, stride=stride, padding=padding, precision=precision, weights=weights
    )


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    precision: str = "real",
    weights: str = "xnor",
    act: bool = True,
) -> nn.Sequential:
    """Return convolution, batch norm and ReLU; with a binary input the batch norm stands before the sign.

    Args:
        padding: pixels on each side; None for half the kernel.
    """
    layer = plain_conv(
        in_channels, out_channels, kernel, stride=stride, padding=padding, precision=precision, weights=weights
    )
    norm = nn.BatchNorm2d(in_channels if precision == "binary" else out_channels)
    return _unit("conv", layer, norm, first=precision == "binary", act=act)


def linear(
    in_features: int,
    out_features: int,
    *,
    precision: str = "real",
    weights: str = "xnor",
    norm: bool = True,
    act: bool = True,
) -> nn.Sequential:
    """Return a linear layer, batch norm and ReLU; with a binary input the batch norm stands before the sign."""
    layer: nn.Module
    if precision == "real":
        layer = nn.Linear(in_features, out_features, bias=False)
    else:
        layer = BinaryLinear(in_features, out_features, precision=precision, weights=weights)
    of = in_features if precision == "binary" else out_features
    return _unit("linear", layer, nn.BatchNorm1d(of) if norm else None, first=precision == "binary", act=act)


def classifier(in_features: int, classes: int, preset: Preset) -> nn.Module:
    """Return the last layer, with a bias; before a binary input stands a batch norm."""
    if preset.last == "real":
        return nn.Linear(in_features, classes)
    layer = BinaryLinear(in_features, classes, bias=True, precision=preset.last, weights=preset.weights)
    return layer if preset.last == "weight" else nn.Sequential(nn.BatchNorm1d(in_features), layer)


def _unit(name: str, layer: nn.Module, norm: nn.Module | None, *, first: bool, act: bool) -> nn.Sequential:
    normed = [] if norm is None else [("norm", norm)]
    order = [*normed, (name, layer)] if first else [(name, layer), *normed]
    return nn.Sequential(OrderedDict([*order, ("act", nn.ReLU())] if act else order))
