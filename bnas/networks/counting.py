"""A network, in whatever form a person has it -> what it costs for one image."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnas.cost.plan import plan
from bnas.cost.totals import Cost, cost
from bnas.errors import ShapeError
from bnas.space.arch import Architecture
from bnas.spec import parse

if TYPE_CHECKING:
    from torch import Tensor, nn


def count(
    network: "str | Path | Architecture | nn.Module",
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    *,
    like: "Sequence[Tensor | None]" = (),
) -> Cost:
    """Return what a network costs for one image: `.ops`, `.bops`, `.flops`, `.bytes`, `.parameters` and more.

    MACs of convolutions, linear layers and matrix products count; batch norm, activations, bias, pooling and adds do
    not. What cannot be counted is warned of. `bnas.plan` and `bnas.trace` give the layers one by one.

    Args:
        network: an architecture, the path of its YAML file, a known model by name, its weights real, or an
            `nn.Module`, which stays as it is.
        input_shape: (channels, height, width); an architecture has its own. Several where a model takes several.
        like: examples of a model's inputs, where they are no floating-point numbers; as in `bnas.trace`.
    Raises:
        SpecError: the file is missing or holds no architecture, or an architecture cannot have this input.
        LookupFailed: there is no known model of this name.
        ShapeError: a model without an input shape, or one that fails on it.
    """
    if isinstance(network, str | Path) and Path(network).suffix in (".yaml", ".yml"):
        network = Architecture.read(network)
    if isinstance(network, Architecture):
        return cost(plan(network if input_shape is None else _on(network, input_shape)))
    from bnas.cost.trace.trace_model import trace  # torch is imported only for a model
    from bnas.networks.models import MODELS, build_model

    if isinstance(network, str | Path):
        name = str(network)
        network = build_model(name)
        input_shape = input_shape or MODELS[name].input
    if input_shape is None:
        raise ShapeError(
            "count: a model's cost depends on its input; give its shape, as in count(model, (3, 224, 224))"
        )
    return cost(trace(network, input_shape, like=like).layers)


def _on(arch: Architecture, input_shape: Sequence[object]) -> Architecture:
    return parse(Architecture, arch.model_dump(mode="json") | {"input": list(input_shape)}, source="count")
