"""Latent weights -> the two values per filter that fit it best (distribution-aware binarization)."""

import torch
from torch import Tensor

from bnas.binarize.sign import clipped, hard_sign
from bnas.binarize.weight import BinaryWeight, filter_dims


def alpha_beta(weight: Tensor, *, class_means: bool = False, straight_through: bool = True) -> BinaryWeight:
    """Binarize each filter to two values, alpha for its larger weights and beta for the others.

    For a filter w of n weights and a split e in {0, 1}^n, W~ = alpha e + beta (1 - e), with alpha and
    beta the means of the two classes. The split is the one of least squared error, see `best_cut`.

    Backward, two terms, both with the split held fixed, of which the first is left out by default:
        class means:      dL/dw_i = mean of dL/dW~ over the class of w_i, the exact derivative;
        straight through: dL/dw_i = dL/dW~_i where |w_i| < 1, zero elsewhere.
    The second is what moves a weight from one class to the other. The first moves both classes as wholes, drowns it,
    and gained nothing wherever it was measured (docs/results.md); `xnor`, too, takes its scale for a constant.

    A filter of one value only, or of n = 1, has signs +1 and that value as alpha; beta, which it has no use for, lies a
    rounding below, for with a scale of 0 no gradient would ever pass. A filter that holds an infinity or NaN has signs
    too, but alpha or beta is not finite.

    Args:
        weight: latent weights [..., out, in, kh, kw] or [out, in], floating point.
        class_means: whether the first term counts.
        straight_through: whether the second term counts.
    Returns:
        sign +1 in the class of alpha, else -1; scale (alpha - beta) / 2; offset (alpha + beta) / 2.
    Raises:
        ShapeError: weight has no filter dimension, or no element.
    Source: Prabhu et al., Distribution-Aware Binarization of Neural Networks, 2018 (arXiv:1804.02941), section 3.
    """
    dims = filter_dims(weight)
    signs = hard_sign(weight, best_cut(weight))
    alpha, beta = _class_means(weight if class_means else weight.detach(), signs, dims)
    scale, offset = (alpha - beta) / 2, (alpha + beta) / 2
    if straight_through:
        tiny = torch.finfo(scale.dtype).tiny  # a scale of zero lets nothing through
        signs = clipped(weight, signs, factor=1 / scale.detach().clamp_min(tiny))
    return BinaryWeight(signs, scale, offset)


def best_cut(weight: Tensor) -> Tensor:
    """Return the smallest weight of each filter's upper class, [..., out, 1, 1, 1].

    The two means of a split of K against n - K explain the most of a filter's variance where
    S^2 / (K (n - K)) is largest, S the sum of the centred weights of one class. For a given K that
    is the case for the K largest, so one pass over the sorted filter finds the optimum of all splits.
    """
    dims = filter_dims(weight)
    filters = weight.detach().flatten(-len(dims))
    ordered = _sorted(filters.to(torch.promote_types(weight.dtype, torch.float32)))
    n = ordered.shape[-1]
    if n == 1:  # nothing to split
        return weight.detach()
    below = torch.arange(1, n, dtype=ordered.dtype, device=ordered.device)
    sums = torch.cumsum(ordered - ordered.mean(-1, keepdim=True), -1)[..., :-1]  # never positive
    split = torch.argmin(sums / (below * (n - below)).sqrt(), -1, keepdim=True)
    cut = ordered.gather(-1, split + 1).to(weight.dtype)
    return cut.view(*cut.shape[:-1], *(1,) * len(dims))


def _class_means(weight: Tensor, signs: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the means of the weights of sign +1 and of sign -1, per filter; where no sign is -1, a hair below."""
    flat = weight.flatten(-len(dims)).to(torch.promote_types(weight.dtype, torch.float32))
    flat_signs = signs.flatten(-len(dims)).to(flat.dtype)
    n, total, balance = flat.shape[-1], flat.sum(-1), torch.linalg.vecdot(flat, flat_signs)
    count = (n + flat_signs.sum(-1)) / 2
    alpha = (total + balance) / (2 * count)
    hair = 2 * torch.finfo(weight.dtype).eps * alpha.detach().abs().clamp_min(1)
    beta = torch.where(count < n, (total - balance) / (2 * (n - count).clamp_min(1)), alpha - hair)
    shape = (*alpha.shape, *(1,) * len(dims))
    return alpha.view(shape).to(weight.dtype), beta.view(shape).to(weight.dtype)


def _sorted(values: Tensor) -> Tensor:
    """Sort along the last dimension; on a CPU in NumPy, whose vectorised sort is several times faster."""
    if values.device.type != "cpu":
        return torch.sort(values, dim=-1).values
    ordered = values.numpy().copy()
    ordered.sort(axis=-1)
    return torch.from_numpy(ordered)
