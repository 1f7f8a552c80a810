"""Operations -> where in static memory the value of each slot lies; memory is used again once nothing reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bnas.runtime.places import set_offsets
from bnas.runtime.program import Program
from bnas.runtime.steps import Add, Affine, Clip, Multiply, PReLU, Sigmoid, Value
from bnas.ship.c_code.operations import Operation, is_same

REAL_BYTES, CHOICE_BYTES = 4, 2

_IN_PLACE = (Affine, PReLU, Clip, Sigmoid, Add, Multiply)  # read each value before they write it, and no other then
_UNTIL_THE_END = 2**62


class Memory(NamedTuple):
    """Where slots lie, each kind in an array of its own, so that no memory ever holds values of two types.

    Attributes:
        offsets: by slot, in values of its kind: reals, words of bits, choices.
        reals, words, choices: how many values the arrays have.
    """

    offsets: dict[int, int]
    reals: int
    words: int
    choices: int


@dataclass
class _Block:
    """Memory of slots that hold the same values, or one after the other."""

    kind: str
    size: int
    born: int
    last: int
    slots: list[int]
    offset: int = 0


def laid_out(program: Program, made: Sequence[Operation], *, word_bits: int) -> Memory:
    """Return a place for everything that some operation writes or reads."""
    blocks = _blocks(program, made, word_bits)
    sizes = {
        kind: set_offsets([block for block in blocks if block.kind == kind]) for kind in ("real", "bits", "choice")
    }
    offsets = {slot: block.offset for block in blocks for slot in block.slots}
    return Memory(offsets, sizes["real"], sizes["bits"], sizes["choice"])


def size_of(value: Value, *, word_bits: int) -> int:
    """Return how many reals, words or choices a value takes."""
    if value.kind == "choice":
        return 1
    values = value.channels * value.pixels
    return values if value.kind == "real" else -(-values // word_bits)


def _blocks(program: Program, made: Sequence[Operation], word_bits: int) -> list[_Block]:
    last_read = {slot: now for now, one in enumerate(made) for slot in one.step.inputs}
    last_read[len(program.steps)] = _UNTIL_THE_END
    slots: dict[int, _Block] = {}
    for now, slot in [(-1, 0), *((now, one.slot) for now, one in enumerate(made))]:
        value, last = program.values[slot], last_read.get(slot, now)
        shared = None if slot == 0 else _shared(program, made[now], now, slots)
        if shared is None:
            shared = _Block(value.kind, size_of(value, word_bits=word_bits), now, last, [])
        shared.slots.append(slot)
        shared.last = max(shared.last, last)
        slots[slot] = shared
    return list({id(block): block for block in slots.values()}.values())


def _shared(program: Program, one: Operation, now: int, slots: dict[int, _Block]) -> _Block | None:
    """Return the block that an operation may write to because it is the last to read it, or changes nothing of it."""
    if is_same(program, one.step):
        return slots[one.step.inputs[0]]
    for slot in one.step.inputs if isinstance(one.step, _IN_PLACE) else ():
        if slots[slot].last <= now and program.values[slot] == program.values[one.slot]:
            return slots[slot]
    return None
