"""Networks in several runtimes -> what each takes: time, in turn in one run; and memory, in a process of its own."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnas.runs.selection_folder import run_in
from bnas.runtime import Card, Network
from bnas.runtime.file import NAME, read
from bnas.runtime.filters import SignFilters
from bnas.runtime.network import Room
from bnas.runtime.passes import Pass
from bnas.runtime.program import Program
from bnas.runtime.steps import Conv, Value
from bnas.ship.folder import best_network
from bnas.ship.lowering import lower
from bnas.ship.packed import card_of
from bnas.ship.proof import reload

LEAST_ROUNDS, ROUNDS = 5, 15
LEAST_SECONDS, LEAST_TIMES, SHORTEST = 3e-4, 4, 1e-7  # of passes that run over and over; of one of them
_PEAK = {
    "packed": """
from bnas.runtime import load
network = load({file!r}, threads=1)
network(np.zeros((1, *network.program.input), np.float32))
""",
    "torch float32": """
import torch
from bnas.runtime.file import read
from bnas.ship.torch_program import TorchProgram
torch.set_num_threads(1)
program, _ = read({file!r})
with torch.inference_mode():
    TorchProgram(program)(torch.zeros(1, *program.input))
""",
}
_REPORT = """
import pathlib, resource, sys
status = pathlib.Path("/proc/self/status")
if status.exists():  # what the process took before it became this one counts in ru_maxrss, and here not
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    print(int(line.split()[1]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


class Layer(NamedTuple):
    """One pass of a packed network: what it computes, what is counted of it, and what it took."""

    what: str
    input: str
    output: str
    bops: int
    flops: int
    microseconds: float


def packed_from(source: str | Path, *, trust: bool = False) -> tuple[Program, Card]:
    """Return what a packed file, or the folder of one, holds; or what an export of a run would.

    Args:
        trust: run code that the network of a run names, as `file.py:attr`.
    Raises:
        TrustError: it names some, which is not trusted.
        ProgramError: the file cannot be used.
        ExportError, RunError: the run has no best network, or a part of it has no steps.
    """
    source = Path(source)
    if not source.is_dir() or (source / NAME).exists():
        return read(source)
    best = best_network(run_in(source), trust=trust)
    network = reload(best.described, best.tensors, source=str(source))
    return lower(network, best.described.input), card_of(best)


def seconds_of(
    runs: Mapping[str, Callable[[], Any]],
    *,
    seconds: float,
    rounds: int = LEAST_ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median seconds of each; every round runs all of them in turn, after one that does not count.

    Args:
        seconds: that all rounds together may take, but for so many that always run.
        clock: `time.process_time` counts what processors did, which others on the machine disturb less.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while len(next(iter(times.values()))) <= rounds or time.perf_counter() < end:
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: float(np.median(taken[1:])) for name, taken in times.items()}


def peak_bytes(runtime: str, file: Path) -> int:
    """Return the most memory that a process takes which loads a packed file and computes one image.

    Args:
        runtime: `packed` or `torch float32`.
    """
    code = "import numpy as np" + _PEAK[runtime].format(file=str(file)) + _REPORT
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def layers_of(network: Network) -> list[Layer]:
    """Return the passes of a packed network with the median time of each, for one image and one thread."""
    return [
        _layer(network.program, made, 1e6 * seconds_of_passes(network, number, number + 1))
        for number, made in enumerate(network.code.passes)
    ]


def seconds_of_passes(network: Network, first: int, end: int) -> float:
    """Return the median seconds that some passes of a packed network take together, for one image and one thread.

    They run over and over, after those before them, so that neither calls nor clocks count.
    """
    image, logits = an_image(network.program), np.empty((1, network.program.classes), np.float32)

    def seconds(times: int) -> float:
        room = Room(network.code.again(first, end, times=times))
        return median_seconds(lambda: room.run(image, logits))

    before = seconds(0)
    times = max(LEAST_TIMES, round(LEAST_SECONDS / max(seconds(1) - before, SHORTEST)))
    return max(seconds(times) - before, 0.0) / times


def median_seconds(run: Callable[[], Any]) -> float:
    """Return the median seconds of some runs, after one that does not count."""
    return seconds_of({"run": run}, seconds=0, rounds=ROUNDS)["run"]


def an_image(program: Program) -> NDArray[np.float32]:
    """Return one image that a program takes, [1, channels, height, width]: noise."""
    return np.random.default_rng(0).standard_normal((1, *program.input)).astype(np.float32)


def _layer(program: Program, made: Pass, microseconds: float) -> Layer:
    read, written = program.values[made.loaded.slot], program.values[made.slots[0]]
    names = [type(program.steps[slot - 1]).__name__ for slot in made.slots[1:]]
    sunk = {sink.slot for sinks in made.sinks.values() for sink in sinks} - set(made.slots)
    names += [type(program.steps[slot - 1]).__name__ for slot in sorted(sunk)]
    macs, what = 0, "Load"
    if made.source is not None:
        what = type(made.source).__name__
    if isinstance(made.source, Conv):
        experts, _, ins, rows, columns = made.source.filters.shape
        macs = ins * rows * columns * written.channels * written.pixels
        kind = "bits" if isinstance(made.source.filters, SignFilters) else "real"
        what = f"Conv {kind} {rows}x{columns}"
        what += f" /{made.source.stride[0]}" * (made.source.stride[0] > 1) + f" g{made.source.groups}" * (
            made.source.groups > 1
        )
        what += f" of {experts}" * (experts > 1)
    is_binary = read.kind == "bits"
    return Layer(
        " + ".join([what, *names]), _shape(read), _shape(written), macs if is_binary else 0, 0 if is_binary else macs,
        microseconds,
    )  # fmt: skip


def _shape(value: Value) -> str:
    return f"{value.channels}x{value.height}x{value.width}"
