"""A program and its card <-> one file, whose every byte docs/packed.md describes."""

import hashlib
import struct
from pathlib import Path

import numpy as np

from bnas.errors import ProgramError
from bnas.runtime import wire
from bnas.runtime.network import Card, Network
from bnas.runtime.program import MOST_STEPS, Program
from bnas.runtime.steps import (
    Add,
    Affine,
    Argmax,
    Channels,
    Clip,
    Concat,
    Conv,
    Flatten,
    Multiply,
    Pool,
    PReLU,
    Sigmoid,
    Step,
    Threshold,
)

MAGIC = b"\x89BNAS\r\n\x1a"  # not text, and changed by whatever changes line ends
VERSION = 1
HEAD = struct.Struct("<8sIQ32s")  # magic, version, bytes that follow, sha256 of all but itself
NAME = "network.bnas"  # in the folder of an export

Fields = dict[str, wire.Kind]
CODES: dict[int, tuple[type[Step], Fields]] = {
    1: (
        Conv,
        {
            "filters": wire.FILTERS, "stride": wire.PAIR, "padding": wire.FOUR, "dilation": wire.PAIR,
            "groups": wire.NUMBER, "pad_value": wire.SHIFTED, "bias": wire.ARRAY,
        },
    ),
    2: (Argmax, {}),
    3: (Threshold, {"at": wire.FULL, "flip": wire.BITS}),
    4: (Affine, {"scale": wire.ARRAY, "shift": wire.ARRAY}),
    5: (PReLU, {"slope": wire.FULL}),
    6: (Clip, {"low": wire.REAL, "high": wire.REAL}),
    7: (Sigmoid, {}),
    8: (Add, {}),
    9: (Multiply, {}),
    10: (
        Pool,
        {
            "mean": wire.FLAG, "kernel": wire.PAIR, "stride": wire.PAIR, "padding": wire.PAIR, "ceil": wire.FLAG,
            "count_padding": wire.FLAG,
        },
    ),
    11: (Channels, {"start": wire.NUMBER, "count": wire.NUMBER}),
    12: (Concat, {}),
    13: (Flatten, {}),
}  # fmt: skip
_CODE_OF = {kind: code for code, (kind, _) in CODES.items()}


def load(file: str | Path, *, threads: int | None = None) -> Network:
    """Return the network of a packed file, ready to be called with images.

    Args:
        file: as `bnas export --to packed` wrote it, or the folder that it is in.
        threads: how many share the images of a call; None takes as many as turn out fastest.
    Raises:
        ProgramError: the file is missing, no packed network, damaged, or written by a newer version; or the CPU does
            not compute what it should.
    """
    program, card = read(file)
    return Network(program, card, threads=threads)


def read(file: str | Path) -> tuple[Program, Card]:
    """Return what a packed file holds; of a folder, the one that an export wrote there.

    Raises:
        ProgramError: as in `load`.
    """
    file = Path(file) / NAME if Path(file).is_dir() else Path(file)
    try:
        data = file.read_bytes()
    except OSError as problem:
        raise ProgramError(
            f"{file}: cannot be read: {problem.strerror}; give a packed network; `bnas export RUN --to packed -o DIR` "
            "writes one"
        ) from problem
    try:
        return decoded(data)
    except ProgramError as problem:
        raise ProgramError(f"{file}: {problem}; export it again with `bnas export RUN --to packed`") from problem


def encoded(program: Program, card: Card) -> bytes:
    """Return a program, with float32 arrays, and its card as the bytes of a file."""
    card.check(program)
    parts = [*map(wire.number_bytes, program.input), wire.TEXT.write(card.name)]
    parts += [wire.number_bytes(len(card.mean)), np.array([card.mean, card.std], "<f8").tobytes()]
    parts += [wire.number_bytes(len(card.class_names)), *map(wire.TEXT.write, card.class_names)]
    parts += [wire.number_bytes(len(program.steps))]
    for number, step in enumerate(program.steps):
        code = _CODE_OF[type(step)]
        back = [number - slot for slot in step.inputs]  # 0 is the slot written last
        parts += map(wire.number_bytes, (code, len(back), *back))
        parts += [kind.write(getattr(step, name)) for name, kind in CODES[code][1].items()]
    body = b"".join(parts)
    return HEAD.pack(MAGIC, VERSION, len(body), _checksum(VERSION, body)) + body


def decoded(data: bytes) -> tuple[Program, Card]:
    """Return what the bytes of a file hold.

    Raises:
        ProgramError: they are not what `encoded` wrote.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise ProgramError("this is no packed network: it does not begin as one")
    if len(data) < HEAD.size:
        raise ProgramError(f"truncated: {len(data)} bytes are not even its head of {HEAD.size}")
    _, version, size, checksum = HEAD.unpack(data[: HEAD.size])
    if version > VERSION:
        raise ProgramError(f"it is of version {version}, but this bnas reads up to {VERSION}; update bnas")
    body = data[HEAD.size :]
    if len(body) != size:
        raise ProgramError(f"{'truncated' if len(body) < size else 'too long'}: {size} bytes follow its head, says it, "
                           f"but {len(body)} do")  # fmt: skip
    if checksum != _checksum(version, body):
        raise ProgramError("damaged: its checksum is not that of its content")
    return _content(wire.Reader(memoryview(body)))


def _content(reader: wire.Reader) -> tuple[Program, Card]:
    channels, height, width = (reader.number() for _ in range(3))
    name, known = wire.TEXT.read(reader), reader.number()
    moments = np.frombuffer(reader.bytes(16 * known), "<f8").reshape(2, -1)
    if not np.isfinite(moments).all():
        raise ProgramError("mean or std is not finite")
    names = tuple(wire.TEXT.read(reader) for _ in range(_count(reader)))
    steps = tuple(_step(number, reader) for number in range(_count(reader)))
    reader.end()
    program = Program((channels, height, width), steps)
    card = Card(tuple(moments[0].tolist()), tuple(moments[1].tolist()), names, name)
    card.check(program)
    return program, card


def _count(reader: wire.Reader) -> int:
    count = reader.number()
    if count > MOST_STEPS * 10:
        raise ProgramError(f"{count} are too many")
    return count


def _step(number: int, reader: wire.Reader) -> Step:
    code, inputs = reader.number(), reader.number()
    if code not in CODES or inputs > 256:
        raise ProgramError(f"step {number}: code {code} with {inputs} inputs is not known")
    kind, fields = CODES[code]
    slots = tuple(number - reader.number() for _ in range(inputs))
    return kind(slots, **{name: field.read(reader) for name, field in fields.items()})


def _checksum(version: int, body: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<8sIQ", MAGIC, version, len(body)) + body).digest()
