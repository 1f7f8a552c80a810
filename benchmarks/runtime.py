"""Packed networks beside other runtimes: layers, whole networks, files, start and memory, on one thread.

    python benchmarks/runtime.py [--quick] [--json]

All is measured in one run, interleaved: processor time, medians, so that others on the machine disturb less. Layers are
the four 3x3 ones of ResNet-18 for one image, float in and out: thresholds, product, scale, bias and PReLU. The rivals
(torch always; onnxruntime with onnx, OpenVINO and bnn-lab where they are installed) compute the same shapes in float32,
int8 and one bit; what is not installed is said. bnn-lab is given bits that are packed and unfolded already.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numba
import numpy as np
import runtime_layers as layers
import torch
from claim import Claim, main
from llvmlite import ir

from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import Cost, cost
from bnas.cost.trace.trace_model import trace
from bnas.networks.build import build
from bnas.networks.models import build_model
from bnas.runtime import Card
from bnas.runtime.cpu import cpu
from bnas.runtime.file import encoded
from bnas.runtime.program import Program
from bnas.runtime.vector import WORD, call, operation, spread
from bnas.ship.lowering import lower
from bnas.ship.measuring import peak_bytes, seconds_of
from bnas.ship.rivals import Missing, rivals
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace

SHAPES = ((64, 56), (128, 28), (256, 14), (512, 7))  # channels, side
LARGE, SMALL = ("expert_net", "resnet18"), ("cifar10", "digits")
FIRST_SECONDS, LATER_SECONDS, IMPORT_SECONDS = 20, 1, 0.5
RUN = """
import numpy as np
from bnas.runtime import load
network = load({file!r})
network(np.zeros((1, *network.program.input), np.float32))
"""


def measure(quick: bool) -> Iterator[Claim]:
    """Yield claims; each holds where what we take is at most so much of what the other takes."""
    said(f"{platform.machine()}, {cpu()}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; one thread")
    torch.set_num_threads(1)
    yield inner_loop()
    for channels, side in SHAPES[:2] if quick else SHAPES:
        yield from layer_claims(channels, side, seconds=2 if quick else 8)
    for name in SMALL if quick else SMALL + LARGE:
        yield from network_claims(name, seconds=2 if quick else 15)
    with tempfile.TemporaryDirectory() as folder:
        yield from start_claims(Path(folder), quick)


def said(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def inner_loop() -> Claim:
    """Compare the tile of bits with XOR, popcount and add alone, on registers."""
    rates = seconds_of({"peak": peak(1 << 16), "tile": layers.tile(1 << 12)}, seconds=1, clock=time.process_time)
    peak_rate = (1 << 16) * 16 * 512 / rates["peak"]
    rate = layers.tile_macs(1 << 12) / rates["tile"]
    said(f"peak {peak_rate / 1e12:.2f}e12 MAC/s, tile of a 3x3 layer of 64 channels {rate / 1e12:.2f}e12")
    return Claim("half the popcount peak, against the inner loop's rate (MAC/s)", peak_rate / 2, rate, 1.0)


def peak(rounds: int) -> Callable[[], object]:
    """Return what counts the bits of sixteen vectors so many times, with nothing to load or store."""
    kind = ir.VectorType(WORD, 8)

    def emit(b: Any, start: Any, count: Any) -> Any:
        zero = ir.Constant(kind, [0] * 8)
        loop, before, after = b.append_basic_block("loop"), b.block, b.append_basic_block("after")
        seen = spread(b, start, 8)
        b.branch(loop)
        b.position_at_end(loop)
        index, word, *sums = (b.phi(part) for part in (WORD, kind, *[kind] * 16))
        made = [b.add(total, call(b, "ctpop", b.xor(word, total))) for total in sums]
        following, later = b.add(index, WORD(1)), b.add(word, seen)
        for phi, first, then in zip(
            [index, word, *sums], [WORD(0), seen, *[zero] * 16], [following, later, *made], strict=True
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(then, loop)
        b.cbranch(b.icmp_signed("<", following, count), loop, after)
        b.position_at_end(after)
        total = made[0]
        for other in made[1:]:
            total = b.xor(total, other)
        return b.extract_element(total, ir.IntType(32)(0))

    counted = operation(emit, numba.int64, [numba.int64, numba.int64])

    @numba.njit
    def run(start: int) -> int:
        return counted(start, rounds)

    run(3)
    return lambda: run(3)


def layer_claims(channels: int, side: int, *, seconds: float) -> Iterator[Claim]:
    """Compare one layer."""
    runs, missing = layers.ways(channels, side)
    for name, why in missing.items():
        said(f"{name}: {why}")
    times = seconds_of(runs, seconds=seconds, clock=time.process_time)
    said(f"{channels}x{side}x{side}: " + ", ".join(f"{name} {1e6 * t:.0f} us" for name, t in times.items()))
    ours, what = times["packed"], f"layer {channels}x{side}x{side}, packed (s), against"
    yield Claim(f"{what} torch float32 in its best layout", ours, least(times, "torch"), 0.1)
    if any("int8" in name for name in times):
        yield Claim(f"{what} the best int8", ours, least(times, "int8"), 1 / 3)
    for name in ("openvino 1 bit", "bnn-lab product"):
        if name in times:
            yield Claim(f"{what} {name}", ours, times[name], 1.0)


def least(times: dict[str, float], part: str) -> float:
    return min(taken for name, taken in times.items() if part in name)


def network_claims(name: str, *, seconds: float) -> Iterator[Claim]:
    """Compare a whole network with random weights, for one image; and its file with what is counted."""
    program, price = network(name)
    images = np.random.default_rng(0).standard_normal((1, *program.input)).astype(np.float32)
    runs = {}
    for rival in rivals(program, images):
        if isinstance(rival, Missing):
            said(f"{name}: {rival.name}: {rival.why}")
        else:
            runs[rival.name] = rival.run
    times = seconds_of(runs, seconds=seconds, clock=time.process_time)
    said(f"{name}: " + ", ".join(f"{rival} {1e6 * t:.0f} us" for rival, t in times.items()))
    ours, what = times["packed"], f"network {name}, packed (s), against"
    if name in LARGE:
        yield Claim(f"{what} torch float32 in its best layout", ours, least(times, "torch"), 0.2)
    if name in LARGE and any("int8" in rival for rival in times):
        yield Claim(f"{what} the best int8", ours, least(times, "int8"), 0.5)
    if name in SMALL and "onnxruntime float32" in times:
        yield Claim(f"{what} onnxruntime float32", ours, times["onnxruntime float32"], 1.0)
    size = len(encoded(program, Card()))
    yield Claim(f"network {name}, bytes of its file, against those counted", size, price.bytes, 1.05)
    if name in LARGE:
        yield Claim(f"network {name}, 20 times its file, against float32 (bytes)", 20 * size, price.float32_bytes, 1.0)


def network(name: str) -> tuple[Program, Cost]:
    """Return a network with random weights, and what is counted of it; of a space, one that fills its budget."""
    torch.manual_seed(0)
    if name == "resnet18":
        model = build_model(name, precision="binary").eval()
        return lower(model, (3, 224, 224)), cost(trace(model, (3, 224, 224)).layers)
    arch = Architecture.read(f"architectures/{name}.yaml") if name == "expert_net" else filling(name)
    return lower(build(arch).eval(), arch.input), cost(plan(arch))


def filling(name: str) -> Architecture:
    """Return the dearest of some networks of a space that are inside its budget."""
    space, draw = SearchSpace.read(f"search_spaces/{name}.yaml"), Random(0)
    budget = Budget.parse(space.search.budget)
    found = (space.architecture(space.sample(draw)) for _ in range(500))
    inside = [
        arch
        for arch in found
        if all(limit.at_most >= getattr(cost(plan(arch)), quantity) for quantity, limit in budget.limits)
    ]
    return max(inside, key=lambda arch: cost(plan(arch)).ops)


def start_claims(folder: Path, quick: bool) -> Iterator[Claim]:
    """Measure processes from their start to their end: seconds of processor time, and the memory that they take."""
    name = SMALL[1] if quick else LARGE[1]
    file = folder / "network.bnas"
    file.write_bytes(encoded(network(name)[0], Card()))
    environment = os.environ | {"BNAS_CACHE": str(folder)}
    code = RUN.format(file=str(file))
    yield Claim(
        "first run of a packed network, compiling, against 20 (s)", spent(code, environment), FIRST_SECONDS, 1.0
    )
    yield Claim("later runs, from the cache, against 1 (s)", spent(code, environment), LATER_SECONDS, 1.0)
    yield Claim("import bnas.runtime, against 0.5 (s)", spent("import bnas.runtime", environment), IMPORT_SECONDS, 1.0)
    if quick:
        return
    for large in LARGE:
        file.write_bytes(encoded(network(large)[0], Card()))
        ours, theirs = (peak_bytes(runtime, file) / 2**20 for runtime in ("packed", "torch float32"))
        yield Claim(f"network {large}, peak memory of a process (MiB), against torch float32", ours, theirs, 0.25)


def spent(code: str, environment: dict[str, str]) -> float:
    """Return the processor time of a process that runs code."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


if __name__ == "__main__":
    assert find_spec("bnas")
    main(measure, "Packed networks beside other runtimes, on one thread.")
