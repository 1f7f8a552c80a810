"""The filters of a convolution: real numbers, or one bit a weight."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnas.errors import ProgramError

Reals = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class RealFilters:
    """Filters [experts, out, in / groups, rows, columns], floating point."""

    values: Reals

    @property
    def shape(self) -> tuple[int, ...]:
        """Experts, out, in / groups, rows, columns."""
        return self.values.shape

    def check(self) -> None:
        """Raise ProgramError unless there are five dimensions."""
        if self.values.ndim != 5:
            raise ProgramError(f"filters need five dimensions, but have {self.values.ndim}")


@dataclass(frozen=True, eq=False)
class SignFilters:
    """Filters of two values each: offset + scale where a bit is 1, offset - scale where it is 0.

    Attributes:
        bits: uint8, eight weights a byte, the first in the highest bit, in the order of `shape`; the last byte's rest
            is 0.
        shape: experts, out, in / groups, rows, columns.
        scale: [experts or 1, out or 1].
        offset: [experts or 1, out or 1], or None for zero.
    """

    bits: NDArray[np.uint8]
    shape: tuple[int, int, int, int, int]
    scale: Reals
    offset: Reals | None = None

    @classmethod
    def of(cls, signs: NDArray[np.bool_], scale: Reals, offset: Reals | None = None) -> "SignFilters":
        """Return filters with these signs [experts, out, in / groups, rows, columns], true for +1."""
        experts, out, ins, rows, columns = signs.shape
        return cls(np.packbits(signs), (experts, out, ins, rows, columns), scale, offset)

    def signs(self, expert: int) -> NDArray[np.bool_]:
        """Return the signs of one expert [out, in / groups, rows, columns], true for +1."""
        size = int(np.prod(self.shape[1:]))
        first = expert * size
        bits = np.unpackbits(self.bits[first // 8 : (first + size + 7) // 8])
        return bits[first % 8 : first % 8 + size].view(np.bool_).reshape(self.shape[1:])

    def check(self) -> None:
        """Raise ProgramError unless bits, scale and offset are as many as the shape says."""
        experts, out = self.shape[:2]
        weights = int(np.prod(self.shape, dtype=object))
        if self.bits.shape != ((weights + 7) // 8,):
            raise ProgramError(f"{weights} weights of one bit need {(weights + 7) // 8} bytes, not {self.bits.shape}")
        for name, values in (("scale", self.scale), ("offset", self.offset)):
            if values is not None and not (
                values.ndim == 2 and values.shape[0] in (1, experts) and values.shape[1] in (1, out)
            ):
                raise ProgramError(f"{name} must be [{experts} or 1, {out} or 1], but is {list(values.shape)}")


Filters = RealFilters | SignFilters
