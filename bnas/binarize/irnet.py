"""Latent weights -> balanced signs and a power of two per filter, as IR-Net has it."""

import torch
from torch import Tensor

from bnas.binarize.sign import hard_sign
from bnas.binarize.weight import BinaryWeight, filter_dims, standardized_filters


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
