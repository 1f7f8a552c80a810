"""Torch's operators: which of them multiply and accumulate, with the sizes of what they do, and which need no count."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bnas.cost.plan import Extent, Kind
from bnas.torch_inside import DispatchKey, OpOverload


class Product(NamedTuple):
    """Sizes of a convolution or matrix product, in the words of `PlannedLayer`.

    A matrix product has sides [batches, rows, inner] and [batches, inner, columns]: `in_channels` is inner,
    `out_channels` columns, and the sizes are (batches, rows). Which side is the weight shows only later.
    """

    kind: Kind
    in_channels: int
    out_channels: int
    in_size: Extent
    out_size: Extent
    kernel: Extent = (1, 1)
    stride: Extent = (1, 1)
    groups: int = 1


Operands = tuple[Tensor, Tensor]
Sides = tuple[Operands, Product]


def _convolution(args: tuple[Any, ...], out: Tensor) -> Sides:
    x, weight, _, stride, _, _, transposed, _, groups = args[:9]
    spatial = x.ndim - 2
    ins, outs = (weight.shape[1] * groups, len(weight)) if not transposed else (len(weight), weight.shape[1] * groups)
    strides = stride if len(stride) == spatial else stride * spatial
    kind: Kind = "transposed" if transposed else "conv"
    return (x, weight), Product(
        kind, ins, outs, _size(x), _size(out), _extent(weight.shape[2:]), _extent(strides), groups
    )  # fmt: skip


def _deformable(args: tuple[Any, ...], out: Tensor) -> Sides:
    """Return what a deformable convolution multiplies; where it looks is interpolation, which is not counted."""
    x, weight, _, _, _, down, right = args[:7]
    groups = args[11]
    return (x, weight), Product(
        "conv", weight.shape[1] * groups, len(weight), _size(x), _size(out), _extent(weight.shape[2:]),
        (down, right), groups,
    )  # fmt: skip


def _size(x: Tensor) -> Extent:
    """Return the size of [batch, channels, ...], the batch put into the first side.

    One image may become several inside a model (windows, frames): all of them count.
    """
    first, *others = _extent(x.shape[2:])
    return (len(x) * first, *others)


def _extent(sides: Sequence[int]) -> Extent:
    return (1, int(sides[0])) if len(sides) == 1 else tuple(map(int, sides))


def _matmul(left: Tensor, right: Tensor) -> Sides:
    """Return the product of left [batches, rows, inner] and right [batches, inner, columns].

    A complex product is four real ones: as one between twice as many channels on both sides.
    """
    (batches, rows, inner), parts = left.shape, 2 if left.is_complex() else 1
    return (left, right), Product("matmul", parts * inner, parts * right.shape[2], (batches, rows), (batches, rows))


def _mm(args: tuple[Any, ...], out: Tensor) -> Sides:
    left, right = args[-2:]
    return _matmul(left[None], right[None])


def _bmm(args: tuple[Any, ...], out: Tensor) -> Sides:
    left, right = args[-2:]
    return _matmul(left, right)


def _mv(args: tuple[Any, ...], out: Tensor) -> Sides:
    left, right = args[-2:]
    return _matmul(left[None], right[None, :, None])


def _dot(args: tuple[Any, ...], out: Tensor) -> Sides:
    left, right = args[-2:]
    return _matmul(left[None, None], right[None, :, None])


PRODUCTS: dict[str, Callable[[tuple[Any, ...], Tensor], Sides]] = {
    "convolution": _convolution,
    "_convolution": _convolution,
    "mm": _mm,
    "addmm": _mm,
    "_addmm_activation": _mm,
    "bmm": _bmm,
    "baddbmm": _bmm,
    "addbmm": _bmm,
    "mv": _mv,
    "addmv": _mv,
    "dot": _dot,
    "vdot": _dot,
    "torchvision::deform_conv2d": _deformable,
}

# Beside pointwise operators and views: norms, reductions, pooling, resizing, moving, sorting and making of values, and
# what detectors do with boxes.
_FREE_NAMES = """
__and __iand __ilshift __ior __irshift __ixor __lshift __or __rshift __xor _adaptive_avg_pool2d _adaptive_avg_pool3d
_assert_async _assert_scalar _batch_norm_impl_index _batch_norm_no_update _batch_norm_with_update _efficientzerotensor
_embedding_bag _embedding_bag_forward_only _fused_dropout _fused_rms_norm _linalg_check_errors _local_scalar_dense
_log_softmax _native_batch_norm_legit _native_batch_norm_legit_no_training _pack_padded_sequence _pad_packed_sequence
_prelu_kernel _reshape_alias _reshape_copy _resize_output _safe_softmax _softmax _thnn_fused_gru_cell
_thnn_fused_lstm_cell _to_copy _unique2 _unsafe_index _unsafe_index_put _unsafe_view _upsample_bicubic2d_aa
_upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _weight_norm_interface adaptive_avg_pool1d
adaptive_max_pool2d adaptive_max_pool3d all amax amin aminmax any arange argmax argmin argsort as_strided avg_pool1d
avg_pool2d avg_pool3d bernoulli bincount bucketize cat channel_shuffle clone col2im complex constant_pad_nd contiguous
copy count_nonzero cudnn_batch_norm cudnn_grid_sampler cummax cummin cumprod cumsum diag_embed embedding empty
empty_like empty_permuted empty_strided equal exponential eye fake_quantize_per_channel_affine_cachemask
fake_quantize_per_tensor_affine_cachemask fill fill_diagonal flip fractional_max_pool2d full full_like gather glu
grid_sampler_2d hardswish histc im2col index index_add index_copy index_fill index_put index_reduce index_select
instance_norm is_nonzero is_same_size isin item kthvalue lift lift_fresh lift_fresh_copy linalg_cross
linalg_vector_norm linspace log_sigmoid_forward log_softmax logcumsumexp logspace logsumexp masked_fill masked_scatter
masked_select max max_pool2d_with_indices max_pool3d_with_indices max_unpool2d mean median min miopen_batch_norm mode
multinomial nan_to_num nanmean nanmedian nansum native_batch_norm native_channel_shuffle native_dropout
native_group_norm native_layer_norm new_empty new_empty_strided new_full new_ones new_zeros nonzero nonzero_static
norm normal one_hot ones ones_like pixel_shuffle pixel_unshuffle polar prelu prod rand rand_like randint randint_like
randn randn_like random randperm range reflection_pad1d reflection_pad2d reflection_pad3d renorm repeat
repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape resize resize_as rms_norm roll rot90
rrelu_with_noise scalar_tensor scatter scatter_add scatter_reduce searchsorted select_scatter set slice_scatter
softmax sort stack std std_mean sum sym_numel sym_size take to topk trace tril tril_indices triu triu_indices
unfold_copy uniform unique_consecutive unique_dim unsafe_chunk unsafe_split unsafe_split_with_sizes upsample_bicubic2d
upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d var var_mean view_copy vstack zero zeros
zeros_like torchvision::nms torchvision::ps_roi_align torchvision::ps_roi_pool torchvision::roi_align
torchvision::roi_pool
"""
FREE = frozenset(_FREE_NAMES.split())
# Pointwise, though torch does not tag them so.
_UNTAGGED = frozenset({"_prelu_kernel", "hardswish", "log_sigmoid_forward", "prelu", "rrelu_with_noise"})


def product_of(name: str, args: tuple[Any, ...], out: Tensor) -> Sides | None:
    """Return what the product of this name multiplies; None if it is sparse."""
    dense = all(arg.layout is torch.strided for arg in args if isinstance(arg, Tensor))
    return PRODUCTS[name](args, out) if dense else None


def name_of(operator: Any) -> str:
    """Return an operator's name without its overload and the mark of an in-place one: `add` of `aten::add_.Tensor`."""
    if not isinstance(operator, OpOverload):
        return str(operator)  # of higher order, such as `cond`
    space, _, name = str(operator._schema.name).partition("::")
    bare = name.rstrip("_")
    return bare if space in ("aten", "prim", "prims") else f"{space}::{bare}"


