"""The steps of a `Program`: what each takes, holds and gives. `naive.py` says what each computes.

Values are of one image: `real` numbers, `bits` that stand for -1 and +1, or a `choice`, one whole number. Arrays of
one value a channel may have length 1, which stands for the same value in every channel.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnas.errors import ProgramError
from bnas.runtime.filters import Filters, Reals, SignFilters

Pair = tuple[int, int]  # of rows and columns
MOST_VALUES = 2**28  # of one image in one slot: beyond it, a damaged file is likelier than a network


class Value(NamedTuple):
    """What a slot holds; of a choice, the channels are what it is made between."""

    kind: Literal["real", "bits", "choice"]
    channels: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """How many values one channel has."""
        return self.height * self.width


@dataclass(frozen=True, eq=False)
class Step:
    """One step; it writes the slot after those of the input and of the steps before it."""

    inputs: tuple[int, ...]  # slots that it reads; 0 is the image
    takes: ClassVar[tuple[int, ...]] = (1,)  # how many slots it may read

    def value(self, *given: Value) -> Value:
        """Return what it writes.

        Raises:
            ProgramError: it does not go with what is given.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Conv(Step):
    """Convolution of real values or bits; a linear layer where the image is one pixel.

    Where a second slot is read, it holds the choice of the expert, whose filters are used.

    Attributes:
        padding: rows above, rows below, columns left, columns right.
        pad_value: what the padding stands for: -1, 0 or +1 round bits, 0 round real values.
        bias: [out or 1], or None for zero.
    """

    filters: Filters
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    pad_value: int = 0
    bias: Reals | None = None
    takes: ClassVar[tuple[int, ...]] = (1, 2)

    def value(self, *given: Value) -> Value:
        self.filters.check()
        x, (experts, out, ins, *kernel) = given[0], self.filters.shape
        _need(x.kind in ("real", "bits"), "a convolution takes real values or bits")
        _need(min(experts, out, ins, *kernel, *self.stride, *self.dilation, self.groups) > 0, "sizes must be positive")
        _need(min(self.padding) >= 0, "padding must not be negative")
        above, below, left, right = self.padding
        bordered = (x.height + above + below) * (x.width + left + right) * x.channels
        _need(bordered <= MOST_VALUES, f"with its padding the input has {bordered:,} values")
        _need(out % self.groups == 0, f"{self.groups} groups must divide {out} filters")
        _need(ins * self.groups == x.channels, f"{self.groups} groups of {ins} channels are not {x.channels}")
        _need(self.pad_value in ((-1, 0, 1) if x.kind == "bits" else (0,)), f"pad value {self.pad_value}")
        _need((experts > 1) == (len(given) == 2), f"{experts} experts and {len(given)} inputs")
        _need(all(v == Value("choice", experts, 1, 1) for v in given[1:]), f"experts need a choice between {experts}")
        _need(x.kind == "real" or isinstance(self.filters, SignFilters), "bits need filters of bits")
        _per_channel("bias", self.bias, out)
        size = [
            _windows(side + sum(pads), (taps - 1) * gap + 1, step)
            for side, pads, taps, gap, step in zip(
                (x.height, x.width), (self.padding[:2], self.padding[2:]), kernel, self.dilation, self.stride,
                strict=True,
            )
        ]  # fmt: skip
        return Value("real", out, *size)


@dataclass(frozen=True, eq=False)
class Argmax(Step):
    """The channel with the largest value, the first of them where several have it."""

    def value(self, *given: Value) -> Value:
        _need(given[0].kind == "real" and given[0].pixels == 1, "a choice is made between real values of one pixel")
        return given[0]._replace(kind="choice")


@dataclass(frozen=True, eq=False)
class Threshold(Step):
    """+1 where x >= at, else -1; the other way round where `flip`."""

    at: Reals  # [channels or 1]
    flip: NDArray[np.bool_]  # [channels or 1]

    def value(self, *given: Value) -> Value:
        _real(given)
        _per_channel("threshold", self.at, given[0].channels)
        _per_channel("flip", self.flip, given[0].channels)
        return given[0]._replace(kind="bits")


@dataclass(frozen=True, eq=False)
class Affine(Step):
    """scale * x + shift; None stands for 1 and for 0."""

    scale: Reals | None = None  # [channels or 1]
    shift: Reals | None = None  # [channels or 1]

    def value(self, *given: Value) -> Value:
        _real(given)
        _per_channel("scale", self.scale, given[0].channels)
        _per_channel("shift", self.shift, given[0].channels)
        return given[0]


