"""Latent weights -> signs and one scale per filter: XNOR-Net, IR-Net, and a smooth transformation of whole filters."""

import torch
from torch import Tensor

from bnas.binarize.sign import clipped_sign, hard_sign
from bnas.binarize.weight import BinaryWeight, at_mean_square_one, filter_dims, of_norm_one, standardized_filters

SOFTEST, HARDEST = 3.0, 1e-3  # width of the transition from -1 to +1, in standard deviations of the filter


def xnor(weight: Tensor) -> BinaryWeight:
    """Binarize each filter to its signs and the one scale that fits it best.

    For a filter w the scale is mean(|w|), which minimises ||w - scale * sign(w)||^2.
    Backward: dL/dw = scale * dL/dW~ where |w| < 1, zero elsewhere. The scale counts as constant:
    its own gradient is that of the convolution's learned output scale. (The paper adds dL/dW~ / n,
    which is not the derivative of the mean; for the usual n of some hundreds it hardly matters.)

    Args:
        weight: latent weights [..., out, in, kh, kw] or [out, in], floating point.
    Returns:
        sign in {-1, +1}; scale [..., out, 1, 1, 1] in the unit of weight; no offset.
    Raises:
        ShapeError: weight has no filter dimension, or no element.
    Source: Rastegari et al., XNOR-Net, 2016 (arXiv:1603.05279), section 3.1.
    """
    scale = weight.detach().abs().mean(filter_dims(weight), keepdim=True)
    return BinaryWeight(clipped_sign(weight), scale)


def irnet(weight: Tensor, *, hardness: float | Tensor = 1.0) -> BinaryWeight:
    """Binarize each filter, once centred and divided by its standard deviation, to signs and a power of two.

    With u the standardised filter: scale = 2^round(log2(mean |u|)), so that a bit shift applies it.
    Backward (error decay estimator): the sign counts as k tanh(t u), k = max(1 / t, 1), with t going
    from 0.1 (nearly the identity) at hardness 0 to 10 (nearly the step) at hardness 1. The
    derivative of u by the weight is exact; the scale counts as constant.

    Args:
        weight: latent weights [..., out, in, kh, kw] or [out, in], floating point.
        hardness: how far training has come, in [0, 1]; it does not change what is returned.
    Returns:
        sign in {-1, +1}, in each filter about as many of either; scale [..., out, 1, 1, 1]; no offset.
    Raises:
        ShapeError: weight has no filter dimension, or no element.
    Source: Qin et al., Forward and Backward Information Retention (IR-Net), 2020 (arXiv:1909.10788), section 3.
    """
    u = standardized_filters(weight)
    size = u.detach().abs().mean(filter_dims(weight), keepdim=True)
    scale = torch.where(size == 0, torch.ones_like(size), torch.exp2(size.log2().round()))
    signs = hard_sign(u)
    if not (torch.is_grad_enabled() and u.requires_grad):
        return BinaryWeight(signs, scale)
    t = 0.1 * 100.0 ** torch.as_tensor(hardness, dtype=u.dtype, device=u.device)
    soft = (1 / t).clamp_min(1) * torch.tanh(t * u)
    return BinaryWeight(signs + (soft - soft.detach()), scale)


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
