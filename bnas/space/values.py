"""The plain values of a description: their words, ranges and units."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from bnas.lookup import unknown
from bnas.space.binarizer_traits import WEIGHT_TRAITS
from bnas.spec import Whole, shown

Precision = Literal["real", "weight", "binary"]
"""real: real input and weight; weight: real input, binary weight; binary: both binary."""
PRECISIONS: tuple[Precision, ...] = ("real", "weight", "binary")
Downsample = Literal["conv", "max_pool"]
"""conv: the convolution has the stride; max_pool: it sees every pixel, and what it gives is pooled by the stride."""
Activation = Literal["sign", "polynomial", "swish", "react"]  # of ours; a stage names no code
Size = tuple[int, int]  # height and width
KERNEL = r"^[0-9]{1,4}x[0-9]{1,4}$"
WIDEST = 31  # pixels of a kernel's side


def _kernel(value: Any) -> int | str:
    """Return a kernel as it is kept, `3` or `1x5`; [1, 5] says the same as `1x5`, and 3x3 as 3."""
    if isinstance(value, list | tuple) and len(value) == 2:
        value = "x".join(map(str, value))
    if type(value) is not int and not (isinstance(value, str) and re.match(KERNEL, value)):
        raise ValueError(f"must be a whole number, or height x width as in 1x5, but got {shown(value)}")
    height, width = sides(value)
    if height % 2 == 0 or width % 2 == 0:
        raise ValueError(f"a kernel side must be odd, so that the padding is the same on both sides; got {value}")
    if not (1 <= height <= WIDEST and 1 <= width <= WIDEST):
        raise ValueError(f"a kernel side must be from 1 to {WIDEST}, but got {shown(value)}")
    return height if height == width else f"{height}x{width}"


def sides(kernel: int | str) -> Size:
    """Return height and width of a kernel, `3` or `1x5`."""
    if isinstance(kernel, int):
        return kernel, kernel
    height, width = kernel.split("x")
    return int(height), int(width)


def plain(kernel: int | str) -> int | Size:
    """Return a kernel as layers take it: one side of a square, or height and width."""
    return kernel if isinstance(kernel, int) else sides(kernel)


def shrunk(size: Size, stride: int) -> Size:
    """Return the size after a stride, rounded up: what a same-padded odd kernel and a ceiling pool agree on."""
    return -(-size[0] // stride), -(-size[1] // stride)


OURS = "bnas"  # the block of bnas.layers.blocks


def _block(name: str) -> str:
    if name != OURS and ":" not in name:
        raise ValueError(f"{shown(name)} is no block; give {OURS} for ours, or file.py:attr or pkg.mod:attr")
    return name


def _weight_binarizer(name: str) -> str:
    return _named(name, WEIGHT_TRAITS, "weight binarizer")


def _activation_binarizer(name: str) -> str:
    return _named(name, get_args(Activation), "activation binarizer")


def _named(name: str, names: Iterable[str], what: str) -> str:
    if name not in names and ":" not in name:
        raise ValueError(unknown(name, names, what=what))
    return name


BlockName = Annotated[str, AfterValidator(_block)]
WeightBinarizerName = Annotated[str, AfterValidator(_weight_binarizer)]
ActivationBinarizerName = Annotated[str, AfterValidator(_activation_binarizer)]
Channels = Annotated[Whole, Field(ge=1, le=65536)]
Side = Annotated[Whole, Field(ge=1, le=4096)]
Classes = Annotated[Whole, Field(ge=2, le=1_000_000)]
_SIDE: Final = {"type": "integer", "minimum": 1, "maximum": WIDEST, "not": {"multipleOf": 2}}
Kernel = Annotated[
    int | str,
    PlainValidator(_kernel),
    WithJsonSchema(
        {
            "anyOf": [
                _SIDE,
                {"type": "string", "pattern": r"^[0-9]{0,3}[13579]x[0-9]{0,3}[13579]$"},
                {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2},
            ]
        }
    ),
]
"""Odd sides in pixels: `3`, or height x width as in `1x5`."""
Stride = Annotated[Whole, Field(ge=1, le=8)]
Depth = Annotated[Whole, Field(ge=0, le=64)]
Every = Annotated[Whole, Field(ge=1, le=64)]
Experts = Annotated[Whole, Field(ge=1, le=64)]
Levels = Annotated[Whole, Field(ge=1, le=255)]
