"""Passes -> where in memory the values of each slot lie; memory is used again as soon as nothing reads it any more.

Real values lie pixel by pixel, their channels side by side. Bits lie row by row, in a row group by group, in a group
pixel by pixel, and their channels side by side. What a convolution pads has a border of zeros (bits: of -1) all around,
which nothing writes to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from bnas.runtime.cpu import LANES, VECTOR_BYTES
from bnas.runtime.passes import Pass, Sink
from bnas.runtime.program import Program
from bnas.runtime.steps import Conv

SLACK = 4 * VECTOR_BYTES  # whole vectors may be read past the last value, and written past the last pixel
ALWAYS = 2**62

Border = tuple[int, int, int, int]  # rows above and below, columns left and right


class Key(NamedTuple):
    """What has a place of its own: a slot, and for bits the number of groups in which they lie."""

    slot: int
    groups: int = 1


@dataclass(frozen=True)
class Place:
    """Memory of a slot, in bytes.

    Attributes:
        row, group, pixel: from one to the next.
        before: from the start of the border to the first value.
        size: of all, border included.
        border: what surrounds it.
        offset: of the first value, from the start of memory.
    """

    row: int
    group: int
    pixel: int
    before: int
    size: int
    border: Border
    offset: int = 0


class Layout(NamedTuple):
    """Where everything lies, in so many bytes of memory."""

    places: dict[Key, Place]
    size: int


def padded(count: int, multiple: int = LANES) -> int:
    """Return the next multiple."""
    return -(-count // multiple) * multiple


def lay_out(program: Program, passes: Sequence[Pass]) -> Layout:
    """Return a place for every slot that is in memory at some time."""
    lives = _lives(program, passes)
    shapes = {key: _shape(program, key) for key in lives}
    blocks = _blocks(lives, shapes, _in_place(program, passes, lives))
    size = set_offsets(blocks)
    places = {
        key: replace(shapes[key], offset=block.offset + shapes[key].before) for block in blocks for key in block.keys
    }
    return Layout(places, size)


def bit_keys(program: Program, slot: int) -> list[Key]:
    """Return the places of a slot of bits: one for each number of groups in which convolutions want them."""
    readers = (program.steps[number] for number in program.readers[slot])
    return [Key(slot, groups) for groups in sorted({step.groups for step in readers if isinstance(step, Conv)})]


def keys_of(program: Program, slot: int) -> list[Key]:
    """Return the places of a slot."""
    return bit_keys(program, slot) if program.values[slot].kind == "bits" else [Key(slot)]


def _lives(program: Program, passes: Sequence[Pass]) -> dict[Key, tuple[int, int]]:
    """Return the passes before and after which a place is not needed, by their index; the image comes before all."""
    lives = {Key(0): (-1, -1)}
    for now, made in enumerate(passes):
        for slot in (*made.reads(), *made.writes()):
            for key in keys_of(program, slot):
                lives[key] = (lives.get(key, (now, now))[0], now)
    result = Key(len(program.steps))
    return lives | {result: (lives[result][0], len(passes))}


def _in_place(program: Program, passes: Sequence[Pass], lives: dict[Key, tuple[int, int]]) -> dict[Key, Key]:
    """Return which slots may be written where another lies that their pass is the last to read, pixel by pixel."""
    found: dict[Key, Key] = {}
    for now, made in enumerate(passes):
        read = [] if made.source is None else [made.loaded.slot]
        operands = [made.operands[slot].slot if slot in made.operands else 0 for slot in made.slots]
        for index, slot in enumerate(made.slots):
            later = {0, *read, *operands[index + 1 :]}
            for operand in operands[: index + 1] if Sink(slot) in made.sinks[slot] else ():
                is_last = operand not in later and lives[Key(operand)][1] == now
                if is_last and program.values[operand] == program.values[slot] and Key(operand) not in found.values():
                    found[Key(slot)] = Key(operand)
                    break
    return found


def _shape(program: Program, key: Key) -> Place:
    """Return the strides of a place."""
    value, border = program.values[key.slot], _border(program, key)
    above, below, left, right = border
    if value.kind == "bits":
        pixel = 2 * padded(value.channels // key.groups) // LANES
    elif value.kind == "real":
        pixel = 4 * (value.channels if key.slot == 0 else padded(value.channels))
    else:
        pixel = 8  # one int64
    group = (left + value.width + right) * pixel
    row = group * key.groups
    return Place(row, group, pixel, above * row + left * pixel, (above + value.height + below) * row, border)


def _border(program: Program, key: Key) -> Border:
    """Return the widest padding of the convolutions that read a place."""
    readers = (program.steps[number] for number in program.readers[key.slot])
    is_bits = program.values[key.slot].kind == "bits"
    wanted = [
        step.padding
        for step in readers
        if isinstance(step, Conv) and step.inputs[0] == key.slot and (not is_bits or step.groups == key.groups)
    ]
    above, below, left, right = (max(sides) for sides in zip((0, 0, 0, 0), *wanted, strict=True))
    return above, below, left, right


@dataclass
class _Block:
    """Memory of one place after the other, at no time of two."""

    size: int
    born: int
    last: int
    keys: list[Key] = field(default_factory=list)
    offset: int = 0


def _blocks(lives: dict[Key, tuple[int, int]], shapes: dict[Key, Place], in_place: dict[Key, Key]) -> list[_Block]:
    """Return the memory that is needed. A border stays zero, so that its memory is for others of the same shape."""
    blocks: list[_Block] = []
    plain: dict[Key, _Block] = {}
    bordered: dict[Place, list[tuple[int, _Block]]] = {}  # with the pass that reads each last
    for key, (born, last) in sorted(lives.items(), key=lambda item: item[1]):
        shape = shapes[key]
        size = padded(shape.size + SLACK, VECTOR_BYTES)
        if not any(shape.border):
            if in_place.get(key) in plain:
                plain[key] = plain[in_place[key]]
                plain[key].keys.append(key)
                plain[key].last = max(plain[key].last, last)
            else:
                plain[key] = _Block(size, born, last, [key])
                blocks.append(plain[key])
            continue
        same = bordered.setdefault(shape, [])
        block = next((block for read, block in same if read < born), None)
        if block is None:
            block = _Block(size, -1, ALWAYS)
            blocks.append(block)
        block.keys.append(key)
        bordered[shape] = [(read, other) for read, other in same if other is not block] + [(last, block)]
    return blocks


class Block(Protocol):
    """Memory that is needed from a moment to another, both included; `set_offsets` says where it begins."""

    size: int
    born: int
    last: int
    offset: int


def set_offsets(blocks: Sequence[Block]) -> int:
    """Place the largest block first, each as low as those allow that are needed meanwhile; return the end of all."""
    placed: list[Block] = []
    for block in sorted(blocks, key=lambda block: -block.size):
        meanwhile = [other for other in placed if other.born <= block.last and block.born <= other.last]
        for other in sorted(meanwhile, key=lambda other: other.offset):
            if block.offset + block.size <= other.offset:
                break
            block.offset = max(block.offset, other.offset + other.size)
        placed.append(block)
    return max((block.offset + block.size for block in blocks), default=0)
