"""What a pass begins with, as compiled code: some pixels of a convolution, a pooling or a value, into the chunk."""

from typing import Any

import numpy as np

from bnas.runtime import codes as c
from bnas.runtime.cpu import BIT_PIXELS, BIT_WORD, LANES, REAL_PIXELS, VECTOR_BYTES, VECTORS
from bnas.runtime.jit import inner
from bnas.runtime.tiles import bit_tile, real_tile
from bnas.runtime.vector import (
    larger,
    load,
    load_real,
    load_word,
    plus,
    popcount,
    splat,
    store,
    store_real,
    store_word,
    times,
    times_plus,
)

WIDE, HALF = VECTORS[0], VECTORS[1]  # vectors of a tile; the narrowest has one


def _bit_rows(vectors: int, *, masked: bool) -> Any:
    """Return the function that goes through pixels with a tile of bits; where few remain, it does some again."""
    many, one = bit_tile(BIT_PIXELS, vectors, masked=masked), bit_tile(1, vectors, masked=masked)

    def rows(
        windows: int, beyond: int, starts: int, lane: int, pixels: int, places: int, masks: int, weights: int,
        count: int, scale: int, shift: int, out: int, pitch: int,
    ) -> None:  # fmt: skip
        at = 0
        if pixels < BIT_PIXELS:
            while at < pixels:
                one(
                    windows + 8 * at, beyond, starts + 8 * at, lane, places, masks, weights, count, scale, shift,
                    out + at * pitch, pitch,
                )  # fmt: skip
                at += 1
            return
        while True:
            many(
                windows + 8 * at, beyond, starts + 8 * at, lane, places, masks, weights, count, scale, shift,
                out + at * pitch, pitch,
            )  # fmt: skip
            if at == pixels - BIT_PIXELS:
                return
            at = min(at + BIT_PIXELS, pixels - BIT_PIXELS)

    return inner(rows, name=f"bit_rows_{vectors}{'_masked' if masked else ''}")


def _real_rows(vectors: int) -> Any:
    """Return the function that goes through pixels with a tile of real values, likewise."""
    many, one = real_tile(REAL_PIXELS, vectors), real_tile(1, vectors)

    def rows(
        windows: int, beyond: int, pixels: int, places: int, weights: int, count: int, run: int, shift: int, out: int,
        pitch: int,
    ) -> None:  # fmt: skip
        at = 0
        if pixels < REAL_PIXELS:
            while at < pixels:
                one(windows + 8 * at, beyond, places, weights, count, run, shift, out + at * pitch, pitch)
                at += 1
            return
        while True:
            many(windows + 8 * at, beyond, places, weights, count, run, shift, out + at * pitch, pitch)
            if at == pixels - REAL_PIXELS:
                return
            at = min(at + REAL_PIXELS, pixels - REAL_PIXELS)

    return inner(rows, name=f"real_rows_{vectors}")


wide_rows, half_rows, single_rows = (_bit_rows(n, masked=False) for n in (WIDE, HALF, 1))
wide_masked_rows, half_masked_rows, single_masked_rows = (_bit_rows(n, masked=True) for n in (WIDE, HALF, 1))
wide_real_rows, half_real_rows, single_real_rows = (_real_rows(n) for n in (WIDE, HALF, 1))


@inner
def bit_rows(
    vectors: int, windows: int, beyond: int, starts: int, lane: int, pixels: int, places: int, masks: int, weights: int,
    count: int, scale: int, shift: int, out: int, pitch: int,
) -> None:  # fmt: skip
    """Go through pixels with the tile of so many vectors."""
    if vectors == WIDE:
        if masks:
            wide_masked_rows(
                windows, beyond, starts, lane, pixels, places, masks, weights, count, scale, shift, out, pitch
            )
        else:
            wide_rows(windows, beyond, starts, lane, pixels, places, masks, weights, count, scale, shift, out, pitch)
    elif vectors == HALF:
        if masks:
            half_masked_rows(
                windows, beyond, starts, lane, pixels, places, masks, weights, count, scale, shift, out, pitch
            )
        else:
            half_rows(windows, beyond, starts, lane, pixels, places, masks, weights, count, scale, shift, out, pitch)
    elif masks:
        single_masked_rows(
            windows, beyond, starts, lane, pixels, places, masks, weights, count, scale, shift, out, pitch
        )
    else:
        single_rows(windows, beyond, starts, lane, pixels, places, masks, weights, count, scale, shift, out, pitch)


@inner
def widest(lanes: int) -> int:
    """Return the vectors of the widest tile that so many lanes fill."""
    vectors = lanes // LANES
    return WIDE if vectors >= WIDE else min(vectors, HALF)


