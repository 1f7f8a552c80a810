"""A layer of a model -> why it cannot be made binary, if it cannot."""

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod

from bnas.cost.trace.wholes import is_binary
from bnas.layers.binarized import BINARIZED


def obstacle(path: str, model: nn.Module) -> str:
    """Return why the layer at a path cannot be binarized; nothing where it can."""
    module = model.get_submodule(path)
    if is_binary(module):
        return f"is a {type(module).__name__} already"
    return _of_its_kind(module) if type(module) not in BINARIZED else _of_its_weight(module, model)


def _of_its_kind(module: nn.Module) -> str:
    kind = type(module)
    if parametrize.is_parametrized(module):
        return (
            "its weight is parametrized, as by weight norm; make that permanent with "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    if isinstance(module, tuple(BINARIZED)):
        return f"is a {kind.__module__}.{kind.__qualname__}, which may compute something else than a layer of torch"
    known = next((base for base in kind.__mro__ if base.__module__.startswith("torch.nn.")), nn.Module)
    if known is not nn.Module and not any(module.children()):
        return f"is a {known.__name__}, which has no binary form here"
    return f"is computed inside {kind.__name__}, not by a layer of its own"


def _of_its_weight(module: nn.Module, model: nn.Module) -> str:
    weight = module._parameters.get("weight")
    if weight is None and "weight" in module._buffers:
        return "its weight is a buffer, fixed on purpose; make it a parameter to have it trained"
    if weight is None and any(isinstance(hook, BasePruningMethod) for hook in module._forward_pre_hooks.values()):
        return "its weight is pruned; make that permanent with torch.nn.utils.prune.remove(layer, 'weight')"
    if weight is None:
        return "its weight is computed from other values"
    if not weight.is_floating_point():
        return f"its weight is of {str(weight.dtype).removeprefix('torch.')}"
    others = [
        name or "the model itself"
        for name, other in model.named_modules()
        if other is not module and any(parameter is weight for parameter in other._parameters.values())
    ]
    return f"shares its weight with {others[0]}" if others else ""
