"""A model and an image -> what surrounds each of its layers: how often it runs, and what its input comes from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bnas.cost.trace.assemble import NORMS


@dataclass
class Seen:
    """What surrounds a layer."""

    calls: int = 0
    start: int = -1  # how many of the layers started before it; -1: it was not called
    normed: bool = True  # its input is what a norm gave, in every call
    sees_input: bool = False  # its input is the model's own, or made of it without weights, as by a norm or a scaling
    gives_output: bool = False  # its output is the model's own


@contextmanager
def at_rest(model: nn.Module) -> Iterator[ExitStack]:
    """Put a model into eval mode without gradients; afterwards its modes are as before, and hooks in the stack gone."""
    modes = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)  # it does not call the layers inside a transformer's
    try:
        with torch.no_grad(), ExitStack() as stack:
            yield stack
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes.items():
            module.training = training


def observe(model: nn.Module, inputs: Sequence[Tensor], layers: Mapping[str, nn.Module]) -> dict[str, Seen]:
    """Return what surrounds some of a model's modules, seen while it runs on the inputs.

    Args:
        inputs: one tensor [batch, ...] for each argument of the model's forward.
        layers: the modules, by path.
    """
    seen = {path: Seen() for path in layers}
    early, normed, made = _Unweighted(model, inputs), _Values(), {path: _Values() for path in layers}

    def starts(path: str, args: Any, kwargs: Any) -> None:
        around = seen[path]
        around.start = sum(other.calls > 0 for other in seen.values()) if not around.calls else around.start
        around.calls += 1
        for x in [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)][:1]:
            around.normed &= x in normed
            around.sees_input |= x in early.values

    with at_rest(model) as stack:
        for module in model.modules():
            if isinstance(module, NORMS):
                hook = module.register_forward_hook(lambda _m, _a, out: normed.add(out))
                stack.callback(hook.remove)
        for path, layer in layers.items():
            before = layer.register_forward_pre_hook(
                lambda _m, args, kwargs, path=path: starts(path, args, kwargs), with_kwargs=True
            )
            after = layer.register_forward_hook(lambda _m, _a, out, path=path: made[path].add(out))
            stack.callback(before.remove)
            stack.callback(after.remove)
        stack.enter_context(early)
        results = [leaf for leaf in tree_leaves(model(*inputs)) if isinstance(leaf, Tensor)]
    for path, values in made.items():
        seen[path].gives_output = any(result in values for result in results)
    return seen


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the input that a layer of torch was called with."""
    x: Tensor = args[0] if args else kwargs["input"]
    return x


class _Unweighted(TorchDispatchMode):
    """Follows what a model makes of its inputs before any weight is in it; those of norms are no weights."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self.values = _Values(inputs)
        modules = [module for module in model.modules() if not isinstance(module, NORMS)]
        self._weighted = _Values(weight for module in modules for weight in module.parameters(recurse=False))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        has_weight = any(tensor in self._weighted for tensor in read)
        follows = has_weight or any(tensor in self.values for tensor in read)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out) if follows else ():
            (self._weighted if has_weight else self.values).add(tensor)
        return out


class _Values:
    """Tensors that are recognised again, also through a view, unless they were changed meanwhile."""

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self._known: dict[int, tuple[torch.UntypedStorage, int]] = {}
        for tensor in tensors:
            self.add(tensor)

    def add(self, tensor: Any) -> None:
        if isinstance(tensor, Tensor):
            storage = tensor.untyped_storage()
            self._known[id(storage)] = (storage, tensor._version)  # kept, so that no other can take its place

    def __contains__(self, tensor: Tensor) -> bool:
        known = self._known.get(id(tensor.untyped_storage()))
        return known is not None and known[1] == tensor._version
