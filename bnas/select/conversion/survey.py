"""A model -> its layers with what each costs at every precision, counted on the model converted to it."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from bnas.amounts import show
from bnas.cost.plan import PlannedLayer
from bnas.cost.totals import Cost, cost
from bnas.cost.trace.trace_model import Traced, trace
from bnas.cost.trace.wholes import is_binary
from bnas.errors import SpecError
from bnas.select import DEFAULT_BINARIZERS, Decision, Decisions, LayerFacts, Selection
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
    names = [name for name in calls if not obstacles[name]]
    free = _norms_needed(model, inputs, names, seen) | {n: norm for n, norm in (norms or {}).items() if n in names}
    if not free:
        why = next((f"; {name or 'it'} {problem}" for name, problem in obstacles.items()), "")
        raise SpecError(f"model {type(model).__name__}: has no convolution or linear layer that can be binarized{why}")
    traced = {"real": real.layers} | {p: _traced_at(p, model, inputs, free, binarizers) for p in ("weight", "binary")}
    _check_fixed(model, traced)
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


def _check_fixed(model: nn.Module, traced: Mapping[str, Iterable[PlannedLayer]]) -> None:
    """Raise unless every layer computes as much whatever the precisions: one that the data chooses may not.

    Raises:
        SpecError: one does not; says which.
    """
    macs = {precision: Counter[str]() for precision in traced}
    for precision, layers in traced.items():
        for layer in layers:
            macs[precision][layer.name] += layer.macs
    for counted in macs.values():
        for name in {**macs["real"], **counted}:
            if counted[name] != macs["real"][name]:
                raise SpecError(
                    f"model {type(model).__name__}: layer {name!r} computes {macs['real'][name]:,} MACs as the model "
                    f"is, and {counted[name]:,} with layers in one bit: {_ROUTED}"
                )


def check_kept(model: nn.Module, inputs: Sequence[Tensor], selection: Selection) -> None:
    """Raise unless the converted model costs what was counted for it from its parts.

    Raises:
        SpecError: it does not: the data decides what runs in it.
    """
    found = cost(_traced_as(model, inputs, selection.decisions))
    if found != selection.cost:
        raise SpecError(
            f"model {type(model).__name__}: converted it costs {show(found.ops)} ops and {show(found.bytes)} bytes, "
            f"where its layers promise {show(selection.cost.ops)} and {show(selection.cost.bytes)}: {_ROUTED}"
        )


_ROUTED = (
    "the data decides what runs, so no cost can be kept; give the parts that always run, each as a model of its own"
)


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
    model: nn.Module, inputs: Sequence[Tensor], layers: Sequence[str], seen: Mapping[str, Seen]
) -> dict[str, bool]:
    """Return by layer whether its input must be normalised before its sign.

    The values decide, where there are any; else what the norm before it is.
    """
    signs = signs_before(model, inputs, [name for name in layers if seen[name].after_norm])
    spoken = {name: found.is_one_sided for name, found in signs.items() if found.is_known}
    return {name: not seen[name].after_norm or spoken.get(name, not seen[name].plain_norm) for name in layers}


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
    return _traced_as(model, inputs, Decisions(binarizers=kinds, layers=layers))


def _traced_as(model: nn.Module, inputs: Sequence[Tensor], decisions: Decisions) -> tuple[PlannedLayer, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not counted was said for the model itself
        return _traced(convert(model, decisions), inputs).layers


def _own(layers: Iterable[PlannedLayer], name: str) -> list[PlannedLayer]:
    """Return the calls of a layer, and of the batch norm in it."""
    return [layer for layer in layers if layer.name in (name, f"{name}.norm".lstrip("."))]
