"""Code in memory and images -> logits: one compiled function that goes through all passes of a network.

Calls from Python cost more than a small network does, so there is one call for all images.
"""

import numpy as np

from bnas.runtime import codes as c
from bnas.runtime.chain import choose, clip, combine, keep, keep_bits, sigmoid
from bnas.runtime.fused import fused_all, fused_bits, fused_excited, fused_residual, fused_unit
from bnas.runtime.jit import inlined, inner
from bnas.runtime.sources import convolve_bits, convolve_reals, flatten, pool
from bnas.runtime.vector import load_real, load_word, store_real


@inlined
def begin(work: int, first: int, count: int, head: int) -> None:
    """Fill the chunk with what a pass begins with."""
    kind, width, pitch = load_word(work + 8 * c.SOURCE), load_word(work + 8 * c.WIDTH), load_word(work + 8 * c.PITCH)
    source, vectors = work + 8 * c.PASS_WORDS, load_word(work + 8 * c.VECTORS)
    if kind == c.CONV_BITS:
        convolve_bits(source, first, count, width, pitch, head)
    elif kind == c.CONV_REAL:
        convolve_reals(source, first, count, width, pitch, head)
    elif kind == c.LOAD:
        combine(source, c.END, first, count, width, vectors, pitch, head)
    elif kind == c.FLATTEN:
        flatten(source, load_word(head + 8 * c.M_CHUNK))
    elif kind != c.NOTHING:
        pool(source, first, count, width, vectors, pitch, load_word(head + 8 * c.M_CHUNK), kind == c.MEAN)


@inlined
def follow(work: int, first: int, count: int, head: int) -> None:
    """Do with the chunk what the chain of a pass says."""
    width, pitch, vectors = (
        load_word(work + 8 * c.WIDTH), load_word(work + 8 * c.PITCH), load_word(work + 8 * c.VECTORS)
    )  # fmt: skip
    chunk, at = load_word(head + 8 * c.M_CHUNK), work + 8 * load_word(work + 8 * c.CHAIN)
    while True:
        kind, part = load_word(at + 8 * c.PART_KIND), at + 8 * c.HEAD_WORDS
        if kind == c.END:
            return
        if kind == c.FUSED:
            fused_all(part, first, count, width, vectors, pitch, head)
        elif kind == c.FUSED_BITS:
            fused_bits(part, first, count, width, vectors, pitch, head)
        elif kind == c.FUSED_UNIT:
            fused_unit(part, first, count, width, vectors, pitch, head)
        elif kind == c.FUSED_RESIDUAL:
            fused_residual(part, first, count, width, vectors, pitch, head)
        elif kind == c.FUSED_EXCITED:
            fused_excited(part, first, count, width, vectors, pitch, head)
        elif kind in (c.ADD, c.MULTIPLY):
            combine(part, kind, first, count, width, vectors, pitch, head)
        elif kind == c.STORE:
            keep(part, first, count, width, pitch, chunk)
        elif kind == c.BITS:
            keep_bits(part, first, count, width, pitch, chunk)
        elif kind == c.CLIP:
            clip(part, chunk, count, vectors, pitch)
        elif kind == c.SIGMOID:
            sigmoid(chunk, count, vectors, pitch)
        else:
            choose(part, chunk)
        at += 8 * load_word(at + 8 * c.PART_LENGTH)


@inlined
def walk(work: int, head: int) -> None:
    """Run one pass over all its pixels, as many at a time as the chunk holds."""
    pixels, most = load_word(work + 8 * c.PIXELS), load_word(work + 8 * c.CHUNK)
    first = 0
    while first < pixels:
        count = min(most, pixels - first)
        begin(work, first, count, head)
        follow(work, first, count, head)
        first += count


@inner
def take_image(image: int, head: int) -> bool:
    """Lay an image [channels, height, width] out pixel by pixel; return whether all its values are finite."""
    channels, height, width = (
        load_word(head + 8 * c.M_CHANNELS), load_word(head + 8 * c.M_HEIGHT), load_word(head + 8 * c.M_WIDTH)
    )  # fmt: skip
    base, down, right = (
        load_word(head + 8 * c.M_IMAGE), load_word(head + 8 * c.M_ROW), load_word(head + 8 * c.M_PIXEL)
    )  # fmt: skip
    found = np.float32(0)
    for channel in range(channels):
        for row in range(height):
            at = image + 4 * (channel * height + row) * width
            to = base + row * down + 4 * channel
            for column in range(width):
                value = load_real(at + 4 * column)
                store_real(to + column * right, value)
                found += value * np.float32(0)
    return bool(found == 0)


@inner
def execute(head: int, images: int, logits: int, count: int, only: int) -> int:
    """Compute the logits of images; return how many were computed before one with a value that is not finite.

    Args:
        head: address of the code.
        images: address of float32 [count, channels, height, width].
        logits: address of float32 [count, classes].
        only: address of one pass to run on what lies in memory, in place of all, with a count of 1; 0 for none.
    """
    size = 4 * load_word(head + 8 * c.M_CHANNELS) * load_word(head + 8 * c.M_HEIGHT) * load_word(head + 8 * c.M_WIDTH)
    classes = load_word(head + 8 * c.M_CLASSES)
    for number in range(count):
        if not only and not take_image(images + number * size, head):
            return number
        work = only if only else head + 8 * c.M_WORDS
        while load_word(work):
            walk(work, head)
            if only:
                return 0
            work += 8 * load_word(work)
        for index in range(classes):
            value = load_real(load_word(head + 8 * c.M_RESULT) + 4 * index)
            store_real(logits + 4 * (number * classes + index), value)
    return count
