"""Why a part of a model cannot be given binary weights: a layer that is counted, or what is not."""

from torch import nn

from bnas.cost.plan import PlannedLayer
from bnas.cost.trace import Traced
from bnas.cost.trace.assemble import BINARY
from bnas.layers.binarized import BINARIZED, Binarized


def obstacle(path: str, model: nn.Module) -> str:
    """Return why the layer at a path cannot be binarized; nothing where it can."""
    module = model.get_submodule(path)
    if isinstance(module, (*BINARY, Binarized)):
        return f"is a {type(module).__name__} already"
    if type(module) not in BINARIZED:
        if isinstance(module, tuple(BINARIZED)):
            return f"is a {type(module).__name__}, which may compute something else than a layer of torch"
        return f"is computed inside {type(module).__name__}, not by a layer of its own"
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is computed from other values"
    others = [
        name or "the model itself"
        for name, other in model.named_modules()
        if other is not module and any(parameter is weight for parameter in other._parameters.values())
    ]
    return f"shares its weight with {others[0]}" if others else ""


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
