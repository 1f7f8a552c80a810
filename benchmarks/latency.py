"""Predicted latency beside what is measured: networks of the CIFAR-10 space, packed, one image, one thread.

    python benchmarks/latency.py [--quick] [--json]

A table of the space's parts is measured first, minutes long; then 50 networks, whole. The yardstick is what a search
had before: counted ops, by which networks are ordered here too. `--quick` draws 8 networks of the digits space, and
measures the parts of those alone.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pandas as pd
import torch
from claim import Claim, main

from bnas.api.latency import check_latency, kernels, latency_table, machine, measured
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.space.arch import Architecture
from bnas.space.latency import LatencyTable, parts_of
from bnas.space.space import SearchSpace

NETWORKS, FEW = 50, 8
ERROR, ORDER = 0.10, 0.95  # of half of the networks at most; rank correlation at least


def measure(quick: bool) -> Iterator[Claim]:
    """Yield how far predictions are off, and how much of the order they miss."""
    torch.set_num_threads(1)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr, flush=True)
    name, networks = ("digits", FEW) if quick else ("cifar10", NETWORKS)
    space = SearchSpace.read(f"search_spaces/{name}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        table = of_some(space, networks) if quick else latency_table(space, out=Path(folder) / "table.yaml")
    rows = check_latency(space, table, networks=networks)
    ops = pd.Series([cost(plan(arch)).ops for arch in drawn(space, networks)])
    apart = (rows["predicted_ms"] / rows["measured_ms"] - 1).abs()
    order, by_ops = (each.corr(rows["measured_ms"], method="spearman") for each in (rows["predicted_ms"], ops))
    spread = f"{rows['measured_ms'].min():.3f} to {rows['measured_ms'].max():.3f} ms"
    print(
        f"{networks} networks of {name}, {spread}, {len(table.nanoseconds)} parts: off by {apart.median():.1%} "
        f"(median), {apart.max():.1%} (most); rank correlation {order:.3f}, of counted ops {by_ops:.3f}",
        file=sys.stderr,
    )
    yield Claim(f"{name}: error of half of the predictions, against {ERROR:.0%}", apart.median(), ERROR, 1.0)
    yield Claim(f"{name}: order missed, 1 - rank correlation, against {1 - ORDER:.2f}", 1 - order, 1 - ORDER, 1.0)
    yield Claim(
        f"{name}: order missed by the prediction, against that missed by counted ops", 1 - order, 1 - by_ops, 0.5
    )


def drawn(space: SearchSpace, networks: int) -> list[Architecture]:
    """Return the networks that `check_latency` draws."""
    random = Random(0)
    return [space.architecture(space.sample(random)) for _ in range(networks)]


def of_some(space: SearchSpace, networks: int) -> LatencyTable:
    """Return a table of the parts that some networks have."""
    parts = {str(part): part for arch in drawn(space, networks) for part in parts_of(arch)}
    times = {name: measured(part) for name, part in parts.items()}
    return LatencyTable(machine=machine(), kernels=kernels(), nanoseconds=times)


if __name__ == "__main__":
    main(measure, "Predicted latency beside measured.")
