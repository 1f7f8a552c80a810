"""Programs drawn at random, of every step and in every combination of them, for back ends to be compared on."""

from collections.abc import Callable
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

CHANNELS = (1, 3, 8, 12, 16, 17, 32, 40, 64, 72)


class Drawing:
    """A program in the making; each method adds a step, if one is possible on what there is."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        sides = (self.one_of((1, 2, 3, 5, 8, 15)), self.one_of((1, 2, 4, 7, 16)))
        self.values = [Value("real", self.one_of(CHANNELS), *sides)]
        self.steps: list[Step] = []

    def one_of(self, choices: Any) -> Any:
        return choices[self.random.integers(len(choices))]

    def reals(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape).astype(np.float32)

    def per_channel(self, channels: int) -> np.ndarray:
        return self.reals(self.one_of((1, channels)))

    def slot(self, kind: str = "real", *, pixels: int = 0) -> int:
        """Return a slot of a kind, a late one rather than an early one; -1 if there is none."""
        found = [s for s, v in enumerate(self.values) if v.kind == kind and pixels in (0, v.pixels)]
        return self.one_of(found[-6:]) if found else -1

    def add(self, step: Step) -> int:
        self.values.append(step.value(*(self.values[slot] for slot in step.inputs)))
        self.steps.append(step)
        return len(self.steps)

    def conv(self, *, of_bits: bool) -> None:
        slot = self.slot("bits" if of_bits else "real")
        if slot < 0:
            return
        x = self.values[slot]
        groups = self.one_of([g for g in (1, 1, 2, 4, x.channels) if x.channels % g == 0])
        out = groups * self.one_of((1, 2, 5, 16, 24) if groups > 1 else (1, 10, 16, 33, 64))
        padding = self.random.integers(0, 3, 4).tolist()
        gaps, taps = self.random.integers(1, 3, 2).tolist(), self.random.integers(1, 4, 2).tolist()
        room = (x.height + sum(padding[:2]), x.width + sum(padding[2:]))
        taps = [t if (t - 1) * gap + 1 <= side else 1 for t, gap, side in zip(taps, gaps, room, strict=True)]
        choice = self.choice() if self.random.random() < 0.3 else ()
        filters = self.filters(3 if choice else 1, out, x.channels // groups, *taps, is_real=not of_bits)
        stride = tuple(self.random.integers(1, 3, 2).tolist())
        bias = self.per_channel(out) if self.random.random() < 0.5 else None
        pad_value = self.one_of((-1, 0, 1)) if of_bits else 0
        self.add(Conv((slot, *choice), filters, stride, tuple(padding), tuple(gaps), groups, pad_value, bias))  # type: ignore[arg-type]

    def filters(self, experts: int, out: int, ins: int, rows: int, columns: int, *, is_real: bool) -> Any:
        shape = (experts, out, ins, rows, columns)
        if is_real and self.random.random() < 0.5:
            return RealFilters(self.reals(*shape))
        scale = self.reals(self.one_of((1, experts)), self.one_of((1, out)))
        offset = self.reals(*scale.shape) if self.random.random() < 0.3 else None
        return SignFilters.of(self.random.random(shape) < 0.5, scale, offset)

    def choice(self) -> tuple[int, ...]:
        x = self.slot()
        value = self.values[x]
        size = (value.height, value.width)
        mean = self.add(Pool((x,), True, size, size))
        logits = self.add(Conv((mean,), RealFilters(self.reals(1, 3, value.channels, 1, 1)), bias=self.reals(3)))
        return (self.add(Argmax((logits,))),)

    def threshold(self) -> None:
        channels = self.values[slot := self.slot()].channels
        at = self.per_channel(channels)
        at[self.random.random(len(at)) < 0.1] = self.one_of((np.inf, -np.inf))
        self.add(Threshold((slot,), at, self.random.random(self.one_of((1, channels))) < 0.4))

    def affine(self) -> None:
        channels = self.values[slot := self.slot()].channels
        some = [None if self.random.random() < 0.2 else self.per_channel(channels) for _ in range(2)]
        self.add(Affine((slot,), *some))

    def value_by_value(self) -> None:
        slot = self.slot()
        low = float(self.reals())
        slope = PReLU((slot,), self.per_channel(self.values[slot].channels))
        self.add(self.one_of((slope, slope, Clip((slot,), low, low + 1), Sigmoid((slot,)))))

    def combine(self) -> None:
        first = self.slot()
        x = self.values[first]
        like = [s for s, v in enumerate(self.values) if v in (x, x._replace(height=1, width=1))]
        self.add(self.one_of((Add, Multiply))((first, self.one_of(like))))

    def pool(self) -> None:
        x = self.values[slot := self.slot()]
        is_mean = bool(self.random.random() < 0.5)
        if self.random.random() < 0.3:
            self.add(Pool((slot,), is_mean, (x.height, x.width), (1, 1)))
            return
        kernel = (min(3, x.height), min(self.one_of((2, 3)), x.width))
        padding = tuple(int(self.random.integers(0, taps // 2 + 1)) for taps in kernel)
        stride = tuple(self.random.integers(1, 4, 2).tolist())
        flags = [bool(self.random.random() < 0.5) for _ in range(2)]
        self.add(Pool((slot,), is_mean, kernel, stride, padding, *flags))  # type: ignore[arg-type]

    def channels(self) -> None:
        there = self.values[slot := self.slot()].channels
        start = self.one_of((0, 0, int(self.random.integers(there))))
        self.add(Channels((slot,), start, self.one_of((*CHANNELS, there, 2 * there))))

    def concat(self) -> None:
        first = self.slot()
        x = self.values[first]
        like = [s for s, v in enumerate(self.values) if v.kind == "real" and v[2:] == x[2:]]
        self.add(Concat((first, *(self.one_of(like) for _ in range(self.random.integers(1, 3))))))

    def flatten(self) -> None:
        self.add(Flatten((self.slot(),)))


def random_program(seed: int, *, length: int = 14) -> Program:
    """Return a program of some steps; its result is the mean of what it computes last, taken together where it can."""
    drawing = Drawing(seed)
    makers: list[Callable[[], None]] = [
        lambda: drawing.conv(of_bits=True), lambda: drawing.conv(of_bits=True), lambda: drawing.conv(of_bits=False),
        drawing.threshold, drawing.threshold, drawing.affine, drawing.value_by_value, drawing.combine, drawing.combine,
        drawing.pool, drawing.channels, drawing.concat, drawing.flatten,
    ]  # fmt: skip
    while len(drawing.steps) < length:
        drawing.one_of(makers)()
    parts = []
    for slot in range(max(0, len(drawing.steps) - 5), len(drawing.steps) + 1):
        value = drawing.values[slot]
        if value.kind == "real":
            size = (value.height, value.width)
            parts.append(slot if value.pixels == 1 else drawing.add(Pool((slot,), True, size, size)))
    drawing.add(Concat((*parts, parts[-1])))
    return Program(drawing.values[0][1:], tuple(drawing.steps))
