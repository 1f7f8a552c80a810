"""Small programs that together use every kernel -> proof that this CPU computes what their steps mean.

It runs once for each CPU and version and leaves a mark beside the machine code; where it cannot, once a process.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

from bnas.errors import ProgramError
from bnas.runtime.codegen import assemble
from bnas.runtime.compiled import MARK, cache_folder, execute
from bnas.runtime.cpu import VECTOR_BYTES, cpu
from bnas.runtime.filters import Filters, RealFilters, SignFilters
from bnas.runtime.naive import evaluate
from bnas.runtime.program import Program
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
    Value,
)

CLOSE = 1e-4  # of the largest logit: float32 against float64
IMAGES = 3


@cache
def check_machine() -> None:
    """Raise ProgramError if a kernel does not compute what it should on this CPU."""
    folder = cache_folder()
    if folder is not None and (folder / MARK).exists():
        return
    for name, program in programs():
        check(name, program)
    if folder is not None:
        (folder / MARK).touch()


def check(name: str, program: Program) -> None:
    """Raise ProgramError unless compiled code gives the logits that a program means."""
    images = np.random.default_rng(1).standard_normal((IMAGES, *program.input)).astype(np.float32)
    expected = evaluate(program, images)
    found = run(program, images)
    size = np.abs(expected).max()
    if not np.abs(found - expected).max() <= CLOSE * size:
        raise ProgramError(
            f"{name}: compiled code computes something else than it should on {cpu()}: up to "
            f"{np.abs(found - expected).max():.3g} apart where values reach {size:.3g}; please report this CPU, and "
            "use another one meanwhile"
        )


def run(program: Program, images: np.ndarray) -> np.ndarray:
    """Return logits by compiled code, whether it is right or not."""
    code = assemble(program)
    memory = np.zeros(code.size + VECTOR_BYTES, np.uint8)
    words = code.at(memory.ctypes.data + -memory.ctypes.data % VECTOR_BYTES)
    logits = np.empty((len(images), program.classes), np.float32)
    execute()(words.ctypes.data, images.ctypes.data, logits.ctypes.data, len(images), 0)
    return logits


def programs() -> Iterator[tuple[str, Program]]:
    """Yield programs by what they are about."""
    draw = _Draw()
    for part in (_binary_convolutions, _real_convolutions, _experts, _units, _pooling):
        yield from part(draw)


def _binary_convolutions(draw: "_Draw") -> Iterator[tuple[str, Program]]:
    for ins, out, groups, kernel, stride, side, pad_value in (
        (64, 64, 1, 3, 1, 6, 0), (70, 48, 1, 3, 2, 7, 1), (12, 20, 4, 3, 1, 4, -1), (128, 16, 1, 1, 1, 3, 0),
        (32, 96, 2, 5, 1, 3, 0), (200, 10, 1, 1, 1, 1, 0), (48, 24, 3, 3, 1, 2, 1), (64, 33, 1, 3, 1, 5, 0),
        (70, 80, 1, 1, 1, 4, 0),
    ):  # fmt: skip
        half = kernel // 2
        conv = Conv(
            (1,), draw.signs(1, out, ins // groups, kernel), (stride, stride), (half,) * 4, (1, 1), groups, pad_value
        )
        yield f"binary convolution {ins}-{out}", draw.program(ins, side, draw.threshold(ins), conv)


def _real_convolutions(draw: "_Draw") -> Iterator[tuple[str, Program]]:
    for ins, out, groups, kernel in ((3, 80, 1, 5), (17, 33, 1, 3), (24, 48, 2, 3), (6, 6, 6, 3), (200, 100, 1, 1)):
        filters = RealFilters(draw.reals(1, out, ins // groups, kernel, kernel))
        conv = Conv((0,), filters, (2, 1), (kernel // 2,) * 4, (1, 2 if kernel == 3 else 1), groups)
        yield f"real convolution {ins}-{out}", draw.program(ins, 7, conv)


def _experts(draw: "_Draw") -> Iterator[tuple[str, Program]]:
    yield "experts with offsets", draw.program(
        20, 5,
        Pool((0,), True, (5, 5), (5, 5)),
        Conv((1,), RealFilters(draw.reals(1, 3, 20, 1, 1)), bias=draw.reals(3)),
        Argmax((2,)),
        draw.threshold(20),
        Conv((4, 3), draw.signs(3, 24, 10, 3, offset=True), (1, 1), (1, 1, 1, 1), (1, 2), 2, 1, draw.reals(24)),
    )  # fmt: skip


def _units(draw: "_Draw") -> Iterator[tuple[str, Program]]:
    yield "a whole unit", draw.program(
        32, 6,
        draw.threshold(32),
        Conv((1,), draw.signs(1, 64, 32, 3), (2, 2), (1, 1, 1, 1)),
        Pool((0,), True, (6, 6), (6, 6)),
        Conv((3,), RealFilters(draw.reals(1, 64, 32, 1, 1))),
        Sigmoid((4,)),
        Multiply((2, 5)),
        PReLU((6,), draw.reals(64)),
        Affine((7,), None, draw.reals(64)),
        Pool((0,), True, (2, 2), (2, 2), ceil=True),
        Channels((9,), 0, 64),
        Add((8, 10)),
        draw.threshold(64, 11),
        Conv((12,), draw.signs(1, 64, 16, 1), groups=4),
        Affine((13,), draw.reals(64), draw.reals(64)),
        Add((14, 11)),
    )  # fmt: skip
    for name, is_excited, is_bent_last in (
        ("a unit", False, False), ("an excited unit", True, False), ("a residual unit", False, True)
    ):  # fmt: skip
        yield name, draw.unit(is_excited=is_excited, is_bent_last=is_bent_last)


def _pooling(draw: "_Draw") -> Iterator[tuple[str, Program]]:
    yield "pooling, channels and joining", draw.program(
        20, 7,
        Pool((0,), False, (3, 3), (2, 2), (1, 1), True),
        Pool((0,), True, (3, 3), (2, 2), (1, 1), True, False),
        Channels((1,), 15, 13),
        Clip((2,), -0.5, 0.75),
        Concat((3, 4, 1)),
        Channels((5,), 3, 40),
        Channels((1,), 5, 40),
        Multiply((6, 7)),
        Flatten((8,)),
        Conv((9,), RealFilters(draw.reals(1, 30, 40 * 16, 1, 1))),
    )  # fmt: skip


class _Draw:
    """Values that are the same everywhere."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def reals(self, *shape: int) -> np.ndarray:
        return self._random.standard_normal(shape).astype(np.float32)

    def signs(self, experts: int, out: int, ins: int, kernel: int, *, offset: bool = False) -> Filters:
        signs = self._random.random((experts, out, ins, kernel, kernel)) < 0.5
        return SignFilters.of(signs, self.reals(experts, out), self.reals(experts, out) if offset else None)

    def threshold(self, channels: int, slot: int = 0) -> Threshold:
        return Threshold((slot,), self.reals(channels) / 2, self._random.random(channels) < 0.3)

    def unit(self, *, is_excited: bool, is_bent_last: bool) -> Program:
        """Return a convolution with all that follows it in a unit, in one pass, and another that reads its bits."""
        steps: list[Step] = [self.threshold(48), Conv((1,), self.signs(1, 48, 48, 3), padding=(1, 1, 1, 1))]
        if is_excited:
            whole = Pool((0,), True, (5, 5), (5, 5))
            steps += [whole, Sigmoid((3,)), Multiply((2, 4))]
        bend, add = PReLU, Add
        for step in (add, bend) if is_bent_last else (bend, add):
            last = len(steps)
            steps.append(bend((last,), self.reals(48)) if step is bend else add((last, 0)))
        last = len(steps)
        steps += [self.threshold(48, last), Conv((last + 1,), self.signs(1, 48, 48, 1)), Add((last + 2, last))]
        if is_excited:
            steps += [Pool((last,), True, (5, 5), (5, 5)), Add((last + 3, last + 4))]
        return self.program(48, 5, *steps)

    def program(self, channels: int, side: int, *steps: Step) -> Program:
        """Return a program of these steps, and a mean of all pixels if there are several."""
        values = [Value("real", channels, side, side)]
        for step in steps:
            values.append(step.value(*(values[slot] for slot in step.inputs)))
        last = values[-1]
        mean = Pool((len(steps),), True, (last.height, last.width), (1, 1))
        return Program((channels, side, side), (*steps, mean) if last.pixels > 1 else steps)
