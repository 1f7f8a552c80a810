"""A module that is counted by what it says of itself, not by what runs in it -> its layers.

That are our binary layers, which know their precision, and torch's recurrent ones, whose steps are many.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

from torch import nn

from bnas.cost.plan import PlannedLayer, Role, scale_values
from bnas.cost.trace.watch import Call
from bnas.layers.binarized import Binarized
from bnas.layers.binary_conv import BinaryConv, both
from bnas.layers.binary_layer import BinaryLinear
from bnas.layers.expert_conv import ExpertConv
from bnas.space.values import PRECISIONS, Precision

_GATES: Mapping[type[nn.Module], int] = {
    nn.RNN: 1, nn.LSTM: 4, nn.GRU: 3, nn.RNNCell: 1, nn.LSTMCell: 4, nn.GRUCell: 3
}  # fmt: skip
_OURS = (BinaryConv, BinaryLinear, ExpertConv)


def is_whole(module: nn.Module) -> bool:
    """Say whether a module is counted as a whole: one of a subclass that computes in a way of its own is not."""
    return bool(_gates(module)) or any(is_kind(module, kind) and _computes_as(module, kind) for kind in _OURS)


def is_kind(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Say whether a module is a binary layer of this kind, ours or a copy of its class, as an export has it."""
    if isinstance(module, kind):
        return True
    is_copy = callable(getattr(module, "binarize_weight", None)) and isinstance(getattr(module, "weights", None), str)
    return is_copy and kind.__name__ in {base.__name__ for base in type(module).__mro__}


def _computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    if isinstance(module, kind):
        return type(module).forward is kind.forward
    return next(base for base in type(module).__mro__ if "forward" in vars(base)).__name__ == kind.__name__


def is_binary(module: nn.Module) -> bool:
    """Say whether a module is one of our layers that know their own precision, or a copy of one."""
    return any(is_kind(module, kind) for kind in (*_OURS, Binarized)) and precision_of(module) in PRECISIONS


def precision_of(module: nn.Module) -> Precision:
    """Return what a binary layer says of itself."""
    return cast(Precision, module.precision)


class Part(NamedTuple):
    """One layer of such a module, as if it ran for the first time, and the parameters that hold its weights."""

    layer: PlannedLayer
    weights: tuple[str, ...]


def parts_of(call: Call, role: Role) -> list[Part]:
    """Return the layers of a call of such a module; what its other parameters hold, as biases, is not in them."""
    if gates := _gates(call.module):
        return _recurrent(call, call.module, role, gates)
    return [Part(_binary(call, call.module, role), ("weight",))]


def _gates(module: nn.Module) -> int:
    """Return how many gates a recurrent module has; 0 where it is none, or computes in a way of its own."""
    return next(
        (g for kind, g in _GATES.items() if isinstance(module, kind) and type(module).forward is kind.forward), 0
    )


def _recurrent(call: Call, module: Any, role: Role, gates: int) -> list[Part]:
    """Return a linear layer over input and state for each layer and direction, at each step; and its projection.

    What the gates do with one another is pointwise, and not counted.
    """
    rows = math.prod(call.shape[:-1])
    hidden, projected = module.hidden_size, getattr(module, "proj_size", 0)
    state, directions = projected or hidden, 2 if getattr(module, "bidirectional", False) else 1
    plain = PlannedLayer(call.path, role, "linear", 0, 0, (1, rows), (1, rows))
    found = []
    is_cell = not hasattr(module, "num_layers")
    for index in range(1 if is_cell else module.num_layers):
        given = module.input_size if index == 0 else state * directions
        steps = replace(plain, in_channels=given + state, out_channels=gates * hidden)
        out = replace(plain, in_channels=hidden, out_channels=projected)
        for way in ("", "_reverse")[:directions]:
            place = "" if is_cell else f"_l{index}{way}"
            found.append(Part(steps, (f"weight_ih{place}", f"weight_hh{place}")))
            found += [Part(out, (f"weight_hr{place}",))] if projected else []
    return found


def _binary(call: Call, module: Any, role: Role) -> PlannedLayer:
    """Return the layer of a module that knows its own precision, weights and scales."""
    precision, layer = precision_of(module), _shaped(call, module, role)
    scales = scale_values(precision, module.weights, experts=layer.experts, out_channels=layer.out_channels)
    return replace(layer, precision=precision, real_values=scales)


def _shaped(call: Call, module: Any, role: Role) -> PlannedLayer:
    if is_kind(module, BinaryLinear):
        size = (1, math.prod(call.shape[:-1]))
        return PlannedLayer(call.path, role, "linear", module.in_features, module.out_features, size, size)
    batched = len(call.shape) > 3
    before, after = (shape if batched else (1, *shape) for shape in (call.shape, call.out_shape))
    return PlannedLayer(
        call.path, role, "conv", module.in_channels, module.out_channels, spatial(before), spatial(after),
        both(module.kernel), (module.stride,) * 2, module.groups, getattr(module, "experts", 1),
    )  # fmt: skip


def spatial(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (height, width) of [batch, channels, ...], the batch put into the height; a missing side is 1."""
    sides = (*shape[:1], 1, *shape[2:])
    return math.prod(sides[:-1]), sides[-1]
