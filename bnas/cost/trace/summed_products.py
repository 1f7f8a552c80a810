"""Products of single values that are summed afterwards: what a matrix product does, in two operators or more."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from bnas.cost.trace.operators import is_pointwise, is_view
from bnas.torch_inside import tree_leaves

Args = tuple[Any, ...]
Dims = frozenset[int]  # counted from the right: -1, -2, ...

_NOTHING: Dims = frozenset()
_FACTORS = {"mul": slice(0, 2), "addcmul": slice(1, 3)}  # where a product's factors stand among the arguments
_WEIGHTED_BAGS, _BAG_WEIGHTS = frozenset({"_embedding_bag", "_embedding_bag_forward_only"}), 6  # and their place there
_RESHAPES = frozenset({"_reshape_alias", "_unsafe_view", "reshape", "view", "view_copy"})
# Beside views and pointwise operators: they move values about, or scale and shift whole channels.
_CARRIER_NAMES = """
_batch_norm_impl_index _native_batch_norm_legit _native_batch_norm_legit_no_training _reshape_copy _to_copy cat
channel_shuffle clone constant_pad_nd contiguous copy cudnn_batch_norm flip gather im2col index index_select
native_batch_norm native_channel_shuffle native_dropout pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d
reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d roll stack
unfold_copy
"""
_CARRIERS = _RESHAPES | frozenset(_CARRIER_NAMES.split())


class SumsOfProducts:
    """Tells when products of two tensors are summed along a dimension in which both factors vary.

    Products are followed through views, pointwise operators and copies; where it does not show which of their
    dimensions went where, all count. A factor that repeats along the summed dimensions only scales the sum, as
    squeeze-excite does before a pooling, and a tensor multiplied by a pointwise function of itself makes a norm or an
    activation: neither is meant.
    """

    def __init__(self) -> None:
        self._both = WeakIdKeyDictionary()  # tensor -> dimensions in which both factors of a product in it vary
        self._roots = WeakIdKeyDictionary()  # tensor -> what it is a pointwise function of

    def sees(self, operator: Any, name: str, args: Args, kwargs: dict[str, Any], out: Any) -> bool:
        """Note an operator that ran; return whether it sums products."""
        if name in _WEIGHTED_BAGS and len(args) > _BAG_WEIGHTS and args[_BAG_WEIGHTS] is not None:
            return True
        if name in _SUMMED:
            summand, dims = _SUMMED[name](args, kwargs)
            both = self._of(summand)
            self._both[out] = _left(summand, both, dims, out) if both.isdisjoint(dims) else _NOTHING
            return not both.isdisjoint(dims)
        made = [tensor for tensor in tree_leaves(out) if isinstance(tensor, Tensor)]
        # Both are read before either is written: an operator in place gives its own argument back.
        both_in, root = self._noted(operator, name, args, made), self._common_root(operator, args, made)
        for tensor, dims in zip(made, both_in, strict=True):
            self._both[tensor] = dims
            self._roots[tensor] = root or object()
        return False

    def _noted(self, operator: Any, name: str, args: Args, made: list[Tensor]) -> list[Dims]:
        """Return for each tensor that an operator made the dimensions in which both factors of a product in it vary."""
        given = [tensor for tensor in tree_leaves(args) if isinstance(tensor, Tensor)]
        carried = frozenset[int]().union(*map(self._of, given))
        if is_pointwise(operator):
            return [carried | self._multiplied(args[_FACTORS[name]] if name in _FACTORS else ())] * len(made)
        if not carried or not (is_view(operator) or name in _CARRIERS):
            return [_NOTHING] * len(made)
        if name in _RESHAPES:
            return [_varying(_marked(given[0], carried).reshape(tensor.shape)) for tensor in made]
        if is_view(operator) and name != "as_strided":
            moved = operator(_marked(given[0], carried), *args[1:])
            return [_varying(tensor) for tensor in tree_leaves(moved)]
        return [_moved(given[0], carried, tensor) for tensor in made]

    def _multiplied(self, factors: Args) -> Dims:
        """Return the dimensions in which both factors vary; none if one is a function of the other."""
        if len(factors) < 2 or not all(isinstance(factor, Tensor) for factor in factors):
            return _NOTHING
        left, right = factors
        return _NOTHING if self._root(left) is self._root(right) else _varying(left) & _varying(right)

    def _common_root(self, operator: Any, args: Args, made: list[Tensor]) -> object | None:
        """Return what all tensors that an operator reads are pointwise functions of, if it is pointwise itself."""
        given = [tensor for tensor in args if isinstance(tensor, Tensor) and tensor.numel() > 1]
        roots = {id(root): root for root in map(self._root, given)}
        alike = len({tensor.shape for tensor in (*given, *made)}) == len(roots) == 1
        return next(iter(roots.values())) if alike and is_pointwise(operator) else None

    def _of(self, tensor: Tensor) -> Dims:
        found: Dims = self._both.get(tensor, _NOTHING)
        return found

    def _root(self, tensor: Tensor) -> object:
        return self._roots.setdefault(tensor, object())


def _varying(factor: Tensor) -> Dims:
    if factor.layout is not torch.strided:
        return _NOTHING
    sides = zip(factor.shape, factor.stride(), strict=True)
    return frozenset(index - factor.ndim for index, (side, stride) in enumerate(sides) if side > 1 and stride)


def _every(tensor: Tensor) -> Dims:
    return frozenset(index - tensor.ndim for index, side in enumerate(tensor.shape) if side > 1)


def _moved(before: Tensor, dims: Dims, after: Tensor) -> Dims:
    """Return the dimensions of a tensor whose values were moved about: each stays one where its size does."""
    if before.ndim != after.ndim:
        return _every(after)
    same = frozenset(dim for dim in range(-after.ndim, 0) if before.shape[dim] == after.shape[dim])
    return dims & same | _every(after) - same


def _left(summand: Tensor, both: Dims, summed: Dims, out: Tensor) -> Dims:
    """Return where the dimensions in which both factors vary are after a sum along others."""
    if out.ndim == summand.ndim:
        return both
    kept = [dim for dim in range(-summand.ndim, 0) if dim not in summed]
    return frozenset(place - len(kept) for place, dim in enumerate(kept) if dim in both)


def _marked(tensor: Tensor, dims: Dims) -> Tensor:
    """Return a tensor of the same shape and without memory, which varies in these dimensions only."""
    sides = [side if index - tensor.ndim in dims else 1 for index, side in enumerate(tensor.shape)]
    return torch.empty(sides, device="meta").expand(tensor.shape)


def _given_dims(args: Args, kwargs: dict[str, Any]) -> tuple[Tensor, Dims]:
    """Return what `sum` and its kin take together: all dimensions unless they are told which."""
    count = args[0].ndim
    given = args[1] if len(args) > 1 else kwargs.get("dim")
    dims = range(count) if given is None or given == [] else [given] if isinstance(given, int) else given
    return args[0], frozenset(dim - count if dim >= 0 else dim for dim in dims)


def _added_at(args: Args, kwargs: dict[str, Any]) -> tuple[Tensor, Dims]:
    """Return what `index_add` and its kin add to the places that they are told, along one dimension."""
    _, dim, _, source = args[:4]
    return source, frozenset({dim - source.ndim if dim >= 0 else dim})


def _pooled(args: Args, kwargs: dict[str, Any]) -> tuple[Tensor, Dims]:
    return args[0], frozenset(range(-len(args[1]), 0))


_SUMMED: dict[str, Callable[[Args, dict[str, Any]], tuple[Tensor, Dims]]] = {
    **dict.fromkeys(("sum", "mean", "nansum", "nanmean", "cumsum"), _given_dims),
    **dict.fromkeys(("index_add", "index_reduce", "scatter_add", "scatter_reduce"), _added_at),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d"), _pooled),
    **dict.fromkeys(("_adaptive_avg_pool2d", "_adaptive_avg_pool3d"), _pooled),
}
