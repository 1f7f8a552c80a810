"""Products of single values that are summed afterwards: what a matrix product does, in two operators."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_NOTHING: frozenset[int] = frozenset()


class SumsOfProducts:
    """Tells when a product of two tensors is summed along a dimension in which both of them vary.

    A factor that repeats along the summed dimensions only scales the sum, as squeeze-excite does before a pooling, and
    a tensor multiplied by itself makes a norm: neither is meant.
    """

    def __init__(self) -> None:
        self._varying = WeakIdKeyDictionary()  # product -> dimensions in which both factors vary, from the right: -1...

    def sees(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        """Note an operator that ran; return whether it sums products."""
        if name == "mul":
            left, right = args[:2]
            two = isinstance(right, Tensor) and left is not right
            self._varying[out] = _varying(left) & _varying(right) if two else _NOTHING
        return name in ("sum", "mean") and not self._varying.get(args[0], _NOTHING).isdisjoint(_summed(args, kwargs))


def _varying(factor: Tensor) -> frozenset[int]:
    if factor.layout is not torch.strided:
        return _NOTHING
    sides = zip(factor.shape, factor.stride(), strict=True)
    return frozenset(index - factor.ndim for index, (side, stride) in enumerate(sides) if side > 1 and stride)


def _summed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[int]:
    """Return the dimensions that `sum` or `mean` takes together: all unless it is told which."""
    count = args[0].ndim
    given = args[1] if len(args) > 1 else kwargs.get("dim")
    return {dim - count if dim >= 0 else dim for dim in (given if given is not None else range(count))}
