import dataclasses
import random
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from packed import worn_network
from programs import random_program
from spaces import line_of

from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import ProgramError
from bnas.runtime import Card, load, wire
from bnas.runtime.file import CODES, HEAD, MAGIC, NAME, VERSION, _checksum, decoded, encoded, read
from bnas.runtime.filters import SignFilters
from bnas.runtime.naive import evaluate
from bnas.runtime.program import Program
from bnas.runtime.steps import Conv, Step, Value
from bnas.ship.lowering import lower
from bnas.space.space import SearchSpace

CARD = Card((0.5,), (0.25,), (), "a name, with ümlaut")


def a_program(seed: int) -> Program:
    """A program of a grey image, as CARD wants."""
    return next(p for p in map(random_program, range(seed * 100, seed * 100 + 100)) if p.input[0] == 1)


def test_what_is_written_is_what_is_read() -> None:
    for seed in range(20):
        program = a_program(seed)
        data = encoded(program, CARD)
        again, card = decoded(data)
        assert card == CARD
        assert encoded(again, card) == data
        images = np.random.default_rng(seed).standard_normal((2, *program.input))
        assert np.array_equal(evaluate(again, images), evaluate(program, images))


def test_every_step_has_a_code_of_its_own_and_every_field_a_kind() -> None:
    assert {kind for kind, _ in CODES.values()} == set(Step.__subclasses__())
    for kind, fields in CODES.values():
        assert set(fields) == {field.name for field in dataclasses.fields(kind)} - {"inputs"}


