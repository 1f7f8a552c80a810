"""Values of a program's fields <-> bytes, as docs/packed.md describes them."""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnas.errors import ProgramError
from bnas.runtime.filters import Filters, RealFilters, SignFilters

MOST = 2**40  # no count in a file is larger


class Reader:
    """Reads bytes one after the other.

    Raises:
        ProgramError: by its methods, where there are fewer bytes, or none that a value is written as.
    """

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def bytes(self, count: int) -> memoryview:
        """Return the next bytes."""
        if count > len(self._data) - self._at:
            raise ProgramError(f"byte {self._at}: {count} bytes are told, but {len(self._data) - self._at} are left")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self) -> int:
        """Return a whole number: seven bits a byte, the lowest first, the highest bit set in all but the last."""
        value = shift = 0
        while True:
            byte = self.bytes(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 42:
                break
        if value > MOST or (byte == 0 and shift):
            raise ProgramError(f"byte {self._at}: no number is written like this")
        return value

    def reals(self, count: int) -> NDArray[np.float32]:
        """Return float32 values."""
        values = np.frombuffer(self.bytes(4 * count), "<f4")
        if np.isnan(values).any():
            raise ProgramError(f"byte {self._at}: a value is not a number")
        return values

    def end(self) -> None:
        """Raise ProgramError unless all bytes have been read."""
        if self._at != len(self._data):
            raise ProgramError(f"byte {self._at}: {len(self._data) - self._at} bytes are left over")


class Kind(NamedTuple):
    """How values of one kind are written and read."""

    write: Callable[[Any], bytes]
    read: Callable[[Reader], Any]


def number_bytes(value: int) -> bytes:
    """Return a whole number as `Reader.number` reads it."""
    parts = bytearray()
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _numbers(count: int) -> Kind:
    return Kind(
        lambda values: b"".join(map(number_bytes, values)), lambda reader: tuple(reader.number() for _ in range(count))
    )


def _real_bytes(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def _write_array(values: NDArray[Any] | None) -> bytes:
    return number_bytes(0) if values is None else number_bytes(len(values)) + _real_bytes(values)


def _read_array(reader: Reader) -> NDArray[np.float32] | None:
    count = reader.number()
    return reader.reals(count) if count else None


def _read_full(reader: Reader) -> NDArray[np.float32]:
    return reader.reals(reader.number())


def _write_bits(values: NDArray[np.bool_]) -> bytes:
    return number_bytes(len(values)) + np.packbits(values).tobytes()


def _read_bits(reader: Reader) -> NDArray[np.bool_]:
    count = reader.number()
    return _unpadded(reader.bytes((count + 7) // 8), count).view(np.bool_)


def _unpadded(data: memoryview, count: int) -> NDArray[np.uint8]:
    """Return bits; those that fill the last byte up must be 0."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    if bits[count:].any():
        raise ProgramError("bits are set past the last")
    return bits[:count]


def _write_table(values: NDArray[Any] | None) -> bytes:
    if values is None:
        return number_bytes(0)
    return b"".join(map(number_bytes, values.shape)) + _real_bytes(values)


def _read_table(reader: Reader) -> NDArray[np.float32] | None:
    rows = reader.number()
    if not rows:
        return None
    columns = reader.number()
    return reader.reals(rows * columns).reshape(rows, columns)


def _write_filters(filters: Filters) -> bytes:
    head = b"".join(map(number_bytes, (int(isinstance(filters, SignFilters)), *filters.shape)))
    if isinstance(filters, RealFilters):
        return head + _real_bytes(filters.values)
    return head + filters.bits.tobytes() + _write_table(filters.scale) + _write_table(filters.offset)


def _read_filters(reader: Reader) -> Filters:
    kind, *shape = (reader.number() for _ in range(6))
    count = 1
    for size in shape:
        count *= size
    if kind == 0:
        return RealFilters(reader.reals(count).reshape(shape))
    if kind != 1:
        raise ProgramError(f"filters of kind {kind} are not known")
    data = reader.bytes((count + 7) // 8)
    _unpadded(data[-1:], (count - 1) % 8 + 1 if count else 0)
    scale, offset = _read_table(reader), _read_table(reader)
    if scale is None:
        raise ProgramError("filters of bits have no scale")
    experts, out, ins, rows, columns = shape
    return SignFilters(np.frombuffer(data, np.uint8), (experts, out, ins, rows, columns), scale, offset)


def _read_real(reader: Reader) -> float:
    return float(reader.reals(1)[0])


def _read_flag(reader: Reader) -> bool:
    value = reader.number()
    if value > 1:
        raise ProgramError(f"a flag is 0 or 1, but is {value}")
    return bool(value)


def _read_text(reader: Reader) -> str:
    try:
        return str(reader.bytes(reader.number()), "utf-8")
    except UnicodeDecodeError as problem:
        raise ProgramError(f"a name is no UTF-8: {problem.reason}") from None


def _write_text(text: str) -> bytes:
    data = text.encode()
    return number_bytes(len(data)) + data


NUMBER = Kind(number_bytes, Reader.number)
PAIR, FOUR = _numbers(2), _numbers(4)
SHIFTED = Kind(lambda value: number_bytes(value + 1), lambda reader: reader.number() - 1)  # -1, 0 or 1
FLAG = Kind(lambda value: number_bytes(int(value)), _read_flag)
REAL = Kind(lambda value: struct.pack("<f", value), _read_real)
ARRAY = Kind(_write_array, _read_array)  # or None
FULL = Kind(_write_array, _read_full)
BITS = Kind(_write_bits, _read_bits)
FILTERS = Kind(_write_filters, _read_filters)
TEXT = Kind(_write_text, _read_text)