@inner
def find_windows(source: int, first: int, count: int, width: int, windows: int) -> None:
    """Write where the window of each pixel lies."""
    base, down, right = (
        load_word(source + 8 * c.C_BASE), load_word(source + 8 * c.C_DOWN), load_word(source + 8 * c.C_RIGHT)
    )  # fmt: skip
    row, column = first // width, first % width
    at = base + row * down + column * right
    for pixel in range(count):
        store_word(windows + 8 * pixel, at)
        column, at = column + 1, at + right
        if column == width:
            column, at = 0, at + down - width * right


@inner
def find_starts(source: int, first: int, count: int, width: int, expert: int, starts: int) -> None:
    """Write where the starts of the dot products of each pixel lie."""
    rows, columns = load_word(source + 8 * c.B_ROWS), load_word(source + 8 * c.B_COLUMNS)
    table = load_word(source + 8 * c.B_STARTS) + expert * load_word(source + 8 * c.B_EXPERT_STARTS)
    row, column = first // width, first % width
    of_row = table + load_word(rows + 8 * row)
    for pixel in range(count):
        store_word(starts + 8 * pixel, of_row + load_word(columns + 8 * column))
        column += 1
        if column == width:
            column, row = 0, row + 1
            of_row = table + load_word(rows + 8 * row)


@inner
def chosen(source: int) -> int:
    """Return the expert that a convolution uses."""
    choice = load_word(source + 8 * c.C_CHOICE)
    return load_word(choice) if choice else 0


@inner
def convolve_bits(source: int, first: int, count: int, width: int, pitch: int, head: int) -> None:
    """Convolve bits, with scale and shift."""
    windows, starts = load_word(head + 8 * c.M_WINDOWS), load_word(head + 8 * c.M_STARTS)
    expert = chosen(source)
    find_windows(source, first, count, width, windows)
    find_starts(source, first, count, width, expert, starts)
    places, masks, words = (
        load_word(source + 8 * c.C_PLACES), load_word(source + 8 * c.B_MASKS), load_word(source + 8 * c.C_COUNT)
    )  # fmt: skip
    lanes = load_word(source + 8 * c.C_LANES)
    bank = load_word(source + 8 * c.C_WEIGHTS) + expert * load_word(source + 8 * c.C_EXPERT_WEIGHTS)
    scales = load_word(source + 8 * c.B_SCALE) + expert * load_word(source + 8 * c.B_EXPERT_SCALE)
    shifts, chunk = load_word(source + 8 * c.C_SHIFT), load_word(head + 8 * c.M_CHUNK)
    for group in range(load_word(source + 8 * c.C_GROUPS)):
        beyond = group * load_word(source + 8 * c.C_IN)
        out = chunk + group * load_word(source + 8 * c.C_OUT)
        weights = bank + group * load_word(source + 8 * c.C_GROUP_WEIGHTS)
        lane = 0
        while lane < lanes:
            near, vectors = 4 * (group * lanes + lane), widest(lanes - lane)
            bit_rows(
                vectors, windows, beyond, starts, near, count, places, masks, weights, words, scales + near,
                shifts + near, out + 4 * lane, pitch,
            )  # fmt: skip
            weights += BIT_WORD * words * vectors * LANES
            lane += vectors * LANES
    if load_word(source + 8 * c.B_OFFSET):
        add_boxes(source, first, count, width, pitch, expert, head)


@inner
def add_boxes(source: int, first: int, count: int, width: int, pitch: int, expert: int, head: int) -> None:
    """Add what the filters' offsets make of the sum of all bits in each window."""
    places, masks, words = (
        load_word(source + 8 * c.C_PLACES), load_word(source + 8 * c.B_BOX_MASKS), load_word(source + 8 * c.C_COUNT)
    )  # fmt: skip
    rows, columns, size = (
        load_word(source + 8 * c.B_ROWS), load_word(source + 8 * c.B_COLUMNS), load_word(source + 8 * c.B_KIND)
    )  # fmt: skip
    box, lanes = load_word(source + 8 * c.B_BOX), load_word(source + 8 * c.C_LANES)
    offsets = load_word(source + 8 * c.B_OFFSET) + expert * load_word(source + 8 * c.B_EXPERT_OFFSET)
    windows, chunk = load_word(head + 8 * c.M_WINDOWS), load_word(head + 8 * c.M_CHUNK)
    row, column = first // width, first % width
    for pixel in range(count):
        kind = (load_word(rows + 8 * row) + load_word(columns + 8 * column)) // size
        start = load_word(box + 8 * kind)
        for group in range(load_word(source + 8 * c.C_GROUPS)):
            window = load_word(windows + 8 * pixel) + group * load_word(source + 8 * c.C_IN)
            ones = 0
            for word in range(words):
                bits = load_word(window + load_word(places + 8 * word))
                ones += popcount(bits & load_word(masks + 8 * word))
            total = splat(np.float32(start + 2 * ones))
            to = chunk + pixel * pitch + group * load_word(source + 8 * c.C_OUT)
            for lane in range(0, 4 * lanes, VECTOR_BYTES):
                offset = load(offsets + 4 * group * lanes + lane)
                store(to + lane, times_plus(offset, total, load(to + lane)))
        column += 1
        if column == width:
            column, row = 0, row + 1


