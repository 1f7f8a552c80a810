"""Convolutions, linear layers and batch norms of torch -> steps."""

from collections.abc import Sequence

from torch import Tensor

from bnas.runtime.filters import RealFilters
from bnas.runtime.steps import Conv
from bnas.ship.lowering.draft import CannotLower, Draft, Lowered, Lowering, array
from bnas.ship.lowering.geometry import padding_of, pair
from bnas.ship.lowering.layers import norm_affine


def _conv(
    draft: Draft,
    x: Lowered,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: str | Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> int:
    if not isinstance(weight, Tensor):
        raise CannotLower("the weights of a convolution are computed from the image")
    values = array(weight)
    values = values[:, :, None] if values.ndim == 3 else values
    rank = len(x.shape)
    kernel, gaps = (values.shape[2], values.shape[3]), pair(dilation, rank, 1)
    return draft.add(
        Conv(
            (x.slot,), RealFilters(values[None]), pair(stride, rank, 1),
            padding_of(padding, kernel, gaps, rank), gaps, groups, bias=None if bias is None else array(bias),
        )
    )  # fmt: skip


def _linear(draft: Draft, x: Lowered, weight: Tensor, bias: Tensor | None = None) -> int:
    if not isinstance(weight, Tensor):
        raise CannotLower("the weights of a linear layer are computed from the image")
    filters = RealFilters(array(weight)[None, :, :, None, None])
    return draft.add(Conv((flat(x),), filters, bias=None if bias is None else array(bias)))


def flat(x: Lowered) -> int:
    """Return the slot of a vector for each image.

    Raises:
        CannotLower: it is no vector.
    """
    if len(x.shape) != 2:
        raise CannotLower(f"a linear layer over [batch, features] has steps, but this one gets {list(x.shape)}")
    return x.slot


def _norm(
    draft: Draft, x: Lowered, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, _: float, eps: float
) -> list[int]:
    return [draft.add(norm_affine(x.slot, weight, bias, mean, variance, eps))]


PRODUCTS: dict[str, Lowering] = {
    "aten.conv1d.default": _conv,
    "aten.conv1d.padding": _conv,
    "aten.conv2d.default": _conv,
    "aten.conv2d.padding": _conv,
    "aten.linear.default": _linear,
    "aten._native_batch_norm_legit_no_training.default": _norm,
}
