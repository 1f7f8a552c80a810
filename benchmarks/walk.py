"""The whole walk that a newcomer takes: one command from a space to the best network, against what it must reach.

    python benchmarks/walk.py SPACE --data D [--seconds S] [--paid N] [--accuracy A] [--gib G] [--out RUN] [--json]

Runs `bnas search SPACE --data D` as a process of its own and measures it from outside: seconds from start to end, and
the peak memory of the largest process. What it paid for, test accuracy and cost are those that it says. Each is a claim
where there is a target for it: given as an option, or known for the space. Budgets are those that the run kept to.
A row goes to `results/walk.csv`, or to another file with `--results`.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from claim import Claim
from rows import Rows

from bnas.cost.budget import Budget

RESULTS = Path(__file__).parent / "results" / "walk.csv"
COLUMNS = ("space", "data", "seconds", "paid", "gib", "test_accuracy", "ops", "bytes", "cores", "machine")
KIB_IN_GIB = 2**20


class Target(NamedTuple):
    """What a walk must reach; None asks nothing."""

    seconds: float | None = None  # at most
    paid: int | None = None  # candidates, at least
    accuracy: float | None = None  # on the test images, at least
    gib: float | None = None  # of memory, at most


TARGETS = {
    "digits": Target(seconds=150, paid=200, accuracy=0.98, gib=1.5),
    "mnist": Target(seconds=2400, accuracy=0.992),
    "cifar10": Target(seconds=10_800),
}


class Walk(NamedTuple):
    """One walk, measured."""

    seconds: float
    gib: float
    said: dict[str, Any]  # what the command printed

    @property
    def paid(self) -> int:
        return int(self.said["ledger"]["search"]["paid"])

    @property
    def accuracy(self) -> float:
        return float(self.said["best"]["accuracy"]["test"])


def walk(space: Path, data: str, run: Path) -> Walk:
    """Run the command in a process of its own, which tells its progress on stderr."""
    command = [sys.executable, "-m", "bnas", "search", str(space), "--data", data, "--out", str(run), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.returncode)
    gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / KIB_IN_GIB
    return Walk(seconds, gib, json.loads(done.stdout))


def claims(made: Walk, target: Target) -> Iterator[Claim]:
    """Yield what there is a target for; each holds where the ratio is at most one."""
    if target.seconds is not None:
        yield Claim("seconds of the whole walk, against those it may take", made.seconds, target.seconds, 1.0)
    if target.paid is not None:
        yield Claim("candidates to pay for, against those paid for", target.paid, max(made.paid, 1), 1.0)
    if target.accuracy is not None:
        error, most = 1 - made.accuracy, 1 - target.accuracy
        yield Claim("test error of the best network, against what it may be", error, most, 1.0)
    if target.gib is not None:
        yield Claim("GiB of memory at the peak, against what it may take", made.gib, target.gib, 1.0)
    for name, limit in Budget.parse(made.said["best"]["budget"]).limits:
        if limit.at_most < float("inf"):
            yield Claim(f"{name} of the best network, against the budget", price(made, name), limit.at_most, 1.0)


def price(made: Walk, quantity: str) -> float:
    return float(made.said["best"]["cost"][quantity])


def main() -> None:
    """Take the walk, print its claims, keep its row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--paid", type=int)
    parser.add_argument("--accuracy", type=float)
    parser.add_argument("--gib", type=float)
    parser.add_argument("--out", type=Path, help="keep the run here; a new folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    if options.out is not None and options.out.exists():
        raise SystemExit(f"{options.out}: exists, and a walk begins at the beginning; give a new folder")
    asked = {name: getattr(options, name) for name in Target._fields if getattr(options, name) is not None}
    with tempfile.TemporaryDirectory() as folder:
        made = walk(options.space, options.data, options.out or Path(folder) / "run")
    for claim in claims(made, TARGETS.get(options.space.stem, Target())._replace(**asked)):
        print(claim.as_json() if options.json else claim, flush=True)
    Rows(options.results, COLUMNS, texts=("space", "data", "machine")).add(
        space=options.space.stem, data=options.data, seconds=round(made.seconds, 1), paid=made.paid,
        gib=round(made.gib, 2), test_accuracy=made.accuracy, ops=price(made, "ops"), bytes=int(price(made, "bytes")),
        cores=len(os.sched_getaffinity(0)), machine=platform.machine(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
