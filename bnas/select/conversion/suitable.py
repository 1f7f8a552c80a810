"""A layer of a model -> why it cannot be made binary, if it cannot, and whether signs of its input tell anything."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod

from bnas.cost.trace.plain_model import copy_of
from bnas.cost.trace.wholes import is_binary
from bnas.errors import SpecError
from bnas.layers.binarized import BINARIZED
from bnas.layers.binary_conv import both
from bnas.select.conversion.observe import answer_of, argument, at_rest, copies
from bnas.torch_inside import AnyBatchNorm


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
    if replaced := REPLACEABLE & vars(module).keys():
        return f"its {min(replaced)} was replaced on the object, so what it computes is not what a layer of torch does"
    own = vars(module).keys() | module._modules.keys() | module._parameters.keys() | module._buffers.keys()
    if taken := GIVEN & own:
        return f"has an attribute {min(taken)!r} of its own, which a binary layer has for itself; call it otherwise"
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


# What a binary layer has beside what one of torch has.
GIVEN = {
    "alpha", "activations", "binarize_input", "binarize_weight", "hardness", "norm", "pad_value", "precision",
    "real_inputs", "real_weights", "weights",
}  # fmt: skip
REPLACEABLE = {"forward", "_conv_forward"}  # methods, by which some tools hook into a layer
RARE = 0.02  # share of a channel's values: where its rarer sign is rarer, its mean is two deviations from zero
_FEWEST = 16  # values of a channel that say anything about its sign


class Signs:
    """How often each channel of a layer's input is positive, over all that was taken in.

    Args:
        channels: the dimension of the channels, from the right.
    """

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._positive, self.values = torch.zeros(()), 0

    def add(self, x: Tensor) -> None:
        """Take in values [batch, ...]."""
        by_channel = (x >= 0).movedim(self._channels, 0).flatten(1)
        self._positive = self._positive.to(x.device) + by_channel.sum(1)
        self.values += by_channel.shape[1]

    def _rarer(self) -> Tensor:
        share = self._positive.double() / max(1, self.values)
        return torch.minimum(share, 1 - share)

    @property
    def constant(self) -> float:
        """The share of channels whose sign never changes; 1: a binary input is the same for every image."""
        return float((self._rarer() == 0).double().mean())

    @property
    def is_one_sided(self) -> bool:
        """Whether most channels are nearly always of one sign: they lack a norm, or an activation stands behind it."""
        return bool((self._rarer() < RARE).double().mean() > 0.5)

    @property
    def is_known(self) -> bool:
        """Whether there were enough values to say so."""
        return self.values >= _FEWEST


def channel_dim(layer: nn.Module) -> int:
    """Return the dimension of the channels in a layer's input and output, from the right: there may be no batch."""
    kernel: Any = getattr(layer, "kernel_size", getattr(layer, "kernel", ()))  # of torch's layers; of ours
    return -1 - len(both(kernel))


def signs_before(model: nn.Module, inputs: Sequence[Tensor], layers: Collection[str]) -> dict[str, Signs]:
    """Return the signs of layers' inputs as they will be in training, in one pass of a copy.

    A batch norm that has seen no image yet takes the statistics of this batch.

    Args:
        inputs: one tensor [batch, ...] for each argument of the model's forward.
        layers: their paths.
    Returns: by path; nothing of inputs that are all alike, as examples are that give no more than a shape.
    Raises:
        DataError: the model fails on them.
    """
    if not layers or not any(_varies(x) for x in inputs):
        return {}
    run = copy_of(model, where="select", error=SpecError)
    found = {path: Signs(channel_dim(run.get_submodule(path))) for path in layers}

    def note(path: str) -> Any:
        return lambda _, args, kwargs: found[path].add(argument(args, kwargs))

    with at_rest(run) as stack:
        for norm in run.modules():
            if isinstance(norm, AnyBatchNorm) and not norm.num_batches_tracked and len(inputs[0]) > 1:
                norm.train()
        for path in layers:
            hook = run.get_submodule(path).register_forward_pre_hook(note(path), with_kwargs=True)
            stack.callback(hook.remove)
        answer_of(run, copies(inputs), what="a batch")
    return found


def _varies(x: Tensor) -> bool:
    return x.is_floating_point() and not x.is_meta and x.numel() > 1 and bool(x.min() < x.max())
