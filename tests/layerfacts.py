"""Layers of a network that exists only as numbers, for tests of what is decided on them."""

from bnas.cost.plan import Kind, PlannedLayer
from bnas.cost.totals import Cost
from bnas.select import LayerErrors, LayerFacts, LossChanges
from bnas.space.values import Precision


def facts(
    name: str,
    *,
    macs: int = 6400,
    error: float = 0.5,
    losses: LossChanges | None = None,
    kernel: int = 3,
    stride: int = 1,
    kind: Kind = "conv",
    obstacle: str = "",
    sees_input: bool = False,
    gives_output: bool = False,
) -> LayerFacts:
    """Return a layer of so many MACs, 100 weights, and a batch norm of 16 bytes before a binary input."""
    planned = PlannedLayer(name, "other", kind, 1, macs, (1, 1), (1, 1), (kernel, kernel), (stride, stride))
    costs: dict[Precision, Cost] = {
        "real": Cost(0, macs, 400, 100, weights=100),
        "weight": Cost(0, macs, 13, 100, weights=100, binary_weights=100, mixed_flops=macs),
        "binary": Cost(macs, 0, 13 + 16, 104, weights=100, binary_weights=100),
    }
    return LayerFacts(
        planned,
        {"real": costs["real"]} if obstacle else costs,
        obstacle=obstacle,
        sees_input=sees_input,
        gives_output=gives_output,
        errors=LayerErrors(error, error / 2, {"xnor": 0.4}, losses),
    )


def network(*inner: LayerFacts) -> list[LayerFacts]:
    """Return layers between a first and a last one."""
    return [facts("first", sees_input=True), *inner, facts("last", gives_output=True)]
