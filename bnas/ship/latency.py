"""A part of a network -> how long it takes here, packed: run over and over in a network of others like it."""

import platform
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from torch import nn

from bnas.layers.blocks import Head
from bnas.networks.build import build_block, build_stem, head_settings
from bnas.networks.wear import wear
from bnas.runtime import Network
from bnas.runtime.compiled import kernels_name
from bnas.runtime.cpu import cpu
from bnas.ship.lowering import lower
from bnas.ship.measuring import an_image, median_seconds, seconds_of_passes
from bnas.space.arch import Binarizers, BlockSpec, Shortcut
from bnas.space.latency import CallPart, HeadPart, Part, StemPart, UnitPart
from bnas.space.values import Size, shrunk

CLASSES = 10  # of a network that only stands round a part
Shape = tuple[int, int, int]


def machine() -> str:
    """Return what this machine is called in a table of latencies."""
    return f"{platform.machine()}, {cpu()}"


def kernels() -> str:
    """Return what the machine code is called in a table of latencies."""
    return kernels_name()


def measured(part: Part) -> int:
    """Return the nanoseconds that a part takes for one image on one thread: a median."""
    return round(1e9 * _MEASURE[type(part)](part))


def measured_ms(network: Network) -> float:
    """Return the milliseconds that a packed network takes for one image on one thread: a median."""
    image = an_image(network.program)
    return 1e3 * median_seconds(lambda: network(image))


def _of_call(part: CallPart) -> float:
    network = _packed([], part.shape, part.shape[0], part.classes)
    network.code = network.code.again(0, 0, times=0)
    return measured_ms(network) / 1e3


def _of_head(part: HeadPart) -> float:
    head = head_settings(part.precision, part.binarizers)
    network = _packed([], part.shape, part.shape[0], part.classes, **head)
    # The first pass takes in what is averaged; a classifier in bits begins with a pass that loads the averages.
    return seconds_of_passes(network, 1, len(network.code.passes))


def _of_stem(part: StemPart) -> float:
    stem = part.stem
    unit = BlockSpec(stem.width, stem.width, 3, 1, 1, 1, "binary", Shortcut(), False, Binarizers())
    module = build_stem(stem, part.shape[0], part.binarizers)
    return _before(unit, module, part.shape, stem.stride, begin=0)  # what takes in the image is part of it


def _of_unit(part: UnitPart) -> float:
    block = part.block
    return _before(block.again(), build_block(block), (block.in_channels, *part.size), block.stride)


def _before(after: BlockSpec, module: nn.Module, shape: Shape, stride: int, *, begin: int | None = None) -> float:
    """Measure a module alone in a network where another unit follows, as one does in the networks of a space.

    Args:
        begin: the first pass of the module; None: the first after those that only take in what it reads.
    """
    whole = _packed([module, build_block(after)], shape, after.out_channels, CLASSES)
    end = len(whole.code.passes) - _passes_of_the_rest(after, shrunk(shape[1:], stride))
    return seconds_of_passes(whole, _loads(whole) if begin is None else begin, end)


@lru_cache(maxsize=1024)
def _passes_of_the_rest(unit: BlockSpec, size: Size) -> int:
    """Return how many passes a unit and the head after it have."""
    rest = _packed([build_block(unit)], (unit.in_channels, *size), unit.out_channels, CLASSES)
    return len(rest.code.passes) - _loads(rest)


def _loads(network: Network) -> int:
    """Return how many passes only take in what the modules read, before the first of them computes anything."""
    return next(number for number, made in enumerate(network.code.passes) if made.source is not None)


def _packed(modules: Sequence[nn.Module], shape: Shape, width: int, classes: int, **head: Any) -> Network:
    whole = nn.Sequential(*modules, Head(width, classes, **head)).eval()
    wear(whole)
    return Network(lower(whole, shape), threads=1)


_MEASURE: dict[type[Any], Callable[[Any], float]] = {
    CallPart: _of_call, HeadPart: _of_head, StemPart: _of_stem, UnitPart: _of_unit,
}  # fmt: skip