@lru_cache(maxsize=4096)
def needs_no_count(operator: Any) -> bool:
    """Say whether the literature's convention leaves an operator out: it is known, and no sum of products."""
    name = name_of(operator)
    if not isinstance(operator, OpOverload):
        return False
    if name in FREE or operator._schema.name.startswith("prim::"):
        return True
    return is_view(operator) or is_pointwise(operator)


@lru_cache(maxsize=4096)
def is_view(operator: Any) -> bool:
    """Say whether an operator shows the values of a tensor in another shape."""
    return any(overload.is_view for overload in _overloads(operator))


@lru_cache(maxsize=4096)
def is_pointwise(operator: Any) -> bool:
    """Say whether each value that an operator makes depends on the values at its own place only."""
    tagged = any(torch.Tag.pointwise in overload.tags for overload in _overloads(operator))
    return tagged or name_of(operator) in _UNTAGGED


def _overloads(operator: Any) -> list[OpOverload]:
    """Return an operator with those of its name: not every one is tagged."""
    if not isinstance(operator, OpOverload):
        return []
    name = name_of(operator)
    plain = getattr(torch.ops.aten, name, None) if "::" not in name else None
    return [operator] + ([getattr(plain, overload) for overload in plain.overloads()] if plain else [])


@lru_cache(maxsize=4096)
def is_composite(operator: Any) -> bool:
    """Say whether an operator is to be followed into those that it is made of: inference mode lets it through whole."""
    if not isinstance(operator, OpOverload) or name_of(operator) in PRODUCTS or needs_no_count(operator):
        return False
    return operator.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd)
