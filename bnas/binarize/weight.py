"""What every weight binarizer returns: latent weights as signs, a scale and an offset per filter."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bnas.errors import ShapeError


class BinaryWeight(NamedTuple):
    """Filters of two values each: offset + scale and offset - scale.

    sign [..., out, in, kh, kw] in {-1, +1}; scale and offset broadcast over a filter, [..., out, 1, 1, 1]. An offset of
    None stands for zero.
    """

    sign: Tensor
    scale: Tensor
    offset: Tensor | None = None

    def dense(self) -> Tensor:
        """Return the weights that the network computes with, scale * sign + offset."""
        weights = self.scale * self.sign
        return weights if self.offset is None else weights.add_(self.offset)

    def values(self) -> tuple[Tensor, Tensor]:
        """Return what +1 and what -1 stands for, each in the shape of scale."""
        offset = torch.zeros_like(self.scale) if self.offset is None else self.offset
        return offset + self.scale, offset - self.scale

    def times(self, factor: Tensor) -> "BinaryWeight":
        """Return the same signs with both values multiplied; the factor broadcasts over a filter."""
        return self._replace(scale=self.scale * factor, offset=None if self.offset is None else self.offset * factor)


# Called with latent weights; an annealed binarizer takes a keyword `hardness` in [0, 1] beside them.
WeightBinarizer = Callable[..., BinaryWeight]


def filter_dims(weight: Tensor) -> tuple[int, ...]:
    """Return the dimensions of one filter: all those after `out`, three at most, counted from the end.

    A linear weight is [out, in], a convolution's [out, in, kh, kw]; further dimensions in front,
    as in an expert bank [experts, out, in, kh, kw], are separate filters.

    Raises:
        ShapeError: weight has no filter dimension, or no element.
    """
    if weight.ndim < 2 or weight.numel() == 0:
        raise ShapeError(
            f"weight: at least [out, in] without an empty dimension is needed, but got {list(weight.shape)}; "
            "pass [..., out, in, kh, kw] or [out, in]"
        )
    return tuple(range(-min(3, weight.ndim - 1), 0))


def at_binary_magnitude(latent: Tensor, binary: Tensor) -> Tensor:
    """Return the latent weights, each filter scaled to the mean magnitude of its binary form.

    Training with real weights before binary ones uses this, so that binarizing changes the
    direction of a filter but not the size of its output. The factor counts as constant in the
    backward pass, and is 1 for a binarizer that keeps the magnitude, as `xnor` does.

    Args:
        latent: weights [..., out, in, kh, kw].
        binary: their binarized values, same shape.
    """
    dims = filter_dims(latent)
    size = latent.detach().abs().mean(dims, keepdim=True)
    size = torch.where(size == 0, 1, size)  # a filter of zeros stays zero
    return latent * (binary.detach().abs().mean(dims, keepdim=True) / size)


def standardized_filters(weight: Tensor) -> Tensor:
    """Return each filter with its mean taken away and divided by its standard deviation; a filter of one value is 0."""
    dims = filter_dims(weight)
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))  # a mean of half precision moves small weights
    centred = wide - wide.mean(dims, keepdim=True)
    variance = centred.square().mean(dims, keepdim=True)
    # Where there is nothing to divide by, 1 stands in, before the root: its gradient at 0 is not finite.
    return (centred / torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()).to(weight.dtype)


def at_mean_square_one(filters: Tensor) -> Tensor:
    """Return each filter divided by the root of its mean square; a filter of zeros stays one."""
    size = filters.square().mean(filter_dims(filters), keepdim=True)
    return filters * torch.where(size > 0, size, torch.ones_like(size)).rsqrt()


def of_norm_one(signs: Tensor) -> BinaryWeight:
    """Return filters of n signs (or of mean square one) with scale 1 / sqrt(n): each has norm one."""
    n = math.prod(signs.shape[dim] for dim in filter_dims(signs))
    return BinaryWeight(signs, one_scale(signs, 1 / math.sqrt(n)))


def one_scale(filters: Tensor, scale: float) -> Tensor:
    """Return the same scale for each filter, [..., out, 1, 1, 1]."""
    dims = filter_dims(filters)
    return filters.new_full((*filters.shape[: -len(dims)], *(1,) * len(dims)), scale)
