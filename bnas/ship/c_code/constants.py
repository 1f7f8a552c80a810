"""Arrays of a `Program` -> constants of C code, each written once, and the bytes of flash that they take."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnas.runtime.filters import RealFilters, SignFilters

WIDTH = 120  # of a line
BYTES = {"int16_t": 2, "int32_t": 4, "uint16_t": 2, "uint32_t": 4}

_WINDOW_VALUES = 16  # of one size each in memory, as `struct window` of types.c has them


@dataclass
class Constants:
    """The constants of one file.

    Args:
        word_bits: 32 or 64.
    """

    word_bits: int
    _levels: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)  # by what stands right of the equals sign and its type
    _names: dict[str, str] = field(default_factory=dict)
    _bytes: int = 0
    _windows: int = 0
    _largest_extent: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of flash that all take."""
        levels = BYTES[self.level] * sum(map(len, self._levels.values()))
        return self._bytes + levels + BYTES[self.extent] * _WINDOW_VALUES * self._windows

    @property
    def level(self) -> str:
        """The type of the whole numbers that sums are compared with."""
        largest = max((int(np.abs(values).max()) for values in self._levels.values()), default=0)
        return "int16_t" if largest < 2**15 else "int32_t"

    @property
    def extent(self) -> str:
        """The type of the sizes that windows go over."""
        return "uint16_t" if self._largest_extent < 2**16 else "uint32_t"

    def text(self) -> str:
        """Return their definitions."""
        levels = [_definition(f"level {name}[{len(v)}]", map(str, v.tolist())) for name, v in self._levels.items()]
        return "\n".join([*self._texts.values(), *levels])

    def channelwise(self, name: str, values: NDArray[Any] | None, *, otherwise: float, plus: str = "") -> str:
        """Return the expression for one value a channel, or one for all; what each is otherwise takes no constant.

        Args:
            values: [channels or 1], or of several experts [experts, channels or 1].
            plus: the number of the expert among several.
        """
        if values is None or (values.size == 1 and values.flat[0] == otherwise):
            return "NONE"
        name, width = self.reals(name, values), values.shape[-1]
        place = f"{name} + {width} * {plus}" if len(values) > 1 and values.ndim > 1 else name
        return f"{'ALL' if width == 1 else 'EACH'}({place})"

    def reals(self, name: str, values: NDArray[Any]) -> str:
        """Return the name of an array of float32."""
        flat = values.astype(np.float32).ravel()
        return self._added("float", name, [real(value) for value in flat], 4 * len(flat))

    def bits(self, name: str, bits: NDArray[np.bool_]) -> str:
        """Return the name of an array of words with these bits, the first in the lowest bit."""
        word_bytes = self.word_bits // 8
        packed = np.packbits(bits, bitorder="little")
        packed = np.pad(packed, (0, -len(packed) % word_bytes))
        words = packed.view(f"<u{word_bytes}").tolist()
        suffix = "ULL" if self.word_bits == 64 else "UL"
        return self._added(
            "word", name, [f"0x{value:0{2 * word_bytes}x}{suffix}" for value in words], word_bytes * len(words)
        )

    def flips(self, name: str, flips: NDArray[np.bool_]) -> str:
        """Return the expressions for which comparisons are the other way round, and for the step between them."""
        return f"{self.bits(name, flips)}, {int(len(flips) > 1)}" if flips.any() else "NULL, 0"

    def levels(self, name: str, levels: NDArray[np.int64]) -> str:
        """Return the expressions for whole numbers, one a channel or one for all, and for the step between them."""
        self._levels[name] = levels
        return f"{name}, {int(len(levels) > 1)}"

    def window(self, name: str, values: Sequence[int]) -> str:
        """Return the name of a window."""
        assert len(values) == _WINDOW_VALUES
        self._largest_extent = max(self._largest_extent, *values)
        known = self._added("struct window", name, map(str, values), 0)
        self._windows += known == name
        return known

    def filters(self, name: str, filters: RealFilters | SignFilters) -> str:
        """Return the name of filters, the channels of one tap side by side."""
        if isinstance(filters, RealFilters):
            return self.reals(name, filters.values.transpose(0, 1, 3, 4, 2))
        signs = [filters.signs(expert).transpose(0, 2, 3, 1).ravel() for expert in range(filters.shape[0])]
        return self.bits(name, np.concatenate(signs))

    def _added(self, kind: str, name: str, values: Iterable[str], size: int) -> str:
        """Return the name of what has these values, which may be there already."""
        given = list(values)
        length = "" if kind.startswith("struct") else f"[{len(given)}]"
        key = f"{kind} {given}"
        if key not in self._names:
            self._names[key] = name
            self._texts[name] = _definition(f"{kind} {name}{length}", given)
            self._bytes += size
        return self._names[key]


def real(value: Any) -> str:
    """Return a float32 as C reads it back the same."""
    value = np.float32(value)
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{float(value):.9g}"
    return f"{text}F" if set(text) & set(".e") else f"{text}.0F"


def _definition(what: str, values: Iterable[str]) -> str:
    text = ", ".join(values)
    if len(what) + len(text) < WIDTH - len("static const  = {};"):
        return f"static const {what} = {{{text}}};"
    return (
        f"static const {what} = {{\n{textwrap.fill(text, WIDTH, initial_indent='    ', subsequent_indent='    ')}\n}};"
    )
