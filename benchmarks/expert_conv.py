"""Expert convolution against a plain convolution of the same shape, and against one grouped convolution.

    python benchmarks/expert_conv.py [--quick] [--json]

A step is forward and backward with all gradients, the gate's included; times are in milliseconds.
Both layers binarize weights (xnor) and input (sign), so the ratio is what the choice of experts costs.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from claim import Claim, geometric_mean, main, medians
from torch import Tensor, nn

from bnas.binarize import clipped_sign
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.expert_conv import ExpertConv


class Shape(NamedTuple):
    batch: int
    channels: int
    side: int
    groups: int
    experts: int

    def __str__(self) -> str:
        groups = f", G = {self.groups}" if self.groups > 1 else ""
        return f"({self.batch}, {self.channels}, {self.side}x{self.side}{groups}, N = {self.experts})"


SHAPES = (
    Shape(64, 64, 16, groups=1, experts=4),
    Shape(64, 64, 16, groups=4, experts=4),
    Shape(128, 32, 28, groups=1, experts=4),
    Shape(64, 128, 8, groups=1, experts=8),
)


def measure(quick: bool) -> Iterator[Claim]:
    """Time every shape in training and in evaluation, then compare."""
    repeats = 7 if quick else 31
    steps, passes = [], []
    for shape in SHAPES:
        expert, plain, x, grad = make(shape)
        grouped = GroupedWay(expert)
        ways = {"expert": expert, "plain": plain, "grouped": grouped}
        times = medians({name: step(layer, x, grad) for name, layer in ways.items()}, repeats=repeats)
        steps.append(times)
        yield Claim(f"step {shape}, ahead of one grouped convolution", times["expert"], times["grouped"], 1.0)
        ways = {"expert": expert.eval(), "plain": plain.eval()}
        passes.append(medians({name: evaluation(layer, x) for name, layer in ways.items()}, repeats=2 * repeats))
    for what, all_times, target in (("step", steps, 2.0), ("evaluation", passes, 1.2)):
        each = ", ".join(f"{times['expert'] / times['plain']:.2f}" for times in all_times)
        mean = {name: geometric_mean(times[name] for times in all_times) for name in ("expert", "plain")}
        claim = f"{what}, against a plain convolution, geometric mean of {each}"
        yield Claim(claim, mean["expert"], mean["plain"], target)


def make(shape: Shape) -> tuple[ExpertConv, BinaryConv, Tensor, Tensor]:
    """Return both layers, an input, and a gradient of the output; every expert wins some images."""
    torch.manual_seed(0)
    plain = BinaryConv(shape.channels, shape.channels, groups=shape.groups)
    expert = ExpertConv(shape.channels, shape.channels, groups=shape.groups, experts=shape.experts)
    nn.init.normal_(expert.gate.weight, std=3)
    x = torch.randn(shape.batch, shape.channels, shape.side, shape.side, requires_grad=True)
    used = len(expert.expert_of(x).unique())
    assert used == shape.experts, f"{used} experts of {shape.experts} are used"
    return expert, plain, x, torch.randn(x.shape)


def step(layer: nn.Module, x: Tensor, grad: Tensor) -> Callable[[], None]:
    def run() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).backward(grad)

    return run


def evaluation(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            layer(x)

    return run


class GroupedWay(nn.Module):
    """The obvious way: every image gets filters of its own, and is a group of one large convolution."""

    def __init__(self, expert: ExpertConv) -> None:
        super().__init__()
        self.expert = expert

    def forward(self, x: Tensor) -> Tensor:
        layer, batch = self.expert, len(x)
        share = layer.gate(x.mean((2, 3))).softmax(1)
        choice = F.one_hot(share.argmax(1), layer.experts) + (share - share.detach())
        latent = (choice @ layer.weight.flatten(1)).view(batch, *layer.weight.shape[1:])
        weight = layer.effective_weight(latent).flatten(0, 1)
        rows = clipped_sign(x).view(1, -1, *x.shape[2:])
        y = F.conv2d(rows, weight, padding=layer.kernel // 2, groups=batch * layer.groups)
        return y.view(batch, -1, *y.shape[2:])


if __name__ == "__main__":
    main(measure, __doc__.splitlines()[0])
