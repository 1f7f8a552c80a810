"""Passes and their places -> code and tables in memory, which `machine.py` runs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnas.runtime import codes as c
from bnas.runtime.cpu import LANES, VECTOR_BYTES
from bnas.runtime.lanes import bit_window, bit_words, per_lane, real_weights, real_window, starts_of
from bnas.runtime.passes import Pass, Sink, View, passes_of
from bnas.runtime.places import SLACK, Key, Place, keys_of, lay_out, padded
from bnas.runtime.program import Program
from bnas.runtime.steps import Add, Affine, Argmax, Clip, Concat, Conv, Flatten, Pool, PReLU, Sigmoid, Step, Threshold

CHUNK_VALUES = 4096  # as many float32 values as stay in the nearest cache beside what a convolution reads
MOST_PIXELS = 128
LEAST_PIXELS = 12


class Memory(NamedTuple):
    """Somewhere in the memory of values, which is each caller's own."""

    offset: int


class Code(NamedTuple):
    """Code for memory that begins at 0.

    Attributes:
        words: int64.
        relative: where in `words` the addresses in memory stand.
        tables: what other addresses point to.
        size: of memory, in bytes.
        starts: of the passes, in `words`.
        passes: the passes themselves.
    """

    words: NDArray[np.int64]
    relative: NDArray[np.int64]
    tables: tuple[NDArray[Any], ...]
    size: int
    starts: tuple[int, ...]
    passes: tuple[Pass, ...]

    def at(self, address: int) -> NDArray[np.int64]:
        """Return the words for memory at an address."""
        words = self.words.copy()
        words[self.relative] += address
        return words

    def again(self, first: int, end: int, *, times: int) -> "Code":
        """Return code that runs the passes before `first` once, those up to `end` so many times, and no others."""
        begin, stop = (
            self.starts[number] if number < len(self.starts) else len(self.words) - 1 for number in (first, end)
        )
        places = np.r_[0:begin, np.tile(np.arange(begin, stop), times), len(self.words) - 1]
        return self._replace(words=self.words[places], relative=np.flatnonzero(np.isin(places, self.relative)))


Word = int | Memory


class Chain:
    """The parts of a chain, as many as can be fused."""

    def __init__(self) -> None:
        self._words: list[Word] = []
        self._fused: dict[int, Word] = {}

    def add(self, kind: int, words: Sequence[Word]) -> None:
        """Add a part of its own."""
        self._flush(is_kept=True)
        self._words += [c.HEAD_WORDS + len(words), kind, *words]

    def fuse(self, *choices: dict[int, Word]) -> None:
        """Add to the part that does many things in one go, in the first of these ways that comes after all it does."""
        last = max(self._fused, default=-1)
        for fields in choices:
            is_sink = min(fields) >= c.U_TO  # sinks may be written in any order
            if not fields.keys() & self._fused.keys() if is_sink else min(fields) > last:
                self._fused |= fields
                return
        self._flush(is_kept=True)
        self._fused = dict(choices[0])

    def words(self) -> list[Word]:
        """Return all words, and an end."""
        self._flush(is_kept=False)
        return [*self._words, c.HEAD_WORDS, c.END]

    def _flush(self, *, is_kept: bool) -> None:
        if self._fused:
            fields = self._fused | {c.U_BACK: int(is_kept)}
            words = [fields.get(field, 0) for field in range(c.U_WORDS)]
            there = {part for part in c.U_PARTS if fields.get(part, 0) != 0} - {c.U_FROM}
            kind = next((kind for kind, usual in c.USUAL.items() if usual == there), c.FUSED)
            self._words += [c.HEAD_WORDS + len(words), kind, *words]
        self._fused = {}


def assemble(program: Program) -> Code:
    """Return the code of a program."""
    return _Assembler(program).code()


