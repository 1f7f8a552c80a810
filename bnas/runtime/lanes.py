"""The filters of a convolution -> tables in the order in which its tiles read them, output channels side by side.

The output channels of each group are filled up to whole vectors with filters of zeros; a group's channels of bits are
filled up to whole halfwords with bits that are 0 in the filters as they are in the image.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnas.runtime.cpu import BIT_WORD, LANES, VECTORS
from bnas.runtime.filters import RealFilters, SignFilters
from bnas.runtime.places import Place, padded
from bnas.runtime.steps import Conv, Value

Array = NDArray[Any]
WORD_KIND = {4: np.int32, 8: np.int64}[BIT_WORD]


class Window(NamedTuple):
    """Where a window is read, in bytes from its first pixel.

    Attributes:
        places: int64 [count].
        run: how many bytes, or channels, lie at each place.
        masks: of the words of bits at these places, int64 [count].
        is_masked: whether not all of their bits count.
    """

    places: Array
    run: int
    masks: Array
    is_masked: bool = False


class Starts(NamedTuple):
    """What a dot product of bits is if no bit differs, by how the window lies on the image.

    Attributes:
        rows, columns: of each row and column of the output, int64, whose sum is the number of a kind of window.
        filters: [experts, kinds, groups, lanes] int32.
        box: of a filter of ones, [kinds] int32.
    """

    rows: Array
    columns: Array
    filters: Array
    box: Array


def bit_window(step: Conv, place: Place) -> Window:
    """Return how windows of bits are read: a row of the kernel in words, or pixel by pixel where they lie apart."""
    rows, columns = step.filters.shape[3:]
    pixels = columns if step.dilation[1] == 1 else 1
    run = pixels * place.pixel
    starts = _taps(step, place, rows, columns // pixels)
    words = np.arange(padded(run, BIT_WORD) // BIT_WORD)
    places = (starts[:, None] + BIT_WORD * words).ravel()
    bits = np.minimum(8 * BIT_WORD, 8 * (run - BIT_WORD * words))
    masks = np.array([2 ** int(count) - 1 for count in bits], np.uint64).view(np.int64)
    return Window(places, run, np.tile(masks, len(starts)), run % BIT_WORD > 0)


def real_window(step: Conv, place: Place) -> Window:
    """Return how windows of real values are read: all channels at once, and of whole pixels a row of the kernel."""
    ins, rows, columns = step.filters.shape[2:]
    joined = step.groups == 1 and step.dilation[1] == 1 and place.pixel == 4 * ins
    taps = _taps(step, place, rows, 1 if joined else columns)
    return Window(taps, ins * (columns if joined else 1), np.zeros(0, np.int64))


def _taps(step: Conv, place: Place, rows: int, columns: int) -> Array:
    down, right = np.arange(rows) * step.dilation[0] * place.row, np.arange(columns) * step.dilation[1] * place.pixel
    return (down[:, None] + right).ravel().astype(np.int64)


def bit_words(step: Conv, window: Window, place: Place) -> Array:
    """Return the weights of all experts, [experts, words], one block of lanes after the other."""
    assert isinstance(step.filters, SignFilters)
    banks = []
    for expert in range(step.filters.shape[0]):
        out, ins, rows, columns = (signs := step.filters.signs(expert)).shape
        bits = np.zeros((out, rows, columns, 8 * place.pixel), np.bool_)
        bits[..., :ins] = signs.transpose(0, 2, 3, 1)
        runs = np.packbits(bits, axis=-1, bitorder="little").reshape(out, -1, window.run)
        filled = np.zeros((out, runs.shape[1], padded(window.run, BIT_WORD)), np.uint8)
        filled[..., : window.run] = runs
        words = filled.view(WORD_KIND).reshape(out, -1)
        banks.append(_in_blocks(_in_groups(words, step.groups), VECTORS))
    return np.stack(banks)


def real_weights(step: Conv) -> Array:
    """Return the weights of all experts, [experts, values] of float32, one block of lanes after the other."""
    banks = []
    for expert in range(step.filters.shape[0]):
        values = dense(step, expert).transpose(0, 2, 3, 1)  # [out, rows, columns, in / groups]
        banks.append(_in_blocks(_in_groups(values.reshape(len(values), -1), step.groups), VECTORS))
    return np.stack(banks)


def dense(step: Conv, expert: int) -> Array:
    """Return the filters of an expert as float32 [out, in / groups, rows, columns]."""
    filters = step.filters
    if isinstance(filters, RealFilters):
        reals: Array = filters.values[expert].astype(np.float32)
        return reals
    scale, offset = (
        0 if part is None else part[expert if len(part) > 1 else 0].astype(np.float64).reshape(-1, 1, 1, 1)
        for part in (filters.scale, filters.offset)
    )
    values: Array = np.where(filters.signs(expert), 1, -1) * scale + offset
    return values.astype(np.float32)


def starts_of(step: Conv, image: Value, made: Value) -> Starts:
    """Return the starts of a convolution of bits. Round the image lie bits of -1; what stands for them is set right."""
    assert isinstance(step.filters, SignFilters)
    ins, height, width = step.filters.shape[2:]
    rows, row_kinds = _outside(made.height, height, step.stride[0], step.padding[0], step.dilation[0], image.height)
    columns, column_kinds = _outside(made.width, width, step.stride[1], step.padding[2], step.dilation[1], image.width)
    if step.pad_value == -1:
        rows, row_kinds, columns, column_kinds = rows * 0, row_kinds[:1] & False, columns * 0, column_kinds[:1] & False
    is_outside = row_kinds[:, None, :, None] | column_kinds[None, :, None, :]  # [kinds, kinds, height, width]
    outside = is_outside.reshape(-1, height, width) * (step.pad_value + 1)
    whole = ins * height * width
    filters = []
    for expert in range(step.filters.shape[0]):
        sums = 2 * np.count_nonzero(step.filters.signs(expert), 1) - ins  # [out, height, width]
        found = whole + outside.reshape(len(outside), -1) @ sums.reshape(len(sums), -1).T
        filters.append(np.stack([_in_groups(row[:, None], step.groups)[..., 0] for row in found]))
    box = ins * outside.sum((1, 2)) - whole
    return Starts(rows * len(column_kinds), columns, np.stack(filters).astype(np.int32), box.astype(np.int32))


def per_lane(values: Array | None, step: Conv, default: float = 0.0) -> Array:
    """Return one value a channel, [out or 1] or [experts or 1, out or 1], as float32 [experts, groups, lanes]."""
    experts, out = step.filters.shape[:2]
    rows = np.broadcast_to(default if values is None else values, (experts, out))
    return np.stack([_in_groups(row[:, None].astype(np.float32), step.groups)[..., 0] for row in rows])


def _outside(count: int, taps: int, stride: int, before: int, gap: int, side: int) -> tuple[Array, Array]:
    """Return the kind of each output along a side, and by kind which taps lie outside of the image [kinds, taps]."""
    at = np.arange(count)[:, None] * stride - before + np.arange(taps) * gap
    kinds, of = np.unique((at < 0) | (at >= side), axis=0, return_inverse=True)
    return of.ravel().astype(np.int64), kinds


def _in_groups(filters: Array, groups: int) -> Array:
    """Return filters [out, ...] as [groups, lanes, ...], each group filled up with zeros."""
    grouped = filters.reshape(groups, -1, *filters.shape[1:])
    lanes = np.zeros((groups, padded(grouped.shape[1]), *filters.shape[1:]), filters.dtype)
    lanes[:, : grouped.shape[1]] = grouped
    return lanes


def blocks(lanes: int, sizes: Sequence[int]) -> Iterator[int]:
    """Yield the vectors of each block of lanes, as many as a tile can take."""
    left = lanes // LANES
    while left:
        size = next(size for size in sizes if size <= left)
        yield size
        left -= size


def _in_blocks(grouped: Array, sizes: Sequence[int]) -> Array:
    """Return [groups, lanes, weights] with lanes side by side within each block, as one row."""
    parts, first = [], 0
    for size in blocks(grouped.shape[1], sizes):
        lanes = grouped[:, first : first + size * LANES]
        parts.append(lanes.transpose(0, 2, 1).reshape(len(grouped), -1))
        first += size * LANES
    return np.concatenate(parts, 1).reshape(-1)