@inner
def convolve_reals(source: int, first: int, count: int, width: int, pitch: int, head: int) -> None:
    """Convolve real values, with a shift."""
    windows, chunk = load_word(head + 8 * c.M_WINDOWS), load_word(head + 8 * c.M_CHUNK)
    find_windows(source, first, count, width, windows)
    places, taps, run = (
        load_word(source + 8 * c.C_PLACES), load_word(source + 8 * c.C_COUNT), load_word(source + 8 * c.R_RUN)
    )  # fmt: skip
    lanes, shifts = load_word(source + 8 * c.C_LANES), load_word(source + 8 * c.C_SHIFT)
    bank = load_word(source + 8 * c.C_WEIGHTS) + chosen(source) * load_word(source + 8 * c.C_EXPERT_WEIGHTS)
    for group in range(load_word(source + 8 * c.C_GROUPS)):
        beyond = group * load_word(source + 8 * c.C_IN)
        out = chunk + group * load_word(source + 8 * c.C_OUT)
        weights = bank + group * load_word(source + 8 * c.C_GROUP_WEIGHTS)
        lane = 0
        while lane < lanes:
            shift, to, vectors = shifts + 4 * (group * lanes + lane), out + 4 * lane, widest(lanes - lane)
            if vectors == WIDE:
                wide_real_rows(windows, beyond, count, places, weights, taps, run, shift, to, pitch)
            elif vectors == HALF:
                half_real_rows(windows, beyond, count, places, weights, taps, run, shift, to, pitch)
            else:
                single_real_rows(windows, beyond, count, places, weights, taps, run, shift, to, pitch)
            weights += 4 * taps * run * vectors * LANES
            lane += vectors * LANES


@inner
def pool(source: int, first: int, count: int, width: int, vectors: int, pitch: int, chunk: int, is_mean: bool) -> None:
    """Take the largest value, or the mean, of each window, as far as it lies on the image."""
    base, down, right = (
        load_word(source + 8 * c.BASE), load_word(source + 8 * c.ROW), load_word(source + 8 * c.PIXEL)
    )  # fmt: skip
    height, across = load_word(source + 8 * c.P_HEIGHT), load_word(source + 8 * c.P_WIDTH)
    above, left = load_word(source + 8 * c.P_ABOVE), load_word(source + 8 * c.P_LEFT)
    for pixel in range(count):
        row, column = (first + pixel) // width, (first + pixel) % width
        top = row * load_word(source + 8 * c.P_DOWN) - above
        side = column * load_word(source + 8 * c.P_RIGHT) - left
        bottom = min(top + load_word(source + 8 * c.P_ROWS), height + above)
        end = min(side + load_word(source + 8 * c.P_COLUMNS), across + left)
        size = (bottom - top) * (end - side)
        top, side, bottom, end = max(top, 0), max(side, 0), min(bottom, height), min(end, across)
        if not load_word(source + 8 * c.P_COUNT_PADDING):
            size = (bottom - top) * (end - side)
        share = splat(np.float32(1) / np.float32(size))
        for lane in range(0, vectors * VECTOR_BYTES, VECTOR_BYTES):
            found = load(base + top * down + side * right + lane)
            for y in range(top, bottom):
                for x in range(side, end):
                    if y == top and x == side:
                        continue
                    seen = load(base + y * down + x * right + lane)
                    found = plus(found, seen) if is_mean else larger(seen, found)
            store(chunk + pixel * pitch + lane, times(found, share) if is_mean else found)


@inner
def flatten(source: int, chunk: int) -> None:
    """Put all values one after the other, channel by channel."""
    base, down, right = (
        load_word(source + 8 * c.BASE), load_word(source + 8 * c.ROW), load_word(source + 8 * c.PIXEL)
    )  # fmt: skip
    to = chunk
    for channel in range(load_word(source + 8 * c.F_CHANNELS)):
        for row in range(load_word(source + 8 * c.F_HEIGHT)):
            for column in range(load_word(source + 8 * c.F_WIDTH)):
                store_real(to, load_real(base + row * down + column * right + 4 * channel))
                to += 4
