"""What a pass does with the pixels in the chunk, as compiled code: value by value steps, and where the values go."""

import math

import numpy as np

from bnas.runtime import codes as c
from bnas.runtime.cpu import LANES, VECTOR_BYTES
from bnas.runtime.jit import inner
from bnas.runtime.vector import (
    larger,
    load,
    load_halfword,
    load_real,
    load_word,
    not_below,
    plus,
    smaller,
    store,
    store_halfword,
    store_real,
    store_word,
    times,
)


@inner
def viewed(at: int, lane: int, start: int, channels: int, wrap: int, spare: int) -> int:
    """Return where the values of one vector of a view lie; copied together if need be."""
    if wrap == c.STRAIGHT:
        return at + 4 * (start + lane)
    if wrap == c.BY_VECTOR:
        return at + 4 * ((start + lane) % channels)
    for index in range(LANES):
        store_real(spare + 4 * index, load_real(at + 4 * ((start + lane + index) % channels)))
    return spare


@inner
def combine(view: int, kind: int, first: int, count: int, width: int, vectors: int, pitch: int, head: int) -> None:
    """Load a view, or add it to the chunk, or multiply the chunk with it."""
    base, down, right = load_word(view + 8 * c.BASE), load_word(view + 8 * c.ROW), load_word(view + 8 * c.PIXEL)
    start, channels = load_word(view + 8 * c.START), load_word(view + 8 * c.CHANNELS)
    wrap, spare = load_word(view + 8 * c.WRAP), load_word(head + 8 * c.M_SPARE)
    row, column = first // width, first % width
    to = load_word(head + 8 * c.M_CHUNK)
    for _ in range(count):
        at = base + row * down + column * right
        for vector in range(vectors):
            place = to + vector * VECTOR_BYTES
            value = load(viewed(at, vector * LANES, start, channels, wrap, spare))
            if kind == c.ADD:
                store(place, plus(load(place), value))
            elif kind == c.MULTIPLY:
                store(place, times(load(place), value))
            else:
                store(place, value)
        to += pitch
        column += 1
        if column == width:
            column, row = 0, row + 1


@inner
def clip(part: int, chunk: int, count: int, vectors: int, pitch: int) -> None:
    """Keep values between limits."""
    low, high = load(load_word(part)), load(load_word(part + 8))
    for pixel in range(count):
        to = chunk + pixel * pitch
        for lane in range(0, vectors * VECTOR_BYTES, VECTOR_BYTES):
            store(to + lane, smaller(larger(load(to + lane), low), high))


@inner
def sigmoid(chunk: int, count: int, vectors: int, pitch: int) -> None:
    """Apply 1 / (1 + exp(-x)), one value after the other: it is for few values."""
    for pixel in range(count):
        for place in range(chunk + pixel * pitch, chunk + pixel * pitch + vectors * VECTOR_BYTES, 4):
            x = load_real(place)
            small = np.float32(math.exp(-abs(x)))
            one = np.float32(1)
            store_real(place, one / (one + small) if x >= 0 else small / (one + small))


@inner
def keep(part: int, first: int, count: int, width: int, pitch: int, chunk: int) -> None:
    """Write the values."""
    base, down, right = load_word(part + 8 * c.BASE), load_word(part + 8 * c.ROW), load_word(part + 8 * c.PIXEL)
    vectors, tail = load_word(part + 8 * c.S_VECTORS), load_word(part + 8 * c.S_TAIL)
    row, column = first // width, first % width
    at = chunk
    for _ in range(count):
        to = base + row * down + column * right
        for lane in range(0, vectors * VECTOR_BYTES, VECTOR_BYTES):
            store(to + lane, load(at + lane))
        for place in range(vectors * VECTOR_BYTES, vectors * VECTOR_BYTES + 4 * tail, 4):
            store_real(to + place, load_real(at + place))
        at += pitch
        column += 1
        if column == width:
            column, row = 0, row + 1


@inner
def keep_bits(part: int, first: int, count: int, width: int, pitch: int, chunk: int) -> None:
    """Write which values are not below their channel's threshold, sixteen at a time."""
    base, down, right = load_word(part + 8 * c.BASE), load_word(part + 8 * c.ROW), load_word(part + 8 * c.PIXEL)
    groups, halfwords = load_word(part + 8 * c.T_GROUPS), load_word(part + 8 * c.T_HALFWORDS)
    group_to, group_from = load_word(part + 8 * c.T_GROUP), load_word(part + 8 * c.T_FROM)
    thresholds, flips = load_word(part + 8 * c.T_AT), load_word(part + 8 * c.T_FLIP)
    row, column = first // width, first % width
    at = chunk
    for _ in range(count):
        to = base + row * down + column * right
        number = 0
        for group in range(groups):
            for part_of_group in range(halfwords):
                value = load(at + group * group_from + part_of_group * VECTOR_BYTES)
                bits = not_below(value, load(thresholds + number * VECTOR_BYTES)) ^ load_halfword(flips + 2 * number)
                store_halfword(to + group * group_to + 2 * part_of_group, bits)
                number += 1
        at += pitch
        column += 1
        if column == width:
            column, row = 0, row + 1


@inner
def choose(part: int, chunk: int) -> None:
    """Write which channel has the largest value, the first of them if several have."""
    best = 0
    for channel in range(1, load_word(part + 8 * c.H_CHANNELS)):
        if load_real(chunk + 4 * channel) > load_real(chunk + 4 * best):
            best = channel
    store_word(load_word(part + 8 * c.H_TO), best)
