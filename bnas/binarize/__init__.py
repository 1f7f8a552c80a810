"""Real values -> one bit: the weight and activation binarizers, by name."""

import inspect
from collections.abc import Callable

from torch import Tensor

from bnas.binarize.alpha_beta import alpha_beta
from bnas.binarize.approx import polynomial_sign, swish_sign
from bnas.binarize.group import group
from bnas.binarize.irnet import irnet
from bnas.binarize.sign import clipped_sign, sign
from bnas.binarize.weight import BinaryWeight, WeightBinarizer, at_binary_magnitude, filter_dims
from bnas.binarize.xnor import xnor
from bnas.lookup import find

ActivationBinarizer = Callable[[Tensor], Tensor]

WEIGHT_BINARIZERS: dict[str, WeightBinarizer] = {
    "sign": sign,
    "xnor": xnor,
    "alpha_beta": alpha_beta,
    "irnet": irnet,
    "group": group,
}

# Weight binarizers whose backward pass multiplies each weight's gradient by one number of its own.
ELEMENTWISE_BACKWARD: frozenset[str] = frozenset({"sign", "xnor"})

ACTIVATION_BINARIZERS: dict[str, ActivationBinarizer] = {
    "sign": clipped_sign,
    "polynomial": polynomial_sign,
    "swish": swish_sign,
    "react": polynomial_sign,  # ReActNet's; its learned threshold is the bias of the batch norm before it
}


def weight_binarizer(name: str) -> WeightBinarizer:
    """Return the weight binarizer of this name, or the one that `pkg.mod:attr` names.

    Raises:
        LookupFailed: nothing has this name.
    """
    return find(name, WEIGHT_BINARIZERS, what="weight binarizer")


def is_annealed(binarizer: WeightBinarizer) -> bool:
    """Return whether a weight binarizer takes a `hardness`, which training raises from 0 to 1."""
    return "hardness" in inspect.signature(binarizer).parameters


def activation_binarizer(name: str) -> ActivationBinarizer:
    """Return the activation binarizer of this name, or the one that `pkg.mod:attr` names.

    Raises:
        LookupFailed: nothing has this name.
    """
    return find(name, ACTIVATION_BINARIZERS, what="activation binarizer")


__all__ = [
    "ACTIVATION_BINARIZERS",
    "ELEMENTWISE_BACKWARD",
    "WEIGHT_BINARIZERS",
    "ActivationBinarizer",
    "BinaryWeight",
    "WeightBinarizer",
    "activation_binarizer",
    "at_binary_magnitude",
    "filter_dims",
    "is_annealed",
    "weight_binarizer",
]
