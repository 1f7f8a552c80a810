"""A `Program` and its card -> the text of a C99 file and its header, and the flash and RAM that they take."""

import re
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bnas.errors import ExportError
from bnas.runtime.network import Card
from bnas.runtime.program import Program
from bnas.runtime.steps import Conv, Value
from bnas.ship.c_code.calls import Calls
from bnas.ship.c_code.constants import WIDTH, Constants
from bnas.ship.c_code.header import HEADER, SOURCE, header
from bnas.ship.c_code.memory import CHOICE_BYTES, REAL_BYTES, laid_out
from bnas.ship.c_code.operations import Operation, operations

_KERNELS = Path(__file__).parent / "kernels"
_FUNCTION = re.compile(r"^static [\w ]+?(\w+)\(", re.MULTILINE)
_POPCOUNT = {32: "__builtin_popcountl", 64: "__builtin_popcountll"}  # of at least so many bits on every machine


class Code(NamedTuple):
    """What is written.

    Attributes:
        files: texts by name.
        flash_bytes: of constants; the machine code comes to it.
        ram_bytes: of static memory; the stack comes to it, on which lie no arrays.
    """

    files: dict[str, str]
    flash_bytes: int
    ram_bytes: int


def code(program: Program, card: Card, *, word_bits: int = 64) -> Code:
    """Return C code that computes what a program means, of images from 0 to 255.

    Args:
        card: must say how images are normalised.
        word_bits: 32 or 64, those of a word of bits.
    Raises:
        ExportError: a step holds what C code cannot, or it is not known how images are normalised.
    """
    card.check(program)
    if not card.mean:
        raise ExportError("the network does not say how images are normalised; export a run whose manifest does")
    made = operations(program)
    calls = Calls(program, laid_out(program, made, word_bits=word_bits), Constants(word_bits))
    body = _body(calls, made, card)
    kernels = _kernels(body)
    room = {name: part for name, part in _room(calls, made).items() if part[1]}
    sizes = {"float": REAL_BYTES, "word": word_bits // 8, "uint16_t": CHOICE_BYTES}
    flash, ram = calls.constants.bytes, sum(sizes[kind] * count for kind, count in room.values())
    told = f"Flash: {flash:,} bytes of constants, beside the machine code. RAM: {ram:,} bytes, static; no heap."
    parts = [
        f"/* Made by bnas; {HEADER} says how it is called.\n * {told}\n */\n",
        _top(calls.constants, "".join([body, kernels, calls.constants.text()])),
        (_KERNELS / "types.c").read_text(encoding="utf-8"),
        calls.constants.text() + "\n",
        "".join(f"static {kind} {name}[{count}];\n" for name, (kind, count) in room.items()),
        kernels,
        body,
    ]
    return Code({SOURCE: "\n".join(parts), HEADER: header(program, card, told)}, flash, ram)


def _top(constants: Constants, text: str) -> str:
    """Return what stands before everything else: the headers that are needed, and the types."""
    bits = constants.word_bits
    headers = {"stddef": True, "string": "mem" in text, "math": "expf(" in text or "INFINITY" in text}
    return "".join(
        [
            f'#include "{HEADER}"\n\n',
            *(f"#include <{name}.h>\n" for name, is_needed in sorted(headers.items()) if is_needed),
            f"\ntypedef uint{bits}_t word;\n#define WORD_BITS {bits}\n#define POPCOUNT {_POPCOUNT[bits]}\n",
            f"typedef {constants.level} level; /* what a sum of bits is compared with */\n",
            f"typedef {constants.extent} extent; /* of what a window goes over */\n",
        ]
    )


def _body(calls: Calls, made: Iterable[Operation], card: Card) -> str:
    """Return the function that is called."""
    program, (factors, added) = calls.program, card.scale_and_shift
    scale, shift = calls.constants.reals("pixel_scale", factors), calls.constants.reals("pixel_shift", -added)
    lines = [f"    normalise(image, {scale}, {shift}, {calls.size(0)}, {calls.place(0)});"]
    for one in made:
        lines.append(
            f"    /* {one.name}: {_shown(calls.value(one.step.inputs[0]))} -> {_shown(calls.value(one.slot))} */"
        )
        lines += [_wrapped(f"{call};") for call in calls.of(one)]
    result = calls.place(len(program.steps))
    return "\n".join(
        [
            "int network_predict(const uint8_t *image, float *logits)\n{",
            *lines,
            "    if (logits)",
            f"        memcpy(logits, {result}, {program.classes} * sizeof *logits);",
            f"    return (int)largest({result}, {program.classes});\n}}\n",
        ]
    )


def _room(calls: Calls, made: Iterable[Operation]) -> dict[str, tuple[str, int]]:
    """Return the static arrays by name: their type, and how many values they have."""
    seen = {"real": 0, "bits": 0}
    for one in made:
        if isinstance(one.step, Conv):
            kind, filters = calls.value(one.step.inputs[0]).kind, one.step.filters
            seen[kind] = max(seen[kind], int(np.prod(filters.shape[2:])))
    words = -(-seen["bits"] // calls.constants.word_bits)
    return {
        "reals": ("float", calls.memory.reals),
        "words": ("word", calls.memory.words),
        "choices": ("uint16_t", calls.memory.choices),
        "seen_values": ("float", seen["real"]),
        "seen_bits": ("word", words),
        "counted_bits": ("word", words),
    }


def _kernels(body: str) -> str:
    """Return the functions that are called, and those that they call, in the order in which C wants them."""
    wanted, found = set(re.findall(r"\w+", body)), []
    for names, text in reversed(_functions()):
        if wanted & names:
            wanted |= set(re.findall(r"\w+", text))
            found.append(text)
    return "\n".join(reversed(found))


@cache
def _functions() -> tuple[tuple[frozenset[str], str], ...]:
    """Return every function that there is, by its name, each after those that it calls."""
    texts = [(_KERNELS / name).read_text(encoding="utf-8") for name in ("bits.c", "values.c", "convolutions.c")]
    parts = [part.rstrip("\n") + "\n" for text in texts for part in text.split("\n\n")]
    return tuple((frozenset(_FUNCTION.findall(part)), part) for part in parts)


def _shown(value: Value) -> str:
    return f"{value.kind} [{value.channels}, {value.height}, {value.width}]"


def _wrapped(call: str) -> str:
    return textwrap.fill(call, WIDTH, initial_indent="    ", subsequent_indent="        ", break_long_words=False)
