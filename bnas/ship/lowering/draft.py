"""Steps in the making, added one by one, and what torch calls a value meanwhile."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bnas.runtime.program import Program
from bnas.runtime.steps import Affine, Pool, Step, Value


class CannotLower(Exception):
    """Why an operator has no steps; the walk adds where it stands."""


class Draft:
    """A program under construction.

    Args:
        input_shape: channels, height, width.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        channels, height, width = input_shape
        self.input = (channels, height, width)
        self.steps: list[Step] = []
        self.values = [Value("real", *self.input)]

    def add(self, step: Step) -> int:
        """Add a step and return the slot that it writes."""
        self.values.append(step.value(*(self.values[slot] for slot in step.inputs)))
        self.steps.append(step)
        return len(self.steps)

    def affine(self, slot: int, scale: float | None = None, shift: float | None = None) -> int:
        """Add a factor and a shift that are the same in every channel."""
        return self.add(Affine((slot,), *(None if value is None else np.full(1, value) for value in (scale, shift))))

    def mean(self, slot: int) -> int:
        """Add the mean of all pixels."""
        size = self.values[slot].height, self.values[slot].width
        return self.add(Pool((slot,), mean=True, kernel=size, stride=size))

    def program(self, slot: int) -> Program:
        """Return the program whose result is in a slot."""
        return Program(self.input, tuple(self.steps[:slot]))


def array(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor's values in float64.

    Raises:
        CannotLower: one is not finite.
    """
    values = tensor.detach().double().cpu().numpy()
    if not np.isfinite(values).all():
        raise CannotLower("it holds values that are not finite")
    return values


class Lowered(NamedTuple):
    """A value that depends on the image: where it is, and torch's shape of it."""

    slot: int
    shape: tuple[int, ...]


Factor = Tensor | float | int
Lowering = Callable[..., int | list[int]]  # (draft, *arguments of the operator) -> slot; of each result, if several


def value_shape(shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Return channels, height, width of a tensor [batch, channels, ...]; None where it has no such form."""
    if len(shape) == 2:
        return shape[1], 1, 1
    if len(shape) == 3:
        return shape[1], 1, shape[2]
    return (shape[1], shape[2], shape[3]) if len(shape) == 4 else None
