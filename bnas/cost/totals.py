"""Planned layers -> what a network costs, and the conventions by which others count.

Counted as the literature counts: MACs of convolutions and linear layers. Batch norm, activations, bias, pooling and
adds are not counted. OPs = FLOPs + BOPs / 64.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from bnas.amounts import show
from bnas.cost.plan import PlannedLayer
from bnas.errors import SpecError

BOPS_PER_OP = 64
NANOSECONDS_PER_MS = 10**6
_OF_WEIGHTS = ("weights", "binary_weights", "mixed_flops")  # what other figures hold, and a repr leaves out
NOT_COUNTED = "batch norm, activations, bias, pooling and adds are not counted"


class Cost(NamedTuple):
    """What a network, or a part of it, costs for one image."""

    bops: int  # MACs between a binary input and a binary weight
    flops: int  # all other MACs
    bytes: int  # packed weights, scales and folded batch norm
    parameters: int  # weights of all experts, and the real values beside them
    weights: int = 0  # of convolutions and linear layers, all experts
    binary_weights: int = 0  # those of them that take one bit
    mixed_flops: int = 0  # FLOPs between a real input and a binary weight
    nanoseconds: int = 0  # predicted, not counted: by a table of what parts took on some machine; 0 without one
    activation_bytes: int = 0  # at the layer with the most: its input, its output, what is held for a later one

    @property
    def ops(self) -> float:
        """FLOPs + BOPs / 64."""
        return self.flops + self.bops / BOPS_PER_OP

    @property
    def latency_ms(self) -> float:
        """Milliseconds that one image is predicted to take; 0 without a table of latencies."""
        return self.nanoseconds / NANOSECONDS_PER_MS

    @property
    def macs(self) -> int:
        """All MACs: FLOPs + BOPs."""
        return self.flops + self.bops

    @property
    def parameters_by_bits(self) -> dict[int, int]:
        """How many parameters take one bit, and how many 32."""
        return {1: self.binary_weights, 32: self.parameters - self.binary_weights}

    @property
    def float32_bytes(self) -> int:
        """Bytes if every parameter took 32 bits."""
        return 4 * self.parameters

    @property
    def weight_saving(self) -> float:
        """How many times fewer bits the weights take than in float32, scales and batch norm left out, as papers do."""
        bits = 32 * (self.weights - self.binary_weights) + self.binary_weights
        return 32 * self.weights / bits if bits else 1.0

    def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
        return total((self, other))

    def __repr__(self) -> str:
        known = {name: value for name, value in self.as_dict().items() if value and name not in _OF_WEIGHTS}
        return f"Cost({', '.join(f'{name}={show(value)}' for name, value in known.items())})"

    def as_dict(self) -> dict[str, float]:
        """Return every quantity by name, ops first; a latency where one is predicted."""
        counted = {name: value for name, value in self._asdict().items() if name != "nanoseconds"}
        return {"ops": self.ops, **counted} | ({"latency_ms": self.latency_ms} if self.nanoseconds else {})


def cost(layers: Iterable[PlannedLayer]) -> Cost:
    """Return what layers cost together."""
    return total(layer.figures for layer in layers)


def total(parts: Iterable[tuple[int, ...]]) -> Cost:
    """Return what parts cost together: sums, and the highest peak."""
    columns = list(zip(*parts, strict=True))
    return Cost._make((*map(sum, columns[:-1]), max(columns[-1]))) if columns else Cost(0, 0, 0, 0)


def by_stage(layers: Iterable[PlannedLayer]) -> dict[str, Cost]:
    """Return what each part of a network costs: its stem, stages and head, or the first names of its module paths."""
    stages: dict[str, list[PlannedLayer]] = {}
    for layer in layers:
        first, *rest = layer.name.split(".")
        stages.setdefault(f"{first}.{rest[0]}" if first == "stages" and rest else first, []).append(layer)
    return {name: cost(members) for name, members in stages.items()}


class Convention(NamedTuple):
    """How one figure is made of MACs of different precision."""

    name: str
    unit: str
    formula: str
    figure: Callable[[Cost], float]

    def saving(self, cost: Cost) -> float:
        """Return how many times less it is than with real inputs and weights everywhere."""
        figure = self.figure(cost)
        return self.figure(Cost(0, cost.macs, 0, 0)) / figure if figure else 1.0


def convention(name: str, *, divisor: int = BOPS_PER_OP) -> Convention:
    """Return a way to count, by name.

    Args:
        name: `literature`, `larq` or `qonnx`.
        divisor: BOPs that are taken for one op in `literature`; the others divide nothing.
    Raises:
        SpecError: no such name, a divisor below 1, or one where nothing is divided.
    """
    if divisor < 1:
        raise SpecError(f"divisor: must be at least 1, but got {divisor}; the literature's is {BOPS_PER_OP}")
    known = {
        "literature": Convention(
            "literature", "ops", f"OPs = FLOPs + BOPs / {divisor}", lambda cost: cost.flops + cost.bops / divisor
        ),
        "larq": Convention("larq", "macs", "MACs, those of one bit beside those of 32, none divided", lambda c: c.macs),
        "qonnx": Convention("qonnx", "bit_ops", "bit operations = MACs x input bits x weight bits", _bit_operations),
    }
    if name not in known:
        raise SpecError(f"convention: {name!r} is not known; choose from {', '.join(known)}")
    if divisor != BOPS_PER_OP and name != "literature":
        raise SpecError(f"divisor: {name} divides nothing, but got {divisor}; choose literature, or leave it out")
    return known[name]


def _bit_operations(cost: Cost) -> float:
    return cost.bops + 32 * cost.mixed_flops + 32 * 32 * (cost.flops - cost.mixed_flops)
