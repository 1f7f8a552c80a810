"""What every benchmark prints: claims, each a measured ratio against a yardstick of the same run."""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

from bnas.allocator import keep_freed_memory


@dataclass(frozen=True)
class Claim:
    """One measured claim; it holds where value / yardstick is at most the target."""

    claim: str
    value: float
    yardstick: float
    target: float

    @property
    def ratio(self) -> float:
        return self.value / self.yardstick

    @property
    def holds(self) -> bool:
        return bool(self.ratio <= self.target)  # of numpy, too

    def as_json(self) -> str:
        return json.dumps(asdict(self) | {"ratio": self.ratio, "holds": self.holds})

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        numbers = f"{self.value:.4g} against {self.yardstick:.4g}, ratio {self.ratio:.3g}, target {self.target:.3g}"
        return f"{self.claim}: {numbers}: {verdict}"


def medians(ways: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each way; every repeat runs all ways in turn, after two that do not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 2):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(taken[2:]) for name, taken in times.items()}


def positive(value: float) -> float:
    """Return the value, or next to nothing where a ratio to it would change its sign or not exist."""
    return value if value > 0 else 1e-9


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive numbers."""
    return math.exp(statistics.fmean(map(math.log, values)))


def main(measure: Callable[[bool], Iterable[Claim]], description: str) -> None:
    """Run a benchmark from the command line: print each claim as soon as it is measured."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer repeats; ends within a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does; without it, which way pays for new pages is chance
    for claim in measure(options.quick):
        print(claim.as_json() if options.json else claim, flush=True)
