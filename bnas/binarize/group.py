"""Latent weights -> signs, through a smooth transformation of each filter as a whole."""

import torch
from torch import Tensor

from bnas.binarize.sign import hard_sign
from bnas.binarize.weight import BinaryWeight, at_mean_square_one, of_norm_one, standardized_filters

SOFTEST, HARDEST = 3.0, 1e-3  # width of the transition from -1 to +1, in standard deviations of the filter


def group(weight: Tensor, *, hardness: float | Tensor = 1.0) -> BinaryWeight:
    """Turn each filter as one group into a vector of -1 and +1, without a straight-through estimator.

    This is our reconstruction of the group weight transformation: the publication gives its properties
    (deterministic, joint over a group, ordinary gradients, binary in the limit), not its formula. Others that
    have them too, and were tried, are in benchmarks/group_transforms.py; benchmarks/lenet.py compares them.

    With u the filter, centred and divided by its standard deviation: v = u / sqrt(u^2 + e^2), divided
    by its norm. So v stays on the sphere of radius 1, has the direction of u for a large e, and that of
    a vertex of the cube, sign(u), in the limit e -> 0. e falls linearly from 3 at hardness 0 to 0.001
    at 1. (Two things were tried before, on a VGG-Small of width 32 with every weight binary, 8 epochs of
    10,000 CIFAR-10 images of 16x16, one seed: where e fell geometrically it reached 55.2 %, against 62.2;
    on the sphere of radius sqrt(n) it diverged.) Training raises the hardness to 1, where weights near 0
    are still soft; evaluation takes the limit itself, which has no gradient. Backward: exact, through all.

    Args:
        weight: latent weights [..., out, in, kh, kw] or [out, in], floating point.
        hardness: in [0, 1], a number or a tensor of one; the number 1 stands for the limit.
    Returns:
        sign in {-1, +1} in the limit, between them and beyond before it; scale 1 / sqrt(n), n the weights of a filter;
        no offset.
    Raises:
        ShapeError: weight has no filter dimension, or no element.
    Source: reconstruction; the aim is Shulman, Exact Backpropagation in Binary Weighted Networks with Group Weight
        Transformations, 2021 (arXiv:2107.01400).
    """
    u = standardized_filters(weight)
    if not isinstance(hardness, Tensor) and hardness >= 1:
        return of_norm_one(hard_sign(u))
    softness = 1 - torch.as_tensor(hardness, dtype=u.dtype, device=u.device)
    width = HARDEST + (SOFTEST - HARDEST) * softness
    return of_norm_one(at_mean_square_one(u * torch.rsqrt(u.square() + width.square())))
