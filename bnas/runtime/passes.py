"""A `Program` -> passes: each reads values from memory once, computes with a few pixels of them as long as it can, and
writes what others need.

A pass begins with a source: a convolution, a pooling, a flattening, or values loaded as they are. What it holds then
goes through value by value steps, one slot after the other; whatever other passes read of a slot on the way, it sinks
into memory: the values, their bits, their mean over all pixels, or which is the largest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

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
)

POINTWISE = (Affine, PReLU, Clip, Sigmoid)


class View(NamedTuple):
    """Values in memory, seen from a channel on; after the last channel comes the first."""

    slot: int
    start: int = 0


class Sink(NamedTuple):
    """What becomes of a slot's values: they fill the memory of a slot, or a part of it, each in the way of its kind."""

    slot: int
    channel: int = 0  # where in it they begin


@dataclass(eq=False)
class Pass:
    """One walk over the pixels.

    Attributes:
        source: a convolution, pooling or flattening; None loads `loaded`.
        loaded: what the source reads.
        slots: what the pass holds, one after the other.
        sinks: where the values of each of these slots go.
        operands: by slot, the second operand of the step that makes it.
    """

    number: int
    source: Step | None
    loaded: View
    slots: list[int] = field(default_factory=list)
    sinks: dict[int, list[Sink]] = field(default_factory=dict)
    operands: dict[int, View] = field(default_factory=dict)

    def reads(self) -> Iterator[int]:
        """Yield the slots that it reads from memory."""
        yield self.loaded.slot
        if self.source is not None:
            yield from self.source.inputs[1:]
        yield from (view.slot for view in self.operands.values())

    def writes(self) -> Iterator[int]:
        """Yield the slots of which it fills the memory, or a part of it."""
        for sinks in self.sinks.values():
            yield from (sink.slot for sink in sinks)


def is_whole_mean(program: Program, step: Step) -> bool:
    """Return whether a step is the mean of all pixels."""
    if not isinstance(step, Pool) or not step.mean or any(step.padding):
        return False
    x = program.values[step.inputs[0]]
    return step.kernel == (x.height, x.width)


def passes_of(program: Program) -> list[Pass]:
    """Return passes that compute a program, in an order in which they can run."""
    making = _Making(program)
    for number, step in enumerate(program.steps):
        making.add(number + 1, step)
    making.store(len(program.steps))
    return making.ordered()


