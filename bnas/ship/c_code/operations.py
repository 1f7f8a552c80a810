"""A `Program` -> operations of C code: its steps in order, some taken together so that less memory is needed."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bnas.errors import ExportError
from bnas.runtime.filters import SignFilters
from bnas.runtime.program import Program
from bnas.runtime.steps import Add, Channels, Conv, Flatten, Multiply, Pool, Step, Threshold

MOST, MOST_EXPERTS = 2**32 - 1, 2**16  # the code holds sizes in 32 bits, or 16 where they fit, and a choice in 16


@dataclass(frozen=True, eq=False)
class Operation:
    """One call of the code.

    Attributes:
        number: of the step, from 0.
        step: what it computes; one that adds or multiplies may read fewer channels than it gives, over and over.
        compared: the threshold that a whole number is compared with at once, so that the number is never stored.
        slot: what it writes.
    """

    number: int
    step: Step
    slot: int
    compared: Threshold | None = None

    @property
    def name(self) -> str:
        """The step, as messages name it."""
        return f"step {self.number} ({type(self.step).__name__})"


def operations(program: Program) -> list[Operation]:
    """Return what the code calls one after the other.

    Raises:
        ExportError: a step holds what C code cannot; names it and the rule.
    """
    found: list[Operation] = []
    taken = {number for number in range(len(program.steps)) if _is_repeated_at_once(program, number)}
    for number, step in enumerate(program.steps):
        if number in taken:
            continue
        if isinstance(step, Add | Multiply) and step.inputs[1] - 1 in taken:
            step = replace(step, inputs=(step.inputs[0], *program.steps[step.inputs[1] - 1].inputs))
        after = _threshold_of(program, number)
        if after is None:
            found.append(Operation(number, step, number + 1))
        else:
            taken.add(after)
            compared = program.steps[after]
            assert isinstance(compared, Threshold)
            found.append(Operation(number, step, after + 1, compared))
        _check(program, found[-1])
    return found


def is_same(program: Program, step: Step) -> bool:
    """Say whether a step gives what it reads, value by value."""
    return isinstance(step, Flatten) and 1 in (program.values[step.inputs[0]].channels, _pixels(program, step))


def _is_repeated_at_once(program: Program, number: int) -> bool:
    """Say whether a step repeats channels, or takes the first of them, for one that adds or multiplies with them."""
    step, readers = program.steps[number], program.readers[number + 1]
    if not isinstance(step, Channels) or step.start or len(readers) != 1:
        return False
    reader = program.steps[readers[0]]
    return isinstance(reader, Add | Multiply) and reader.inputs[0] != number + 1


def _threshold_of(program: Program, number: int) -> int | None:
    """Return the step that alone reads a convolution and compares it, if between them stand whole numbers."""
    step, readers = program.steps[number], program.readers[number + 1]
    if not isinstance(step, Conv) or not isinstance(step.filters, SignFilters) or len(readers) != 1:
        return None
    filters, reader = step.filters, program.steps[readers[0]]
    is_whole = step.bias is None and filters.offset is None and bool((filters.scale == 1).all())
    if not is_whole or program.values[step.inputs[0]].kind != "bits" or not isinstance(reader, Threshold):
        return None
    return readers[0]


def _pixels(program: Program, step: Step) -> int:
    return program.values[step.inputs[0]].pixels


def _check(program: Program, made: Operation) -> None:
    """Raise ExportError if the code cannot hold a step."""
    read, written = program.values[made.step.inputs[0]], program.values[made.slot]
    if isinstance(made.step, Conv | Pool):
        step = made.step
        kernel = step.filters.shape[3:] if isinstance(step, Conv) else step.kernel
        gaps = (*step.dilation, step.groups) if isinstance(step, Conv) else ()
        largest = max(*read[1:], *written[1:], *kernel, *step.stride, *step.padding, *gaps)
        if largest > MOST:
            raise ExportError(f"{made.name}: has a size of {largest}, but C code holds sizes up to {MOST}")
    if written.kind == "choice" and written.channels > MOST_EXPERTS:
        raise ExportError(f"{made.name}: chooses among {written.channels}, but C code among {MOST_EXPERTS} at most")
    if not all(np.isfinite(array).all() for array in _arrays(made.step)):
        raise ExportError(f"{made.name}: holds a value that is not finite; train the network with a lower rate")


def _arrays(step: Step) -> list[Any]:
    """Return the arrays of a step that must be finite: a threshold of infinity is a constant."""
    if isinstance(step, Threshold):
        return []
    parts = [*vars(step).values(), *(vars(step.filters).values() if isinstance(step, Conv) else ())]
    return [part for part in parts if isinstance(part, np.ndarray)]
