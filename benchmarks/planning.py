"""Architectures a second that are checked against a budget before any forward pass, and the time to trace a model.

    python benchmarks/planning.py [--quick] [--json]

A check is genotype -> architecture -> plan -> cost -> budget, for genotypes that were not seen before, in a space of
about 20 blocks, after 5,000 others; those first ones, which meet every part for the first time, take about half as long
again.
The yardsticks are the second that 5,000 checks may take, and the same checks with no part remembered.
Tracing is that of ResNet-18 on an image of 224x224, whose yardstick is the two seconds that it may take.
Times are milliseconds of the processor, on one core, so that what else the machine does counts little.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from random import Random

import torch
from claim import Claim, main

from bnas.cost.budget import Budget
from bnas.cost.plan import PlannedLayer, plan_block, plan_head, plan_stem
from bnas.cost.totals import Cost, cost
from bnas.cost.trace.trace_model import trace
from bnas.networks.models import MODELS, build_model
from bnas.searcher.feasible import cost_of
from bnas.space.space import Genes, SearchSpace
from bnas.spec import parse

CHECKS = 5_000
SECOND = 1_000.0  # milliseconds

Price = Callable[[SearchSpace, Genes], Cost]

SPACE = {
    "input": [3, 32, 32],
    "classes": 10,
    "stem": {"width": [16, 32]},
    "shortcut": {"kind": "conv"},
    "stages": [
        {
            "depth": [4, 5, 6],
            "width": [width, 3 * width // 2, 2 * width],
            "groups": [1, 2, 4],
            "experts": [1, 2, 4],
            "kernel": [3, 5],
            "stride": stride,
            "precision": ["binary", "weight"],
        }
        for width, stride in ((32, 1), (64, 2), (128, 2), (256, 2))
    ],
}


def measure(quick: bool) -> Iterator[Claim]:
    """Time checks and traces."""
    yield from measure_checks(quick)
    yield from measure_trace(quick)


def measure_trace(quick: bool) -> Iterator[Claim]:
    """Time traces of a new model each; the first, which loads much of torch, counts."""
    torch.set_num_threads(1)
    times = []
    for _ in range(3 if quick else 11):
        model = build_model("resnet18")
        start = time.process_time()
        with warnings.catch_warnings(action="error"):  # everything is counted
            trace(model, MODELS["resnet18"].input)
        times.append(1e3 * (time.process_time() - start))
    yield Claim("the slowest trace of ResNet-18 on 3x224x224, against two seconds", max(times), 2 * SECOND, 1.0)


def measure_checks(quick: bool) -> Iterator[Claim]:
    """Time checks of new genotypes in both ways, in turn, then compare."""
    space = parse(SearchSpace, SPACE, source="benchmark")
    budget = Budget.parse(["ops=20M", "bytes=1M"])
    random = Random(0)
    for _ in range(CHECKS):
        cost_of(space, space.sample(random))

    chunk, repeats = (100, 7) if quick else (500, 21)
    times: dict[Price, list[float]] = {cost_of: [], cost_anew: []}
    for _ in range(repeats):
        drawn = [space.sample(random) for _ in range(chunk)]
        for price, taken in times.items():
            start = time.process_time()
            for genes in drawn:
                budget.admits(price(space, genes))
            taken.append(1e3 * (time.process_time() - start) * CHECKS / chunk)
        assert all(cost_of(space, genes) == cost_anew(space, genes) for genes in drawn[:10])
    remembered, anew = (statistics.median(times[price]) for price in (cost_of, cost_anew))
    what = f"{CHECKS:,} checks in a space of {float(space.size):.0e} networks"
    yield Claim(f"{what}, against a second", remembered, SECOND, 1.0)
    yield Claim(f"{what}, against planning every part anew", remembered, anew, 0.5)


def cost_anew(space: SearchSpace, genes: Genes) -> Cost:
    """Return what `cost_of` returns, with nothing taken from memory."""
    arch = space.architecture(genes)
    layers: list[PlannedLayer] = []
    part, size = plan_stem.__wrapped__(arch.stem, arch.input[0], arch.input[1:], arch.binarizers.weight)
    layers += part
    for stage, blocks in enumerate(arch.blocks()):
        for index, block in enumerate(blocks):
            part, size = plan_block.__wrapped__(f"stages.{stage}.{index}", block, size)
            layers += part
    layers += plan_head.__wrapped__(arch.last_width, arch.classes, size)
    return cost(layers)


if __name__ == "__main__":
    main(measure, __doc__.partition("\n")[0])
