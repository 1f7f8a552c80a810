"""Latent weights -> signs, through a smooth transformation of each filter as a whole."""

import torch
from torch import Tensor

from bnas.binarize.sign import hard_sign
from bnas.binarize.weight import BinaryWeight, filter_dims, standardized

SOFTEST, HARDEST = 3.0, 1e-3  # width of the transition from -1 to +1, in standard deviations of the filter


def group(weight: Tensor, *, hardness: float | Tensor = 1.0) -> BinaryWeight:
    """Turn each filter as one group into a vector of -1 and +1, without a straight-through estimator.

    This is our reconstruction of the group weight transformation: the publication gives its properties
    (deterministic, joint over a group, ordinary gradients, binary in the limit), not its formula. Others that
    have them too, and were tried, are in benchmarks/group_transforms.py; benchmarks/lenet.py compares them.

    With u the filter, centred and divided by its standard deviation: v = u / sqrt(u^2 + e^2), divided
    by its root mean square. So v stays on the sphere of radius sqrt(n), is u itself for a large e, and
    a vertex of the cube, sign(u), in the limit e -> 0. e falls geometrically from 3 at hardness 0 to
    0.001 as hardness goes to 1. Training raises the hardness to 1, where weights near 0 are still soft;
    evaluation takes the limit itself, which has no gradient. Backward: exact, through all of it.

    Args:
        weight: latent weights [..., out, in, kh, kw] or [out, in], floating point.
        hardness: in [0, 1], a number or a tensor of one; the number 1 stands for the limit.
    Returns:
        sign in {-1, +1} in the limit, between them and beyond before it; scale one; offset zero.
    Raises:
        ShapeError: weight has no filter dimension, or no element.
    Source: reconstruction; the aim is Shulman, Exact Backpropagation in Binary Weighted Networks with Group Weight
        Transformations, 2021 (arXiv:2107.01400).
    """
    dims = filter_dims(weight)
    u = standardized(weight)
    one = torch.ones_like(u.detach().mean(dims, keepdim=True))
    if not isinstance(hardness, Tensor) and hardness >= 1:
        return BinaryWeight(hard_sign(u), one, torch.zeros_like(one))
    width = SOFTEST * (HARDEST / SOFTEST) ** torch.as_tensor(hardness, dtype=u.dtype, device=u.device)
    v = u * torch.rsqrt(u.square() + width.square())
    size = v.square().mean(dims, keepdim=True)
    return BinaryWeight(v * torch.where(size > 0, size, one).rsqrt(), one, torch.zeros_like(one))
