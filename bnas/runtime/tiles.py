"""Innermost loops: a few output pixels times a few vectors of output channels, held in registers over all products.

Each is written as LLVM IR for its number of pixels and vectors, because how many registers hold a tile is what decides
its speed. A tile of bits counts where input and weight differ: lanes are output channels, each with a count of its own.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from bnas.runtime.cpu import BIT_WORD, LANES, VECTOR_BYTES
from bnas.runtime.vector import ADDRESS, REAL, REALS, WHOLES, WORD, call, operation, read, spread, write

COUNT = ir.IntType(8 * BIT_WORD)
COUNTS = ir.VectorType(COUNT, LANES)


def bit_tile(pixels: int, vectors: int, *, masked: bool) -> Any:
    """Return the function that computes scale * dot + shift for a tile of bits.

    Its arguments: the addresses of a table of the windows of the pixels, and how far beyond each to look; of a table of
    their starts, and how far beyond each [lanes] of int32 lie, the dot products if no bit differed; of the places in a
    window, int64 [count]; of the masks of their words, int64 [count], read if `masked`; of the weights [count, lanes],
    words of BIT_WORD bytes; the count; the addresses of scale and shift [lanes] of float32; of the results
    [pixels, ...]; and how far it is from one pixel's results to the next.
    """
    size = BIT_WORD * LANES

    def emit(b: Any, windows: Any, beyond: Any, starts: Any, lane: Any, *rest: Any) -> None:
        places, masks, weights, count, scale, shift, out, pitch = rest
        table = _table(b, windows, beyond, pixels)

        def products(k: Any, counts: list[Any]) -> list[Any]:
            place, bank = read(b, _at(b, places, k, 8), WORD), _at(b, weights, k, size * vectors)
            words = [read(b, b.add(bank, WORD(size * vector)), COUNTS) for vector in range(vectors)]
            mask = spread(b, read(b, _at(b, masks, k, 8), COUNT), LANES) if masked else None
            found = []
            for pixel, window in enumerate(table):
                seen = spread(b, read(b, b.add(window, place), COUNT), LANES)
                for vector, word in enumerate(words):
                    differ = b.xor(seen, word)
                    differ = differ if mask is None else b.and_(differ, mask)
                    found.append(b.add(counts[pixel * vectors + vector], call(b, "ctpop", differ)))
            return found

        counts = _loop(b, count, [ir.Constant(COUNTS, [0] * LANES)] * (pixels * vectors), products)
        for pixel, start in enumerate(_table(b, starts, lane, pixels)):
            row = b.add(out, b.mul(pitch, WORD(pixel)))
            for vector in range(vectors):
                found = counts[pixel * vectors + vector]
                differing = found if BIT_WORD == 4 else b.trunc(found, WHOLES)
                place = WORD(VECTOR_BYTES * vector)
                dot = b.sub(read(b, b.add(start, place), WHOLES), b.add(differing, differing))
                factor, more = (read(b, b.add(part, place), REALS) for part in (scale, shift))
                write(b, b.add(row, place), call(b, "fmuladd", b.sitofp(dot, REALS), factor, more))

    return operation(emit, types.void, [ADDRESS] * 12)


def real_tile(pixels: int, vectors: int) -> Any:
    """Return the function that computes dot + shift for a tile of real values.

    Its arguments: the addresses of a table of the windows of the pixels, and how far beyond each to look; of the places
    in a window, int64 [count]; of the weights [count, channels, lanes]; the count; how many channels lie one after the
    other at each place; the addresses of shift [lanes]; of the results [pixels, ...]; and how far it is from one
    pixel's results to the next.
    """

    def emit(
        b: Any, windows: Any, beyond: Any, places: Any, weights: Any, count: Any, channels: Any, *rest: Any
    ) -> None:
        shift, out, pitch = rest
        size = VECTOR_BYTES * vectors
        table = _table(b, windows, beyond, pixels)

        def products(k: Any, sums: list[Any]) -> list[Any]:
            place = read(b, _at(b, places, k, 8), WORD)
            seen = [b.add(window, place) for window in table]
            bank = b.add(weights, b.mul(b.mul(k, channels), WORD(size)))

            def of_channel(c: Any, sums: list[Any]) -> list[Any]:
                rows = [read(b, b.add(_at(b, bank, c, size), WORD(VECTOR_BYTES * v)), REALS, 4) for v in range(vectors)]
                values = [spread(b, read(b, _at(b, window, c, 4), REAL, 4), LANES) for window in seen]
                return [
                    call(b, "fmuladd", value, row, sums[p * vectors + v])
                    for p, value in enumerate(values)
                    for v, row in enumerate(rows)
                ]

            return _loop(b, channels, sums, of_channel)

        sums = _loop(b, count, [ir.Constant(REALS, [0.0] * LANES)] * (pixels * vectors), products)
        for pixel in range(pixels):
            row = b.add(out, b.mul(pitch, WORD(pixel)))
            for vector in range(vectors):
                more = read(b, b.add(shift, WORD(VECTOR_BYTES * vector)), REALS)
                write(b, b.add(row, WORD(VECTOR_BYTES * vector)), b.fadd(sums[pixel * vectors + vector], more))

    return operation(emit, types.void, [ADDRESS] * 9)


def _table(b: Any, table: Any, beyond: Any, count: int) -> list[Any]:
    """Return the first addresses of a table, each moved as far."""
    return [b.add(read(b, b.add(table, WORD(8 * index)), WORD, 8), beyond) for index in range(count)]


def _at(b: Any, base: Any, index: Any, size: int) -> Any:
    """Return the address of an element of an array."""
    return b.add(base, b.mul(index, WORD(size)))


def _loop(b: Any, count: Any, values: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Run `body` with 0, 1, ... count - 1 and the values that the run before it gave; count is at least 1."""
    before, loop, after = b.block, b.append_basic_block("loop"), b.append_basic_block("after")
    b.branch(loop)
    b.position_at_end(loop)
    index = b.phi(WORD)
    held = [b.phi(value.type) for value in values]
    made = body(index, held)
    following = b.add(index, WORD(1))
    for phi, first, later in zip([index, *held], [WORD(0), *values], [following, *made], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, b.block)
    b.cbranch(b.icmp_signed("<", following, count), loop, after)
    b.position_at_end(after)
    return made
