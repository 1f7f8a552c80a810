"""A model -> its layers with what each costs at every precision, counted on the model converted to it."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from bnas.cost.plan import PlannedLayer
from bnas.cost.totals import Cost, cost
from bnas.cost.trace.trace_model import Traced, trace
from bnas.cost.trace.wholes import is_binary
from bnas.errors import SpecError
from bnas.select import DEFAULT_BINARIZERS, Decision, Decisions, LayerFacts
from bnas.select.conversion.convert import convert
from bnas.select.conversion.observe import Seen, observe
from bnas.select.conversion.suitable import obstacle, signs_before
from bnas.space.arch import Binarizers
from bnas.space.values import PRECISIONS, Precision


def left_out(traced: Traced, model: nn.Module) -> dict[str, str]:
    """Return the modules with weights that the count leaves out, each with the reason; embeddings are among them.

    A module of which something else is counted is not among them, and neither is one that only scales or shifts.
    """
    counted = {layer.name for layer in traced.layers if layer.macs}
    found = {
        layer.name: f"is of the kind {type(model.get_submodule(layer.name)).__name__}, which multiplies nothing"
        for layer in traced.layers
        if layer.kind == "values" and _is_a_table(layer, model.get_submodule(layer.name))
    }
    found |= {item.path: f"not counted: {item.operator}: {item.why}" for item in traced.uncounted}
    return {path: why for path, why in found.items() if path not in counted}


def _is_a_table(layer: PlannedLayer, module: nn.Module) -> bool:
    """Say whether the values of a layer are all that a module without parts has, and more than one for each channel."""
    own = list(module.parameters(recurse=False))
    whole = layer.real_values == sum(parameter.numel() for parameter in own)  # else its matrix is in another layer
    return whole and not any(module.children()) and any(parameter.squeeze().ndim > 1 for parameter in own)


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
    layer costs does not depend on the precision of others, so that every mixture is a sum of these. Modules with
    weights that the count leaves out are among the layers, with the reason, and without a cost.

    Args:
        model: stays as it is.
        inputs: one tensor [batch, ...] for each argument of the model's forward. Their values matter for `norms` alone,
            and where they are no floating-point numbers.
        norms: by layer, whether a batch norm stands before a binary input; left out, it does where the model has none,
            or where the input is of one sign all the same, as behind a norm that is an activation too.
    Raises:
        ShapeError: the model fails on inputs of such a shape.
        DataError: the model fails on these inputs.
        SpecError: no layer can be binarized.
    """
    real = _traced(model, inputs)
    calls, left = _calls(real.layers), left_out(real, model)
    seen = observe(model, [x[:1] for x in inputs], {name: model.get_submodule(name) for name in (*calls, *left)})
    obstacles = {name: _obstacle(name, model, seen[name], calls[name]) for name in calls} | left
    kinds = {name: calls[name][0].kind for name in calls if not obstacles[name]}
    free = _norms_needed(model, inputs, kinds, seen) | {n: norm for n, norm in (norms or {}).items() if n in kinds}
    if not free:
        why = next((f"; {name or 'it'} {problem}" for name, problem in obstacles.items()), "")
        raise SpecError(f"model {type(model).__name__}: has no convolution or linear layer that can be binarized{why}")
    traced = {"real": real.layers} | {p: _traced_at(p, model, inputs, free, binarizers) for p in ("weight", "binary")}
    facts = []
    for name in _in_order(calls, left, seen):
        first = calls[name][0] if name in calls else PlannedLayer(name, "other", "values", 0, 0, (1, 1), (1, 1))
        costs = {p: cost(_own(traced[p], name)) for p in PRECISIONS} if name in free else {}
        facts.append(
            LayerFacts(
                first,
                costs or {first.precision: cost(calls.get(name, ()))},
                obstacle=obstacles[name],
                needs_norm=free.get(name, False),
                is_frozen=name in free and not model.get_submodule(name).get_parameter("weight").requires_grad,
                sees_input=seen[name].sees_input,
                gives_output=seen[name].gives_output,
            )
        )
    return Survey(tuple(facts), cost(layer for layer in real.layers if layer.name not in calls))


def _traced(model: nn.Module, inputs: Sequence[Tensor]) -> Traced:
    return trace(model, [tuple(x.shape[1:]) for x in inputs], like=inputs)


def _calls(layers: Iterable[PlannedLayer]) -> Calls:
    calls: Calls = {}
    for layer in layers:
        if layer.macs:
            calls.setdefault(layer.name, []).append(layer)
    return calls


def _obstacle(name: str, model: nn.Module, seen: Seen, calls: Sequence[PlannedLayer]) -> str:
    """Return why a layer cannot be binarized; nothing where it can."""
    known = obstacle(name, model)
    if calls[0].precision != "real" and not is_binary(model.get_submodule(name)):
        return f"has two values a filter: it is in one bit already{f' ({known})' if known else ''}"
    return known or ("its weight is used outside of its own call" if seen.calls != len(calls) else "")


def _norms_needed(
    model: nn.Module, inputs: Sequence[Tensor], kinds: Mapping[str, str], seen: Mapping[str, Seen]
) -> dict[str, bool]:
    """Return by layer whether its input must be normalised before its sign.

    The values decide, where there are any; else what the norm before it is.
    """
    signs = signs_before(model, inputs, {name: kind for name, kind in kinds.items() if seen[name].after_norm})
    spoken = {name: found.is_one_sided for name, found in signs.items() if found.is_known}
    return {name: not seen[name].after_norm or spoken.get(name, not seen[name].plain_norm) for name in kinds}


def _in_order(calls: Iterable[str], left: Iterable[str], seen: Mapping[str, Seen]) -> list[str]:
    """Return the counted layers in their order, each other module before the first of them that starts after it."""
    order = list(calls)
    for name in left:
        later = (place for place, other in enumerate(order) if seen[other].start > seen[name].start >= 0)
        order.insert(next(later, len(order)), name)
    return order


def _traced_at(
    precision: Precision, model: nn.Module, inputs: Sequence[Tensor], free: Mapping[str, bool], kinds: Binarizers
) -> tuple[PlannedLayer, ...]:
    """Return the layers of the model with every layer that can be at this precision."""
    layers = {name: Decision(precision=precision, norm=norm) for name, norm in free.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not counted was said for the model itself
        return _traced(convert(model, Decisions(binarizers=kinds, layers=layers)), inputs).layers


def _own(layers: Iterable[PlannedLayer], name: str) -> list[PlannedLayer]:
    """Return the calls of a layer, and of the batch norm in it."""
    return [layer for layer in layers if layer.name in (name, f"{name}.norm".lstrip("."))]
