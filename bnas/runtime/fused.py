"""The end of a unit, as compiled code: all that is done with a vector while it is in a register."""

from collections.abc import Collection
from typing import Any

import numpy as np

from bnas.runtime import codes as c
from bnas.runtime.cpu import VECTOR_BYTES
from bnas.runtime.jit import inner
from bnas.runtime.vector import (
    bend,
    load,
    load_halfword,
    load_word,
    not_below,
    plus,
    splat,
    store,
    store_halfword,
    times,
    times_plus,
)


def fused_kernel(name: str, *, always: Collection[int] = (), never: Collection[int] = ()) -> Any:
    """Return the function that does what a FUSED part says.

    Args:
        always, never: fields that are known to be there, or not to be: the fewer questions are asked of each vector.
    """
    (
        (asks_from, has_from), (asks_factor, has_factor), (asks_scale, has_scale), (asks_slope, has_slope),
        (asks_later, has_later), (asks_summand, has_summand), (asks_bend, has_bend), (asks_to, has_to),
        (asks_bits, has_bits), (asks_mean, has_mean), (asks_back, has_back),
    ) = ((field not in always and field not in never, field in always) for field in c.U_PARTS)  # fmt: skip

    def fused(part: int, first: int, count: int, width: int, vectors: int, pitch: int, head: int) -> None:
        chunk, totals = load_word(head + 8 * c.M_CHUNK), load_word(head + 8 * c.M_SPARE)
        froms, factors, summands, tos, halfwords = (
            load_word(part + 8 * c.U_FROM), load_word(part + 8 * c.U_FACTOR), load_word(part + 8 * c.U_SUMMAND),
            load_word(part + 8 * c.U_TO), load_word(part + 8 * c.U_BITS),
        )  # fmt: skip
        scales, shifts = load_word(part + 8 * c.U_SCALE), load_word(part + 8 * c.U_SHIFT)
        slopes, later_scales = load_word(part + 8 * c.U_SLOPE), load_word(part + 8 * c.U_LATER_SCALE)
        later_slopes = load_word(part + 8 * c.U_LATER_SLOPE)
        later_shifts, mean = load_word(part + 8 * c.U_LATER_SHIFT), load_word(part + 8 * c.U_MEAN)
        thresholds, flips = load_word(part + 8 * c.U_AT), load_word(part + 8 * c.U_FLIP)
        group_step, in_group = load_word(part + 8 * c.U_BITS_GROUP), load_word(part + 8 * c.U_HALFWORDS)
        is_kept = load_word(part + 8 * c.U_BACK)
        if has_mean or (asks_mean and mean):
            for lane in range(0, vectors * VECTOR_BYTES, VECTOR_BYTES):
                store(totals + lane, splat(np.float32(0)))
        row, column = first // width, first % width
        for pixel in range(count):
            held = chunk + pixel * pitch
            at = held
            if has_from or (asks_from and froms):
                at = froms + row * load_word(part + 8 * c.U_FROM_ROW) + column * load_word(part + 8 * c.U_FROM_PIXEL)
            factor = factors + row * load_word(part + 8 * c.U_FACTOR_ROW)
            factor += column * load_word(part + 8 * c.U_FACTOR_PIXEL)
            summand = summands + row * load_word(part + 8 * c.U_SUMMAND_ROW)
            summand += column * load_word(part + 8 * c.U_SUMMAND_PIXEL)
            to = tos + row * load_word(part + 8 * c.U_TO_ROW) + column * load_word(part + 8 * c.U_TO_PIXEL)
            bits = halfwords + row * load_word(part + 8 * c.U_BITS_ROW) + column * load_word(part + 8 * c.U_BITS_PIXEL)
            filled = 0
            for lane in range(0, vectors * VECTOR_BYTES, VECTOR_BYTES):
                value = load(at + lane)
                if has_factor or (asks_factor and factors):
                    value = times(value, load(factor + lane))
                if has_scale or (asks_scale and scales):
                    value = times_plus(value, load(scales + lane), load(shifts + lane))
                if has_slope or (asks_slope and slopes):
                    value = bend(value, load(slopes + lane))
                if has_later or (asks_later and later_scales):
                    value = times_plus(value, load(later_scales + lane), load(later_shifts + lane))
                if has_summand or (asks_summand and summands):
                    value = plus(value, load(summand + lane))
                if has_bend or (asks_bend and later_slopes):
                    value = bend(value, load(later_slopes + lane))
                if has_back or (asks_back and is_kept):
                    store(held + lane, value)
                if has_to or (asks_to and tos):
                    store(to + lane, value)
                if has_mean or (asks_mean and mean):
                    store(totals + lane, plus(load(totals + lane), value))
                if has_bits or (asks_bits and halfwords):
                    found = not_below(value, load(thresholds + lane)) ^ load_halfword(flips + lane // 32)
                    store_halfword(bits, found)
                    bits, filled = bits + 2, filled + 1
                    if filled == in_group:
                        bits, filled = bits + group_step - 2 * in_group, 0
            column += 1
            if column == width:
                column, row = 0, row + 1
        if has_mean or (asks_mean and mean):
            add_share(mean, load(load_word(part + 8 * c.U_SHARE)), totals, first == 0, vectors)

    return inner(fused, name=name)


@inner
def add_share(mean: int, share: Any, totals: int, is_first: bool, vectors: int) -> None:
    """Add these pixels' part to the mean of all, which the first of them begin."""
    for lane in range(0, vectors * VECTOR_BYTES, VECTOR_BYTES):
        before = splat(np.float32(0)) if is_first else load(mean + lane)
        store(mean + lane, times_plus(load(totals + lane), share, before))


def _usual(kind: int) -> Any:
    """Return the function for a combination that many networks are made of."""
    always = c.USUAL[kind]
    never = set(c.U_PARTS) - always - {c.U_FROM}
    return fused_kernel(f"fused_{kind}", always=always, never=never)


fused_all = fused_kernel("fused_all")
fused_bits, fused_unit, fused_residual, fused_excited = map(_usual, c.USUAL)