def test_the_document_names_every_code_and_field() -> None:
    text = Path("docs/packed.md").read_text()
    for code, (kind, fields) in CODES.items():
        (row,) = re.findall(rf"^\| {code} \| {kind.__name__} \|(.*)\|$", text, re.M)
        assert [name in row for name in fields] == [True] * len(fields)
    assert f"version {VERSION}" in text
    assert f"The head has {HEAD.size} bytes" in text


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**14, 2**40])
def test_numbers_are_seven_bits_a_byte(value: int) -> None:
    data = wire.number_bytes(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert wire.Reader(memoryview(data)).number() == value


GOOD = encoded(a_program(0), CARD)


def changed(offset: int, data: bytes) -> bytes:
    return GOOD[:offset] + data + GOOD[offset + len(data) :]


def resealed(body: bytes, *, version: int = VERSION) -> bytes:
    """Return a file whose checksum is right, whatever its content."""
    return HEAD.pack(MAGIC, version, len(body), _checksum(version, body)) + body


BODY = GOOD[HEAD.size :]
BAD: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "no packed network"),
    "another kind of file": (b"\x93NUMPY" + GOOD, "no packed network"),
    "line ends changed": (GOOD.replace(b"\r\n", b"\n", 1), "no packed network"),
    "cut off in its head": (GOOD[:30], "truncated: 30 bytes"),
    "cut off": (GOOD[:-1], "truncated: .* follow its head"),
    "longer": (GOOD + b"\0", "too long"),
    "of a newer version": (changed(8, struct.pack("<I", 2)), "version 2, but this bnas reads up to 1; update"),
    "another length": (changed(12, struct.pack("<Q", 2**63)), "truncated"),
    "one bit flipped": (changed(len(GOOD) // 2, bytes([GOOD[len(GOOD) // 2] ^ 4])), "damaged"),
    "another checksum": (changed(20, b"\0"), "damaged"),
    "sealed, but cut off": (resealed(BODY[:-3]), "bytes are told"),
    "sealed, but longer": (resealed(BODY + b"\0"), "left over"),
    "sealed, with an image of nothing": (resealed(b"\0" + BODY[1:]), "no image"),
}


@pytest.mark.parametrize("far", [10**6, 2**40])
def test_a_border_beyond_memory_is_refused(far: int) -> None:
    one = SignFilters.of(np.ones((1, 1, 1, 1, 1), bool), np.ones((1, 1), np.float32))
    conv = Conv((0,), one, stride=(far, far), padding=(far, 0, far, 0))
    with pytest.raises(ProgramError, match="with its padding the input has"):
        conv.value(Value("real", 1, 1, 1))


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_damaged_file_is_refused_by_reason(case: str, tmp_path: Path) -> None:
    data, reason = BAD[case]
    (tmp_path / "some.bnas").write_bytes(data)
    with pytest.raises(ProgramError, match=reason) as caught:
        load(tmp_path / "some.bnas")
    assert line_of(caught).startswith(f"{tmp_path / 'some.bnas'}: ")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=rf"{NAME}: cannot be read: No such file"):
        load(tmp_path)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Return bytes with something changed, left out, put in, or exchanged."""
    values = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at, size = draw.randrange(len(values)), draw.choice((1, 1, 2, 8, 100))
        kind = draw.randrange(5)
        if kind == 0:
            values[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            values[at : at + size] = draw.randbytes(size)
        elif kind == 2:
            del values[at : at + size]
        elif kind == 3:
            values[at:at] = draw.randbytes(size)
        else:
            values[at : at + size] = values[:size]
    return bytes(values)


def test_ten_thousand_changed_files_are_all_refused() -> None:
    draw, files = random.Random(0), [encoded(a_program(seed), CARD) for seed in range(10)]
    refused = 0
    for number in range(10_000):
        data = mutated(file := files[number % 10], draw)
        if data != file:
            with pytest.raises(ProgramError):
                decoded(data)
            refused += 1
    assert refused > 9_900


def test_changed_files_that_are_sealed_again_are_refused_or_run() -> None:
    """Nobody vouches for what these compute; but what is read is a program, and runs, and ends."""
    draw, runs, bodies = random.Random(1), 0, [encoded(small_program(n), CARD)[HEAD.size :] for n in range(10)]
    for number in range(3_000):
        try:
            program, _ = decoded(resealed(mutated(bodies[number % 10], draw)))
        except ProgramError:
            continue
        if sum(value.channels * value.pixels for value in program.values) < 1e5:
            with np.errstate(all="ignore"):
                evaluate(program, np.zeros((1, *program.input)))
            runs += 1
    assert runs > 100


def small_program(seed: int) -> Program:
    found = (random_program(n, length=6) for n in range(seed * 100, seed * 100 + 100))
    return next(p for p in found if p.input[0] == 1 and sum(v.channels * v.pixels for v in p.values) < 2000)


@pytest.mark.slow
def test_compiled_code_runs_whatever_is_read() -> None:
    """As above, by compiled code, which would crash the interpreter if it went outside of its memory."""
    from bnas.runtime.selftest import run

    draw, runs, bodies = random.Random(2), 0, [encoded(small_program(n), CARD)[HEAD.size :] for n in range(10)]
    for number in range(10_000):
        try:
            program, _ = decoded(resealed(mutated(bodies[number % 10], draw)))
        except ProgramError:
            continue
        if sum(value.channels * value.pixels for value in program.values) < 1e5:
            run(program, np.zeros((1, *program.input), np.float32))
            runs += 1
    assert runs > 300


@pytest.mark.parametrize("space", ["cifar10", "digits", "mnist"])
def test_a_file_is_no_larger_than_what_is_counted(space: str) -> None:
    found, draw = SearchSpace.read(f"search_spaces/{space}.yaml"), random.Random(0)
    arch = found.architecture(found.sample(draw))
    channels = arch.input[0]
    card = Card((0.5,) * channels, (0.5,) * channels, tuple(map(str, range(arch.classes))), arch.id)
    size = len(encoded(lower(worn_network(arch), arch.input), card))
    counted = cost(plan(arch)).bytes
    assert 0.9 * counted < size < 1.05 * counted


def test_read_takes_the_folder_of_an_export(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(GOOD)
    program, card = read(tmp_path)
    assert encoded(program, card) == GOOD
