"""Real values -> one bit: the weight and activation binarizers, by name."""

from collections.abc import Callable

from torch import Tensor

from bnas.binarize.sign import clipped_sign, sign
from bnas.binarize.weight import BinaryWeight, WeightBinarizer, at_binary_magnitude, filter_dims
from bnas.binarize.xnor import xnor
from bnas.lookup import find

ActivationBinarizer = Callable[[Tensor], Tensor]

WEIGHT_BINARIZERS: dict[str, WeightBinarizer] = {
    "sign": sign,
    "xnor": xnor,
}

# Weight binarizers whose backward pass multiplies each weight's gradient by one number of its own.
ELEMENTWISE_BACKWARD: frozenset[str] = frozenset({"sign", "xnor"})

ACTIVATION_BINARIZERS: dict[str, ActivationBinarizer] = {
    "sign": clipped_sign,
}


def weight_binarizer(name: str) -> WeightBinarizer:
    """Return the weight binarizer of this name, or the one that `pkg.mod:attr` names.

    Raises:
        LookupFailed: nothing has this name.
    """
    return find(name, WEIGHT_BINARIZERS, what="weight binarizer")


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
    "weight_binarizer",
]
