"""What a trained network computes: a frozen list of typed steps with NumPy arrays, checked when made."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from bnas.errors import ProgramError
from bnas.runtime.filters import Reals
from bnas.runtime.steps import MOST_VALUES, Step, Threshold, Value

T = TypeVar("T")
MOST_STEPS = 100_000


@dataclass(frozen=True, eq=False)
class Program:
    """Steps in the order in which they run.

    Step number i reads slots and writes slot i + 1; slot 0 is the image. What the last step writes is the result: one
    real value a class.

    Raises:
        ProgramError: a step reads what is not there yet, or does not go with what it reads.
    """

    input: tuple[int, int, int]  # channels, height, width
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        result = self.values[-1]
        if not self.steps or result.kind != "real" or result.pixels != 1:
            raise ProgramError(f"program: its last step must give one real value a class, but gives {result}")

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """What each slot holds.

        Raises:
            ProgramError: a step does not go with what it reads, or there is too much of something.
        """
        values = [Value("real", *self.input)]
        if len(self.steps) > MOST_STEPS:
            raise ProgramError(f"program: {len(self.steps)} steps are more than {MOST_STEPS}")
        if not 0 < min(self.input) <= values[0].channels * values[0].pixels <= MOST_VALUES:
            raise ProgramError(f"program: an image of {self.input} is no image")
        for number, step in enumerate(self.steps):
            values.append(_written(number, step, values))
        return tuple(values)

    @property
    def classes(self) -> int:
        """How many values the result has."""
        return self.values[-1].channels

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """The steps that read each slot."""
        found: list[list[int]] = [[] for _ in self.values]
        for number, step in enumerate(self.steps):
            for slot in dict.fromkeys(step.inputs):
                found[slot].append(number)
        return tuple(map(tuple, found))


def rounded(program: Program) -> Program:
    """Return the program with float32 arrays; every comparison of a float32 value comes out as before."""
    return Program(program.input, tuple(_rounded_step(step) for step in program.steps))


def _rounded_step(step: Step) -> Step:
    if isinstance(step, Threshold):
        return replace(step, at=_rounded_up(step.at))
    return _rounded(step)


def _rounded(part: T) -> T:
    """Return a step, or its filters, with float32 arrays."""
    changed: dict[str, object] = {}
    for field in fields(part):  # type: ignore[arg-type]
        content = getattr(part, field.name)
        if isinstance(content, np.ndarray) and content.dtype.kind == "f":
            changed[field.name] = content.astype(np.float32)
        elif is_dataclass(content):
            changed[field.name] = _rounded(content)
    return replace(part, **changed) if changed else part  # type: ignore[type-var]


def _rounded_up(values: Reals) -> Reals:
    """Return the smallest float32 values that are not below."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    return np.where(near < values, np.nextafter(near, np.float32(np.inf)), near)


def _written(number: int, step: Step, values: Sequence[Value]) -> Value:
    """Return what a step writes."""
    where = f"step {number} ({type(step).__name__})"
    if len(step.inputs) not in step.takes or not all(0 <= slot < len(values) for slot in step.inputs):
        raise ProgramError(f"{where}: reads slots {list(step.inputs)}, where {len(values)} are written")
    try:
        written = step.value(*(values[slot] for slot in step.inputs))
    except ProgramError as problem:
        raise ProgramError(f"{where}: {problem}") from None
    if written.channels * written.pixels > MOST_VALUES:
        raise ProgramError(f"{where}: {written} are more values than {MOST_VALUES}")
    return written
