"""Latent weights -> signs and one scale per filter, as XNOR-Net has it."""

from torch import Tensor

from bnas.binarize.sign import clipped_sign
from bnas.binarize.weight import BinaryWeight, filter_dims


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
