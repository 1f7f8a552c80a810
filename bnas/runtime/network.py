"""A `Program` -> a network that computes logits of images, compiled and bit-packed."""

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnas.errors import DataError, ProgramError, ShapeError
from bnas.runtime.program import Program

if TYPE_CHECKING:
    from bnas.runtime.codegen import Code


@dataclass(frozen=True)
class Card:
    """What goes with a network beside its program.

    Attributes:
        mean, std: of the training images per channel, where full scale is 1; none where they are not known, or where
            no pixels make the images.
        class_names: in the order of the logits; none where they are not known.
        name: of the network, such as the id of its architecture.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()
    name: str = ""

    def check(self, program: Program) -> None:
        """Raise ProgramError unless it goes with a program."""
        channels = program.input[0]
        if len(self.mean) not in (0, channels) or len(self.std) != len(self.mean) or not all(s > 0 for s in self.std):
            raise ProgramError(f"mean and std: {channels} of each are needed, or none, and std above 0")
        if len(self.class_names) not in (0, program.classes):
            raise ProgramError(f"{len(self.class_names)} class names do not go with {program.classes} logits")

    @property
    def scale_and_shift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What pixels from 0 to 255 are multiplied by, and what is then added, per channel."""
        mean, std = np.array(self.mean, np.float64), np.array(self.std, np.float64)
        return 1 / (255 * std), -mean / std

    def normalised(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return pixels [n, channels, height, width] as the network was trained to see them."""
        scale, shift = (part.astype(np.float32).reshape(-1, 1, 1) for part in self.scale_and_shift)
        return pixels.astype(np.float32) * scale + shift


class Network:
    """A packed network.

    Args:
        program: what it computes.
        card: what goes with it.
        threads: how many threads share the images of a call; None takes as many as turn out fastest.
    Raises:
        ProgramError: the CPU does not compute what it should, or there is to be no thread.
    """

    def __init__(self, program: Program, card: Card | None = None, *, threads: int | None = None) -> None:
        from bnas.runtime.codegen import assemble  # compiles: not before there is something to run
        from bnas.runtime.selftest import check_machine

        if threads is not None and threads < 1:
            raise ProgramError(f"threads must be 1 or more, or None, but got {threads}")
        self.program, self.card = program, card or Card()
        self.card.check(program)
        check_machine()
        self.code = assemble(program)
        self._threads = threads
        self._fastest: dict[int, int] = {}  # by the number of bits of the number of images
        self._rooms: list[Room] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what it computes, not the compiled code, which holds addresses of this process."""
        return partial(Network, threads=self._threads), (self.program, self.card)

    def __call__(self, images: Any) -> NDArray[np.float32]:
        """Return the logits [n, classes] of images.

        Args:
            images: floating point [n, channels, height, width], normalised as in training; see `normalised`.
        Raises:
            ShapeError: images of another shape, or whole numbers.
            DataError: an image holds a value that is not finite.
        """
        values = self._checked(images)
        logits = np.empty((len(values), self.program.classes), np.float32)
        threads = self._threads or self._fastest.get(len(values).bit_length(), 0)
        if not threads:
            threads = self._find_fastest(values, logits)
        self._run(values, logits, threads)
        return logits

    def normalised(self, pixels: Any) -> NDArray[np.float32]:
        """Return pixels, uint8 [n, channels, height, width], as the network was trained to see them.

        Raises:
            ShapeError: it is another kind of array.
            ProgramError: it is not known how they are to be normalised.
        """
        values = np.asarray(pixels)
        if values.dtype != np.uint8 or values.shape[1:] != self.program.input:
            raise ShapeError(f"pixels: uint8 [n, {self._shape}] is needed, but got {_kind(values)}")
        if not self.card.mean:
            raise ProgramError(
                "the network does not say how pixels are normalised; it was trained on other arrays, or its maker left "
                "that out: give it images as it was trained on them, in Python, as bnas.runtime.load(FILE)(images)"
            )
        return self.card.normalised(values)

    def room(self) -> "Room":
        """Return memory to run in, which no other caller has meanwhile."""
        try:
            return self._rooms.pop()
        except IndexError:
            return Room(self.code)

    def leave(self, room: "Room") -> None:
        """Give memory back."""
        self._rooms.append(room)

    @property
    def _shape(self) -> str:
        return ", ".join(map(str, self.program.input))

    def _checked(self, images: Any) -> NDArray[np.float32]:
        try:
            values = np.asarray(images)
        except (TypeError, ValueError, RuntimeError) as problem:  # rows of several lengths; a tensor with a gradient
            raise ShapeError(
                f"images: an array is needed, floating point [n, {self._shape}], but a {type(images).__name__} was "
                f"given, which NumPy takes for none: {problem}"
            ) from problem
        if values.dtype.kind != "f" or values.ndim != 4 or values.shape[1:] != self.program.input:
            raise ShapeError(f"images: floating point [n, {self._shape}] is needed, but got {_kind(values)}")
        return np.ascontiguousarray(values, np.float32)

    def _run(self, images: NDArray[np.float32], logits: NDArray[np.float32], threads: int) -> None:
        parts = min(threads, len(images)) or 1
        if parts == 1:
            self._run_part(images, logits, 0)
            return
        ends = [len(images) * part // parts for part in range(parts + 1)]
        with ThreadPoolExecutor(parts) as pool:
            for done in [
                pool.submit(self._run_part, images[start:end], logits[start:end], start)
                for start, end in itertools.pairwise(ends)
            ]:
                done.result()

    def _run_part(self, images: NDArray[np.float32], logits: NDArray[np.float32], first: int) -> None:
        room = self.room()
        done = room.run(images, logits)
        self.leave(room)
        if done < len(images):
            raise DataError(f"images[{first + done}] holds a value that is not finite; remove or replace this image")

    def _find_fastest(self, images: NDArray[np.float32], logits: NDArray[np.float32]) -> int:
        """Return how many threads are the fastest for so many images, and remember it."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        choices = [1] if len(images) < 2 else sorted({1, min(2, cores), cores})
        if len(choices) > 1:
            self._run(images, logits, max(choices))  # rooms are made, and memory is touched
        fastest = min(choices, key=lambda threads: self._seconds(images, logits, threads) if len(choices) > 1 else 0)
        self._fastest[len(images).bit_length()] = fastest
        return fastest

    def _seconds(self, images: NDArray[np.float32], logits: NDArray[np.float32], threads: int) -> float:
        start = time.perf_counter()
        self._run(images, logits, threads)
        return time.perf_counter() - start


class Room:
    """The code of a network, and the memory that it runs in."""

    def __init__(self, code: "Code") -> None:
        from bnas.runtime.compiled import execute
        from bnas.runtime.cpu import VECTOR_BYTES

        self._execute = execute()
        self._memory = np.zeros(code.size + VECTOR_BYTES, np.uint8)
        start = self._memory.ctypes.data
        self._words = code.at(start + -start % VECTOR_BYTES)
        self._head, self._code = self._words.ctypes.data, code  # which keeps the tables alive

    def run(self, images: NDArray[np.float32], logits: NDArray[np.float32]) -> int:
        """Fill logits; return how many images came before one that is not finite."""
        return int(self._execute(self._head, images.ctypes.data, logits.ctypes.data, len(images), 0))

    def run_pass(self, number: int) -> None:
        """Run one pass on what lies in memory."""
        self._execute(self._head, 0, 0, 1, self._head + 8 * self._code.starts[number])


def _kind(values: NDArray[Any]) -> str:
    return f"{values.dtype} {list(values.shape)}"