@dataclass(frozen=True, eq=False)
class PReLU(Step):
    """x where it is above 0, else slope * x; a slope of 0 makes it a ReLU."""

    slope: Reals  # [channels or 1]

    def value(self, *given: Value) -> Value:
        _real(given)
        _per_channel("slope", self.slope, given[0].channels)
        return given[0]


@dataclass(frozen=True, eq=False)
class Clip(Step):
    """x, but no less than `low` and no more than `high`."""

    low: float
    high: float

    def value(self, *given: Value) -> Value:
        _real(given)
        _need(self.low <= self.high, f"low={self.low} must not be above high={self.high}")
        return given[0]


@dataclass(frozen=True, eq=False)
class Sigmoid(Step):
    """1 / (1 + exp(-x))."""

    def value(self, *given: Value) -> Value:
        _real(given)
        return given[0]


@dataclass(frozen=True, eq=False)
class Add(Step):
    """The sum of two values; the second may have one pixel, which counts everywhere."""

    takes: ClassVar[tuple[int, ...]] = (2,)

    def value(self, *given: Value) -> Value:
        return _pointwise(given)


@dataclass(frozen=True, eq=False)
class Multiply(Step):
    """The product of two values; the second may have one pixel, which counts everywhere."""

    takes: ClassVar[tuple[int, ...]] = (2,)

    def value(self, *given: Value) -> Value:
        return _pointwise(given)


@dataclass(frozen=True, eq=False)
class Pool(Step):
    """The largest value, or the mean, of each window of each channel.

    Attributes:
        padding: rows above and below, columns left and right; they are no values.
        ceil: round the size up; a window that would begin past the image and its upper or left padding is left out.
        count_padding: a mean is over the padding too, as if it were zeros.
    """

    mean: bool
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil: bool = False
    count_padding: bool = True

    def value(self, *given: Value) -> Value:
        _real(given)
        _need(min(*self.kernel, *self.stride) > 0, "kernel and stride must be positive")
        _need(all(0 <= 2 * pad <= taps for pad, taps in zip(self.padding, self.kernel, strict=True)), "padding")
        x = given[0]
        size = []
        for side, taps, step, pad in zip((x.height, x.width), self.kernel, self.stride, self.padding, strict=True):
            count = _windows(side + 2 * pad + (step - 1 if self.ceil else 0), taps, step)
            size.append(count - (self.ceil and (count - 1) * step >= side + pad))
        return x._replace(height=size[0], width=size[1])


@dataclass(frozen=True, eq=False)
class Channels(Step):
    """Channels start, start + 1, ... of what there is, from the first again after the last: a slice, or a repeat."""

    start: int
    count: int

    def value(self, *given: Value) -> Value:
        _real(given)
        _need(0 <= self.start < given[0].channels and self.count > 0, f"start={self.start}, count={self.count}")
        return given[0]._replace(channels=self.count)


@dataclass(frozen=True, eq=False)
class Concat(Step):
    """The channels of several values, one after the other."""

    takes: ClassVar[tuple[int, ...]] = tuple(range(2, 257))

    def value(self, *given: Value) -> Value:
        _real(given)
        _need(len({(x.height, x.width) for x in given}) == 1, "sizes of images differ")
        return given[0]._replace(channels=sum(x.channels for x in given))


@dataclass(frozen=True, eq=False)
class Flatten(Step):
    """All values as channels of one pixel: channel by channel, each row by row."""

    def value(self, *given: Value) -> Value:
        _real(given)
        return Value("real", given[0].channels * given[0].pixels, 1, 1)


def _need(holds: bool, rule: str) -> None:
    if not holds:
        raise ProgramError(rule)


def _real(given: tuple[Value, ...]) -> None:
    _need(all(x.kind == "real" for x in given), "it takes real values, no bits and no choice")


def _per_channel(name: str, values: NDArray[np.generic] | None, channels: int) -> None:
    fits = values is None or values.shape in ((1,), (channels,))
    _need(fits, f"{name} must have one value, or {channels}, but is {None if values is None else list(values.shape)}")


def _pointwise(given: tuple[Value, ...]) -> Value:
    _real(given)
    first, second = given
    _need(second in (first, first._replace(height=1, width=1)), f"{second} does not go with {first}")
    return first


def _windows(side: int, taps: int, step: int) -> int:
    """Return how many windows of `taps` pixels, `step` apart, lie within a side."""
    _need(side >= taps, f"a window of {taps} pixels does not fit into {side}")
    return (side - taps) // step + 1
