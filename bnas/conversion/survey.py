"""A model -> its layers with what each costs at every precision, counted on the model converted to it."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from bnas.arch import PRECISIONS, Binarizers, Precision
from bnas.conversion.observe import Seen, observe
from bnas.conversion.obstacles import obstacle
from bnas.conversion.replace import convert
from bnas.cost import Cost, cost
from bnas.errors import SpecError
from bnas.plan import PlannedLayer
from bnas.selection import DEFAULT_BINARIZERS, Decision, Decisions, LayerFacts
from bnas.trace import trace

Calls = dict[str, list[PlannedLayer]]  # by module path, in the order in which they run


class Survey(NamedTuple):
    """The layers of a model in the order in which they run, and what all else costs."""

    layers: tuple[LayerFacts, ...]
    rest: Cost


def survey(
    model: nn.Module,
    inputs: Sequence[Tensor],
    *,
    binarizers: Binarizers = DEFAULT_BINARIZERS,
    norms: Mapping[str, bool] | None = None,
) -> Survey:
    """Return what is known of a model's layers without measuring any error.

    Costs are not derived but counted: of the model as it is, and of copies with all layers at one precision. What one
    layer costs does not depend on the precision of others, so that every mixture is a sum of these.

    Args:
        model: stays as it is.
        inputs: one tensor [batch, ...] for each argument of the model's forward; their values do not matter.
        norms: by layer, whether a batch norm stands before a binary input; left out, it does where the model has none.
    Raises:
        ShapeError: the model fails on such inputs.
        SpecError: no layer can be binarized.
    """
    shapes = [tuple(x.shape[1:]) for x in inputs]
    real = trace(model, shapes).layers
    calls = _calls(real)
    obstacles, seen = _examined(model, inputs, calls)
    free = {name: (norms or {}).get(name, not around.normed) for name, around in seen.items() if not obstacles[name]}
    if not free:
        why = next((f"; {name or 'it'} {problem}" for name, problem in obstacles.items()), "")
        raise SpecError(f"model {type(model).__name__}: has no convolution or linear layer that can be binarized{why}")
    traced = {"real": real} | {p: _traced_at(p, model, shapes, free, binarizers) for p in ("weight", "binary")}
    facts = []
    for name, (first, *_) in calls.items():
        costs = {p: cost(_own(traced[p], name)) for p in PRECISIONS} if name in free else {}
        around = seen.get(name, Seen())
        facts.append(
            LayerFacts(
                first,
                costs or {first.precision: cost(calls[name])},
                obstacle=obstacles[name],
                needs_norm=free.get(name, False),
                sees_input=around.sees_input,
                gives_output=around.gives_output,
            )
        )
    return Survey(tuple(facts), cost(layer for layer in real if layer.name not in calls))


def _calls(layers: Iterable[PlannedLayer]) -> Calls:
    calls: Calls = {}
    for layer in layers:
        if layer.macs:
            calls.setdefault(layer.name, []).append(layer)
    return calls


def _examined(model: nn.Module, inputs: Sequence[Tensor], calls: Calls) -> tuple[dict[str, str], dict[str, Seen]]:
    """Return why layers cannot be binarized, and what surrounds those that may be."""
    obstacles = {name: obstacle(name, model) for name in calls}
    one = [x[:1] for x in inputs]  # what is seen is kept in memory meanwhile
    seen = observe(model, one, {name: model.get_submodule(name) for name in calls if not obstacles[name]})
    for name, around in seen.items():
        if around.calls != len(calls[name]):
            obstacles[name] = "its weight is used outside of its own call"
    return obstacles, seen


def _traced_at(
    precision: Precision, model: nn.Module, shapes: Sequence[Sequence[int]], free: Mapping[str, bool], kinds: Binarizers
) -> tuple[PlannedLayer, ...]:
    """Return the layers of the model with every layer that can be at this precision."""
    layers = {name: Decision(precision=precision, norm=norm) for name, norm in free.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not counted was said for the model itself
        return trace(convert(model, Decisions(binarizers=kinds, layers=layers)), shapes).layers


def _own(layers: Iterable[PlannedLayer], name: str) -> list[PlannedLayer]:
    """Return the calls of a layer, and of the batch norm in it."""
    return [layer for layer in layers if layer.name in (name, f"{name}.norm".lstrip("."))]
