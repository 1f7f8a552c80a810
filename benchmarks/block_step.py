"""A whole binary block's step against that of the real block of the same shape, eager and compiled.

    python benchmarks/block_step.py [--quick] [--json]

A step is forward and backward of batch norm, sign, 3x3 convolution with alpha, PReLU and shortcut; the real block is
what one writes with torch's own layers: no sign, no alpha. Times are in milliseconds, float32, torch's default threads.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from claim import Claim, geometric_mean, main, medians
from torch import Tensor, nn

from bnas.layers.blocks import Block


class Shape(NamedTuple):
    batch: int
    channels: int
    side: int

    def __str__(self) -> str:
        return f"({self.batch}, {self.channels}, {self.side}x{self.side})"


SHAPES = (Shape(64, 64, 16), Shape(128, 32, 28), Shape(64, 128, 8))
LAYOUTS = (torch.contiguous_format, torch.channels_last)


class RealBlock(nn.Module):
    """Batch norm, convolution, PReLU, shortcut, of torch's own layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(self.norm(x))) + x


def measure(quick: bool) -> Iterator[Claim]:
    """Time every shape eagerly, then compiled if that is possible here."""
    ways = {"eager": (1.2, 9 if quick else 41), "compiled": (1.1, 5 if quick else 41)}
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        print("compiled: not measured, for there is no C++ compiler here", file=sys.stderr)
        del ways["compiled"]
    for how, (target, repeats) in ways.items():
        for layout in LAYOUTS[:1] if quick else LAYOUTS:
            yield from compared(how, layout, target=target, repeats=repeats)


def compared(how: str, layout: torch.memory_format, *, target: float, repeats: int) -> Iterator[Claim]:
    """Time the binary block against the real one, then against ours of real precision, whose PReLU is quick too."""
    name, all_times = f"binary block, {how}, {str(layout).removeprefix('torch.')}", []
    for shape in SHAPES:
        torch.compiler.reset()  # or sizes count as variable after the first shape
        x, toward, blocks = make(shape, layout)
        if how == "compiled":
            blocks = {what: torch.compile(block) for what, block in blocks.items()}
        times = medians({what: step(block, x, toward) for what, block in blocks.items()}, repeats=repeats)
        all_times.append(times)
        yield Claim(f"{name}, {shape}", times["binary"], times["real"], target)
    mean = {what: geometric_mean(times[what] for times in all_times) for what in blocks}
    yield Claim(f"{name}, geometric mean", mean["binary"], mean["real"], target)
    yield Claim("the same, against our own block of real precision", mean["binary"], mean["ours"], target)


def make(shape: Shape, layout: torch.memory_format) -> tuple[Tensor, Tensor, dict[str, nn.Module]]:
    """Return an input, a gradient of the output, and the blocks to compare."""
    torch.manual_seed(0)
    channels = shape.channels
    x, toward = (
        torch.randn(shape.batch, channels, shape.side, shape.side).contiguous(memory_format=layout) for _ in range(2)
    )
    blocks: dict[str, nn.Module] = {
        "binary": Block(channels, channels),
        "ours": Block(channels, channels, precision="real"),
        "real": RealBlock(channels),
    }
    return x.requires_grad_(), toward, blocks


def step(block: nn.Module, x: Tensor, toward: Tensor) -> Callable[[], None]:
    def run() -> None:
        block.zero_grad()
        x.grad = None
        block(x).backward(toward)

    return run


if __name__ == "__main__":
    main(measure, __doc__.splitlines()[0])
