"""A trained `nn.Module` -> the `Program` that computes the same, without torch."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from bnas.errors import ExportError, ProgramError
from bnas.layers import BinaryLayer
from bnas.runtime.program import Program, rounded
from bnas.runtime.simplify import simplified
from bnas.ship.lowering.capture import Captured, capture, path_of
from bnas.ship.lowering.draft import CannotLower, Draft, Lowered, Lowering, value_shape
from bnas.ship.lowering.layers import PRODUCTS, flat, lower_whole
from bnas.ship.lowering.pointwise import POINTWISE
from bnas.ship.lowering.shapes import NOTHING, RESHAPES, SAME, SHAPES, reshaped, same

LOWERINGS: dict[str, Lowering] = PRODUCTS | POINTWISE | SHAPES
KNOWN = LOWERINGS.keys() | RESHAPES | SAME | NOTHING | {str(torch.ops.bnas.layer.default)}


def lower(model: nn.Module, input_shape: Sequence[int]) -> Program:
    """Return what a trained network computes, with batch norm, scales and offsets folded, in float32.

    Args:
        model: a network of a space, a reference network, a converted model, or any module made of the operators that
            have steps; it stays as it is.
        input_shape: channels, height, width of an image.
    Raises:
        ExportError: a part of it has no steps; names the module and the reason.
    """
    return rounded(simplified(lower_plainly(model, input_shape)))


def lower_plainly(model: nn.Module, input_shape: Sequence[int]) -> Program:
    """Return the same in float64, operator by operator, nothing folded.

    Raises:
        ExportError: a part of it has no steps; names the module and the reason.
    """
    captured = capture(model, tuple(input_shape), known=KNOWN)
    walk = _Walk(model, captured, Draft(input_shape))
    try:
        return walk.program()
    except ProgramError as problem:
        raise ExportError(f"the model: cannot be lowered: {problem}") from problem


class _Walk:
    """Goes through a captured graph and knows what each node has become."""

    def __init__(self, model: nn.Module, captured: Captured, draft: Draft) -> None:
        self._model, self._captured, self._draft = model, captured, draft
        self._found: dict[Node, Any] = {}  # a Lowered, a list of them, or a constant

    def program(self) -> Program:
        for node in self._captured.graph.nodes:
            if node.op == "placeholder":
                self._found[node] = self._given(node)
            elif node.op == "get_attr":
                self._found[node] = None  # a block that one of torch's own functions runs, which have no step
            elif node.op == "call_function":
                self._found[node] = self._called(node)
        result = self._found[self._captured.result]
        if not isinstance(result, Lowered) or len(result.shape) != 2:
            shape = list(result.shape) if isinstance(result, Lowered) else "a constant"
            raise ExportError(f"the model: cannot be lowered: its result is {shape}, where [batch, classes] is needed")
        return self._draft.program(result.slot)

    def _given(self, node: Node) -> Any:
        if node.name == self._captured.image:
            return Lowered(0, tuple(node.meta["val"].shape))
        return self._captured.constants.get(node.name)

    def _called(self, node: Node) -> Any:
        """Return what an operator's node becomes."""
        arguments: Any = map_arg((tuple(node.args), dict(node.kwargs)), lambda part: self._found[part])
        args, kwargs = arguments
        if node.target is operator.getitem and isinstance(args[0], list):
            if args[1] >= len(args[0]):
                raise ExportError(f"{path_of(node)}: cannot be lowered: where a pooling found its values has no step")
            return args[0][args[1]]
        if str(node.target) in NOTHING:
            return None
        if not _depends(arguments):
            return node.target(*args, **kwargs)  # type: ignore[operator]
        try:
            return self._results(node, self._lowered(node, args, kwargs))
        except CannotLower as problem:
            raise ExportError(f"{path_of(node)}: cannot be lowered: {problem}") from None
        except ProgramError as problem:
            raise ExportError(f"{path_of(node)}: cannot be lowered: {node.target}: {problem}") from problem

    def _lowered(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | list[int]:
        name = str(node.target)
        if node.target is torch.ops.bnas.layer.default:
            x, path, _ = args
            layer = self._model.get_submodule(path)
            linear = isinstance(layer, BinaryLayer) and layer.weight.ndim == 2
            return lower_whole(self._draft, flat(x) if linear else x.slot, path, layer)
        if name in SAME:
            _check_kept(node)
            return same(self._draft, *args)
        if name in RESHAPES:
            return reshaped(self._draft, args[0], shape=tuple(node.meta["val"].shape))
        if name not in LOWERINGS:
            how = (
                "; leave autocast, and switches of gradients, out of forward()" if name.startswith("wrap_with_") else ""
            )
            raise CannotLower(f"{name} has no step in a packed network{how}")
        return LOWERINGS[name](self._draft, *args, **kwargs)

    def _results(self, node: Node, slots: int | list[int]) -> Any:
        """Return slots with torch's shapes, which must be those of their values."""
        made = node.meta["val"]
        if isinstance(slots, list):
            return [self._checked(slot, like) for slot, like in zip(slots, made, strict=False)]
        return self._checked(slots, made)

    def _checked(self, slot: int, like: Tensor) -> Lowered:
        value = self._draft.values[slot]
        if value_shape(like.shape) != value[1:]:
            raise CannotLower(f"a result of {list(like.shape)} has no form in a packed network")
        return Lowered(slot, tuple(like.shape))


def _check_kept(node: Node) -> None:
    """Raise where an operator that changes nothing but the type of values rounds them to less than float32."""
    (given, *_), made = node.args, node.meta["val"]
    assert isinstance(given, Node)
    was = given.meta["val"].dtype
    if made.dtype != was and (not made.is_floating_point() or made.dtype.itemsize < min(was.itemsize, 4)):
        kinds = [str(kind).removeprefix("torch.") for kind in (was, made.dtype)]
        raise CannotLower(f"values of {kinds[0]} become {kinds[1]}, which rounds them, and has no step")


def _depends(arguments: Any) -> bool:
    """Return whether something among arguments depends on the image."""
    if isinstance(arguments, Lowered):
        return True
    if isinstance(arguments, dict):
        return any(map(_depends, arguments.values()))
    return isinstance(arguments, list | tuple) and any(map(_depends, arguments))