class _Assembler:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._passes = passes_of(program)
        self._layout = lay_out(program, self._passes)
        self._tables: list[NDArray[Any]] = []
        self._chunk = self._windows = self._lanes_in_chunk = 0

    def code(self) -> Code:
        bodies = [self._pass(made) for made in self._passes]
        starts = np.cumsum([c.M_WORDS, *(len(body) for body in bodies)])
        head, size = self._head()
        words = [*head, *(word for body in bodies for word in body), 0]
        relative = [index for index, word in enumerate(words) if isinstance(word, Memory)]
        values = [word.offset if isinstance(word, Memory) else word for word in words]
        return Code(
            np.array(values, np.int64), np.array(relative, np.int64), tuple(self._tables), size,
            tuple(starts[:-1].tolist()), tuple(self._passes),
        )  # fmt: skip

    def _head(self) -> tuple[list[Word], int]:
        """Return the head of all code, and the size of memory with what is computed with meanwhile."""
        chunk = self._layout.size
        windows = chunk + padded(self._chunk + SLACK, VECTOR_BYTES)
        starts = windows + padded(8 * self._windows, VECTOR_BYTES)
        spare = starts + padded(8 * self._windows, VECTOR_BYTES)
        spare_size = max(VECTOR_BYTES, 4 * self._lanes_in_chunk)
        image, result = self._place(0), self._place(len(self._program.steps))
        head: list[Word] = [
            Memory(chunk), Memory(windows), Memory(starts), Memory(spare), *self._program.input,
            Memory(image.offset), image.row, image.pixel, Memory(result.offset), self._program.classes,
        ]  # fmt: skip
        return head, spare + spare_size

    def _pass(self, made: Pass) -> list[Word]:
        value = self._program.values[made.slots[0]]
        values = _held(made.source, value.channels)
        pixels = _chunk_pixels(values, value.pixels)
        self._chunk, self._windows = max(self._chunk, 4 * values * pixels), max(self._windows, pixels)
        self._lanes_in_chunk = max(self._lanes_in_chunk, values)
        kind, source = self._source(made)
        chain = Chain()
        if kind == c.LOAD and source[c.WRAP] == c.STRAIGHT and source[c.START] == 0:
            kind = c.NOTHING
            chain.fuse(dict(zip(range(c.U_FROM, c.U_FACTOR), source, strict=False)))
        self._parts(chain, made)
        words, body = chain.words(), c.PASS_WORDS + len(source)
        head: list[Word] = [
            body + len(words), kind, value.pixels, value.width, padded(value.channels) // LANES, 4 * values, pixels,
            body,
        ]  # fmt: skip
        return [*head, *source, *words]

    def _source(self, made: Pass) -> tuple[int, list[Word]]:
        """Return the kind and the words of what a pass begins with."""
        step, slot = made.source, made.loaded.slot
        if step is None:
            return c.LOAD, self._view(made.loaded, made.slots[0])
        if isinstance(step, Conv):
            if self._program.values[slot].kind == "bits":
                return c.CONV_BITS, self._bits(made, step)
            return c.CONV_REAL, self._reals(made, step)
        x, place = self._program.values[slot], self._place(slot)
        where: list[Word] = [Memory(place.offset), place.row, place.pixel]
        if isinstance(step, Flatten):
            return c.FLATTEN, [*where, x.height, x.width, x.channels]
        assert isinstance(step, Pool)
        words = [*where, x.height, x.width, *step.kernel, *step.stride, *step.padding, int(step.count_padding)]
        return (c.MEAN if step.mean else c.MAX), words

    def _convolution(self, step: Conv, place: Place, beyond: int, window: Any, weights: NDArray[Any]) -> list[Word]:
        """Return the words that all convolutions have; weights are [experts, ...]."""
        above, _, left, _ = step.padding
        out = step.filters.shape[1]
        choice: list[Word] = [Memory(self._place(slot).offset) for slot in step.inputs[1:]]
        return [
            Memory(place.offset - above * place.row - left * place.pixel),
            step.stride[0] * place.row,
            step.stride[1] * place.pixel,
            step.groups,
            beyond,
            4 * (out // step.groups),
            padded(out // step.groups),
            self._table(window.places),
            len(window.places),
            self._table(weights),
            weights[0].nbytes // step.groups,
            weights[0].nbytes,
            self._table(per_lane(None if step.bias is None else step.bias[None], step)[0]),
            *(choice or [0]),
        ]

    def _bits(self, made: Pass, step: Conv) -> list[Word]:
        slot = made.loaded.slot
        place = self._layout.places[Key(slot, step.groups)]
        window = bit_window(step, place)
        starts = starts_of(step, self._program.values[slot], self._program.values[made.slots[0]])
        filters: Any = step.filters
        scale = per_lane(filters.scale, step)
        offset = None if filters.offset is None else per_lane(filters.offset, step)
        common = self._convolution(step, place, place.group, window, bit_words(step, window, place))
        kind = starts.filters[0, 0].nbytes
        return [
            *common,
            self._table(window.masks) if window.is_masked else 0,
            self._table(starts.rows * kind),
            self._table(starts.columns * kind),
            self._table(starts.filters),
            starts.filters[0].nbytes,
            self._table(scale),
            scale[0].nbytes,
            kind,
            self._table(starts.box.astype(np.int64)),
            self._table(window.masks),
            0 if offset is None else self._table(offset),
            0 if offset is None else offset[0].nbytes,
        ]

    def _reals(self, made: Pass, step: Conv) -> list[Word]:
        place = self._place(made.loaded.slot)
        window = real_window(step, place)
        beyond = 4 * step.filters.shape[2]
        return [*self._convolution(step, place, beyond, window, real_weights(step)), window.run]

    def _parts(self, chain: Chain, made: Pass) -> None:
        """Add what makes the slots of a pass, and writes their values."""
        for slot in made.slots:
            if slot != made.slots[0]:
                self._value_by_value(chain, made, slot)
            for sink in made.sinks[slot]:
                self._sunk(chain, slot, sink)

    def _value_by_value(self, chain: Chain, made: Pass, slot: int) -> None:
        step, channels = self._program.steps[slot - 1], self._program.values[slot].channels
        if isinstance(step, Affine):
            scale, shift = self._lanes(step.scale, channels, 1.0), self._lanes(step.shift, channels, 0.0)
            chain.fuse({c.U_SCALE: scale, c.U_SHIFT: shift}, {c.U_LATER_SCALE: scale, c.U_LATER_SHIFT: shift})
        elif isinstance(step, PReLU):
            slope = self._lanes(step.slope, channels, 0.0)
            chain.fuse({c.U_SLOPE: slope}, {c.U_LATER_SLOPE: slope})
        elif isinstance(step, Clip):
            chain.add(c.CLIP, [self._lanes(np.full(1, limit), 1, 0.0) for limit in (step.low, step.high)])
        elif isinstance(step, Sigmoid):
            chain.add(c.SIGMOID, [])
        else:
            self._combined(chain, isinstance(step, Add), made.operands[slot], slot)

    def _combined(self, chain: Chain, is_sum: bool, operand: View, slot: int) -> None:
        view = self._view(operand, slot)
        base, row, pixel, start, _, wrap = view
        if wrap == c.STRAIGHT and start == 0:
            first = c.U_SUMMAND if is_sum else c.U_FACTOR
            chain.fuse({first: base, first + 1: row, first + 2: pixel})
        else:
            chain.add(c.ADD if is_sum else c.MULTIPLY, view)

    def _sunk(self, chain: Chain, slot: int, sink: Sink) -> None:
        """Write the values of a slot to where they go."""
        step, value = self._program.steps[sink.slot - 1], self._program.values[slot]
        if sink.slot != slot and isinstance(step, Threshold):
            for key in keys_of(self._program, sink.slot):
                self._bits_out(chain, key, step, value.channels)
            return
        place = self._place(sink.slot)
        vectors, tail = divmod(value.channels, LANES)
        if sink.slot != slot and isinstance(step, Argmax):
            chain.add(c.CHOOSE, [Memory(place.offset), value.channels])
        elif sink.slot != slot and isinstance(step, Pool):
            share = self._table(np.full(LANES, 1 / value.pixels, np.float32))
            chain.fuse({c.U_MEAN: Memory(place.offset), c.U_SHARE: share})
        elif isinstance(step, Concat) and tail:
            to = Memory(place.offset + 4 * sink.channel)
            chain.add(c.STORE, [to, place.row, place.pixel, vectors, tail])
        else:  # memory of its own has room for whole vectors
            to = Memory(place.offset + 4 * sink.channel)
            chain.fuse({c.U_TO: to, c.U_TO_ROW: place.row, c.U_TO_PIXEL: place.pixel})

    def _bits_out(self, chain: Chain, key: Key, step: Threshold, channels: int) -> None:
        place, size = self._layout.places[key], channels // key.groups
        lanes = padded(size)
        at, flip = np.full((key.groups, lanes), np.inf, np.float32), np.zeros((key.groups, lanes), np.bool_)
        at[:, :size] = np.broadcast_to(step.at, channels).reshape(key.groups, size)
        flip[:, :size] = np.broadcast_to(step.flip, channels).reshape(key.groups, size)
        tables = self._table(at), self._table(np.packbits(flip, bitorder="little"))
        where: list[Word] = [Memory(place.offset), place.row, place.pixel]
        if size == lanes or key.groups == 1:
            fields = range(c.U_BITS, c.U_FLIP + 1)
            chain.fuse(dict(zip(fields, [*where, place.group, lanes // LANES, *tables], strict=True)))
        else:
            chain.add(c.BITS, [*where, key.groups, place.group, 4 * size, lanes // LANES, *tables])

    def _view(self, view: View, slot: int) -> list[Word]:
        """Return the words of an operand of a slot; one pixel stands for all."""
        x, made, place = self._program.values[view.slot], self._program.values[slot], self._place(view.slot)
        wrap = c.STRAIGHT
        if view.start + made.channels > x.channels:
            wrap = c.BY_VALUE if x.channels % LANES or view.start % LANES else c.BY_VECTOR
        row, pixel = (place.row, place.pixel) if x.pixels == made.pixels else (0, 0)
        return [Memory(place.offset), row, pixel, view.start, x.channels, wrap]

    def _place(self, slot: int) -> Place:
        return self._layout.places[Key(slot)]

    def _lanes(self, values: NDArray[Any] | None, channels: int, default: float) -> int:
        """Keep one value a channel, and zeros up to whole vectors; one value alone fills at least a vector."""
        lanes = np.zeros(padded(channels), np.float32)
        lanes[: channels if channels > 1 else None] = default if values is None else values
        return self._table(lanes)

    def _table(self, values: NDArray[Any]) -> int:
        """Keep an array, aligned, and return its address."""
        size = values.nbytes
        room = np.zeros(size + VECTOR_BYTES + SLACK, np.uint8)
        shift = -room.ctypes.data % VECTOR_BYTES
        room[shift : shift + size] = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._tables.append(room)
        return int(room.ctypes.data + shift)


def _held(source: Step | None, channels: int) -> int:
    """Return how many values the chunk holds for a pixel; the last group of a convolution is whole vectors too."""
    if not isinstance(source, Conv):
        return padded(channels)
    size = channels // source.groups
    return padded(channels - size + padded(size))


def _chunk_pixels(values: int, pixels: int) -> int:
    """Return how many pixels are computed with at a time."""
    return min(pixels, MOST_PIXELS, max(LEAST_PIXELS, CHUNK_VALUES // values))
