"""Why a part of a model cannot be given binary weights."""

from torch import nn

from bnas.layers.binarized import BINARIZED, Binarized
from bnas.trace.assemble import BINARY


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