class _Making:
    """Passes so far, and which of them holds each slot."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._passes: list[Pass] = []
        self._home: dict[int, Pass] = {}  # slot -> the pass that holds it on its way
        self._writers: dict[int, list[Pass]] = {}  # slot -> the passes that fill its memory
        self._add: dict[type[Step], Callable[[int, Step], None]] = {
            **dict.fromkeys(POINTWISE, self._pointwise),
            **dict.fromkeys((Add, Multiply), self._two_operands),
            **dict.fromkeys((Conv, Flatten), self._sourced),
            **dict.fromkeys((Threshold, Argmax), self._sunk),
            Pool: self._pooled, Channels: self._taken, Concat: self._joined,
        }  # fmt: skip

    def add(self, slot: int, step: Step) -> None:
        """Add the step that makes a slot."""
        self._add[type(step)](slot, step)

    def store(self, slot: int) -> None:
        """See to it that the values of a slot are in memory."""
        home = self._home.get(slot)
        if home is not None and home.loaded != View(slot) and Sink(slot) not in home.sinks[slot]:
            self._sink(home, slot, Sink(slot))

    def _sink(self, host: Pass, slot: int, sink: Sink) -> None:
        host.sinks[slot].append(sink)
        self._writers.setdefault(sink.slot, []).append(host)

    def _begin(self, slot: int, source: Step | None, loaded: View) -> Pass:
        self.store(loaded.slot)
        made = Pass(len(self._passes), source, loaded, [slot], {slot: []})
        self._passes.append(made)
        self._home[slot] = made
        return made

    def _holding(self, slot: int) -> Pass:
        """Return a pass that holds a slot; a new one, if there is only memory."""
        return self._home[slot] if slot in self._home else self._begin(slot, None, View(slot))

    def _append(self, host: Pass, slot: int) -> None:
        host.slots.append(slot)
        host.sinks[slot] = []
        self._home[slot] = host

    def _pointwise(self, slot: int, step: Step) -> None:
        (x,) = step.inputs
        host = self._home.get(x)
        if host is None or host.slots[-1] != x:
            host = self._reloaded(x)
        self._append(host, slot)

    def _reloaded(self, slot: int) -> Pass:
        """Return a new pass that begins with a slot."""
        self.store(slot)
        made = Pass(len(self._passes), None, View(slot), [slot], {slot: []})
        self._passes.append(made)
        return made

    def _two_operands(self, slot: int, step: Step) -> None:
        for first, second in _orders(self._program, step, self._home):
            host = self._home.get(first)
            operand = self._view(second)
            if host is not None and host.slots[-1] == first and not self._waits(operand.slot, host):
                break
        else:
            first, second = step.inputs
            host, operand = self._reloaded(first), self._view(second)
        self.store(operand.slot)
        self._append(host, slot)
        host.operands[slot] = operand

    def _view(self, slot: int) -> View:
        """Return where an operand lies; channels over again are read where they come from."""
        step = self._program.steps[slot - 1] if slot else None
        return View(step.inputs[0], step.start) if isinstance(step, Channels) else View(slot)

    def _waits(self, slot: int, host: Pass) -> bool:
        """Return whether a slot's memory is filled only after a pass has run."""
        if self._home.get(slot) is host:
            return False  # by the pass itself, pixel by pixel
        seen: set[int] = set()
        waiting = [slot]
        while waiting:
            for maker in self._makers(waiting.pop()):
                if maker is host:
                    return True
                if maker.number not in seen:
                    seen.add(maker.number)
                    waiting.extend(maker.reads())
        return False

    def _makers(self, slot: int) -> list[Pass]:
        """Return the passes that fill a slot's memory, or would."""
        if slot in self._home and self._home[slot].loaded != View(slot):
            return [self._home[slot]]
        return self._writers.get(slot, [])

    def _sourced(self, slot: int, step: Step) -> None:
        for other in step.inputs[1:]:
            self.store(other)
        self._begin(slot, step, View(step.inputs[0]))

    def _pooled(self, slot: int, step: Step) -> None:
        if is_whole_mean(self._program, step):
            self._sunk(slot, step)
        else:
            self._sourced(slot, step)

    def _sunk(self, slot: int, step: Step) -> None:
        self._sink(self._holding(step.inputs[0]), step.inputs[0], Sink(slot))

    def _taken(self, slot: int, step: Step) -> None:
        assert isinstance(step, Channels)
        self._begin(slot, None, View(step.inputs[0], step.start))

    def _joined(self, slot: int, step: Step) -> None:
        channel = 0
        for part in step.inputs:
            self._sink(self._holding(part), part, Sink(slot, channel))
            channel += self._program.values[part].channels

    def ordered(self) -> list[Pass]:
        """Return the passes that write something, each after those whose memory it reads."""
        wanted = [made for made in self._passes if any(made.sinks.values())]
        done: dict[int, Pass] = {}

        def visit(made: Pass) -> None:
            if made.number in done:
                return
            for slot in made.reads():
                for writer in self._writers.get(slot, ()):
                    if writer is not made:
                        visit(writer)
            done[made.number] = made

        for made in wanted:
            visit(made)
        return list(done.values())


def _orders(program: Program, step: Step, home: dict[int, Pass]) -> list[tuple[int, int]]:
    """Return which operand may be held and which read, the best first: a convolution is held."""
    first, second = step.inputs
    orders = [(first, second)]
    if program.values[first] == program.values[second]:
        orders.append((second, first))
    return sorted(orders, key=lambda order: not (order[0] in home and isinstance(home[order[0]].source, Conv)))
