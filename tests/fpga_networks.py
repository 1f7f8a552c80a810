"""Networks that FINN and hls4ml take, and a short training for them."""

import torch
import torch.nn.functional as F
from torch import nn

from bnas.data import load_data
from bnas.layers import BinaryConv, BinaryLinear

MEAN, STD = 0.3, 0.37  # what finished runs of tests say


def conv(ins: int, out: int, *, stride: int = 1, precision: str = "binary") -> BinaryConv:
    return BinaryConv(
        ins, out, kernel=3, stride=stride, groups=1, precision=precision, weights="xnor", activations="sign",
        pad_value=-1 if precision == "binary" else 0,
    )  # fmt: skip


def three_layers() -> nn.Module:
    """An 8-bit image, three convolutions with binary weights, a classifier of real ones."""
    return nn.Sequential(
        conv(1, 16, precision="weight"), nn.BatchNorm2d(16), conv(16, 32, stride=2), nn.BatchNorm2d(32),
        nn.MaxPool2d(2), conv(32, 32), nn.BatchNorm2d(32), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def like_cnv() -> nn.Module:
    """Pairs of convolutions with a pooling after each, then binary linear layers: FINN's CNV, for small images."""

    def pair(ins: int, out: int) -> list[nn.Module]:
        first = conv(ins, out, precision="weight" if ins == 1 else "binary")
        return [first, nn.BatchNorm2d(out), conv(out, out), nn.BatchNorm2d(out), nn.MaxPool2d(2)]

    def linear(ins: int, out: int) -> list[nn.Module]:
        layer = BinaryLinear(ins, out, precision="binary", weights="xnor", activations="sign")
        return [layer, nn.BatchNorm1d(out)]

    return nn.Sequential(*pair(1, 8), *pair(8, 16), nn.Flatten(), *linear(64, 32), *linear(32, 32), *linear(32, 10))


def trained_on_digits(network: nn.Module, *, epochs: int = 8) -> nn.Module:
    split = load_data("digits").train
    images, labels = (split.images.float() / 255 - MEAN) / STD, split.labels
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.train().parameters(), lr=5e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    return network.eval()
