"""An operation -> the call that computes it, with the constants that it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnas.runtime.filters import RealFilters, SignFilters
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
from bnas.ship.c_code.constants import Constants, real
from bnas.ship.c_code.memory import Memory
from bnas.ship.c_code.operations import Operation, is_same

ARRAYS = {"real": "reals", "bits": "words", "choice": "choices"}  # by what a slot holds


@dataclass
class Calls:
    """What calls are written with: where slots lie, and what becomes of arrays."""

    program: Program
    memory: Memory
    constants: Constants

    def of(self, one: Operation) -> list[str]:
        """Return the calls of an operation."""
        return [] if is_same(self.program, one.step) else WRITTEN[type(one.step)](self, one, one.step)

    def place(self, slot: int) -> str:
        """Return where a slot lies."""
        return f"{ARRAYS[self.value(slot).kind]} + {self.memory.offsets[slot]}"

    def value(self, slot: int) -> Value:
        """Return what a slot holds."""
        return self.program.values[slot]

    def choice(self, slot: int) -> str:
        """Return the expression for a choice."""
        return f"choices[{self.memory.offsets[slot]}]"

    def size(self, slot: int) -> str:
        """Return pixels and channels of a slot."""
        return f"{self.value(slot).pixels}, {self.value(slot).channels}"


def _conv(calls: Calls, one: Operation, step: Conv) -> list[str]:
    constants, filters, n = calls.constants, step.filters, one.slot
    x, y, out = step.inputs[0], calls.place(one.slot), filters.shape[1]
    chosen = calls.choice(step.inputs[1]) if len(step.inputs) > 1 else ""
    first = f"{out} * (size_t){chosen}" if chosen else "0"
    given = (
        f"&{_conv_window(calls, one, step)}, {calls.place(x)}, {constants.filters(f'filters_{n}', filters)}, {first}"
    )
    bias = constants.channelwise(f"bias_{n}", step.bias, otherwise=0)
    if isinstance(filters, RealFilters):
        return [f"conv_values({given}, {bias}, {y})"]
    if one.compared is not None:
        return [f"compare_bits({given}, {_levels(calls, one, filters, one.compared)}, {y})"]
    scale = constants.channelwise(f"scale_{n}", filters.scale, otherwise=1, plus=chosen)
    offset = constants.channelwise(f"offset_{n}", filters.offset, otherwise=0, plus=chosen)
    name = "conv_bits" if calls.value(x).kind == "bits" else "conv_signs"
    return [f"{name}({given}, {scale}, {offset}, {bias}, {y})"]


def _conv_window(calls: Calls, one: Operation, step: Conv) -> str:
    x, y, above, left = calls.value(step.inputs[0]), calls.value(one.slot), step.padding[0], step.padding[2]
    return calls.constants.window(
        f"window_{one.slot}",
        (
            x.height, x.width, x.channels, y.height, y.width, y.channels, *step.filters.shape[3:], *step.stride,
            *step.dilation, above, left, step.groups, step.pad_value,
        ),
    )  # fmt: skip


def _levels(calls: Calls, one: Operation, filters: SignFilters, compared: Threshold) -> str:
    """Return levels and flips: a sum of n products lies from -n to n, so that n + 1 is never reached and -n always."""
    most = int(np.prod(filters.shape[2:]))
    levels = np.clip(np.ceil(compared.at.astype(np.float64)), -most, most + 1).astype(np.int64)
    flips = calls.constants.flips(f"flips_{one.slot}", compared.flip)
    return f"{calls.constants.levels(f'levels_{one.slot}', levels)}, {flips}"


def _argmax(calls: Calls, one: Operation, step: Argmax) -> list[str]:
    x = step.inputs[0]
    return [f"{calls.choice(one.slot)} = (uint16_t)largest({calls.place(x)}, {calls.value(x).channels})"]


def _threshold(calls: Calls, one: Operation, step: Threshold) -> list[str]:
    (x,), n = step.inputs, one.slot
    at = calls.constants.channelwise(f"at_{n}", step.at, otherwise=0)
    flips = calls.constants.flips(f"flips_{n}", step.flip)
    return [f"threshold({calls.place(x)}, {at}, {flips}, {calls.size(x)}, {calls.place(n)})"]


def _affine(calls: Calls, one: Operation, step: Affine) -> list[str]:
    (x,), n = step.inputs, one.slot
    scale = calls.constants.channelwise(f"scale_{n}", step.scale, otherwise=1)
    shift = calls.constants.channelwise(f"shift_{n}", step.shift, otherwise=0)
    return [f"affine({calls.place(x)}, {scale}, {shift}, {calls.size(x)}, {calls.place(n)})"]


def _prelu(calls: Calls, one: Operation, step: PReLU) -> list[str]:
    (x,), n = step.inputs, one.slot
    slope = calls.constants.channelwise(f"slope_{n}", step.slope, otherwise=0)
    return [f"prelu({calls.place(x)}, {slope}, {calls.size(x)}, {calls.place(n)})"]


def _clip(calls: Calls, one: Operation, step: Clip) -> list[str]:
    (x,) = step.inputs
    limits = f"{real(step.low)}, {real(step.high)}"
    return [f"clip({calls.place(x)}, {limits}, {_count(calls, x)}, {calls.place(one.slot)})"]


def _sigmoid(calls: Calls, one: Operation, step: Sigmoid) -> list[str]:
    (x,) = step.inputs
    return [f"sigmoid({calls.place(x)}, {_count(calls, x)}, {calls.place(one.slot)})"]


def _pointwise(calls: Calls, one: Operation, step: Step) -> list[str]:
    x, second = step.inputs
    value, other = calls.value(x), calls.value(second)
    step_between = other.channels if other.pixels == value.pixels else 0
    name = "add" if isinstance(step, Add) else "multiply"
    places = f"{calls.place(x)}, {calls.place(second)}, {step_between}, {min(other.channels, value.channels)}"
    return [f"{name}({places}, {calls.size(x)}, {calls.place(one.slot)})"]


def _pool(calls: Calls, one: Operation, step: Pool) -> list[str]:
    x, y = calls.value(step.inputs[0]), calls.value(one.slot)
    window = calls.constants.window(
        f"window_{one.slot}",
        (
            x.height, x.width, x.channels, y.height, y.width, y.channels, *step.kernel, *step.stride, 1, 1,
            *step.padding, 1, 0,
        ),
    )  # fmt: skip
    places = f"{calls.place(step.inputs[0])}, {calls.place(one.slot)}"
    return [
        f"pool_mean(&{window}, {int(step.count_padding)}, {places})" if step.mean else f"pool_max(&{window}, {places})"
    ]


def _channels(calls: Calls, one: Operation, step: Channels) -> list[str]:
    (x,) = step.inputs
    return [f"take_channels({calls.place(x)}, {step.start}, {calls.size(x)}, {step.count}, {calls.place(one.slot)})"]


def _concat(calls: Calls, one: Operation, step: Concat) -> list[str]:
    found, start, all_ = [], 0, calls.value(one.slot).channels
    for slot in step.inputs:
        found.append(f"put_channels({calls.place(slot)}, {start}, {calls.size(slot)}, {all_}, {calls.place(one.slot)})")
        start += calls.value(slot).channels
    return found


def _flatten(calls: Calls, one: Operation, step: Flatten) -> list[str]:
    (x,) = step.inputs
    return [f"flatten({calls.place(x)}, {calls.size(x)}, {calls.place(one.slot)})"]


def _count(calls: Calls, slot: int) -> int:
    return calls.value(slot).channels * calls.value(slot).pixels


WRITTEN: dict[type[Step], Callable[[Calls, Operation, Any], list[str]]] = {
    Conv: _conv,
    Argmax: _argmax,
    Threshold: _threshold,
    Affine: _affine,
    PReLU: _prelu,
    Clip: _clip,
    Sigmoid: _sigmoid,
    Add: _pointwise,
    Multiply: _pointwise,
    Pool: _pool,
    Channels: _channels,
    Concat: _concat,
    Flatten: _flatten,
}
