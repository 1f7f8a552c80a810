"""Real values -> one bit: the weight and activation binarizers, by name."""

import inspect
from collections.abc import Callable

from torch import Tensor

from bnas.binarize.alpha_beta import alpha_beta
from bnas.binarize.scaled_sign import group, irnet, xnor
from bnas.binarize.sign import clipped_sign, polynomial_sign, sign, swish_sign
from bnas.binarize.weight import BinaryWeight, WeightBinarizer, at_binary_magnitude, filter_dims
from bnas.lookup import find
from bnas.space.binarizer_traits import traits_of

ActivationBinarizer = Callable[[Tensor], Tensor]  # value by value: it may be given a part of the images

WEIGHT_BINARIZERS: dict[str, WeightBinarizer] = {
    "sign": sign,
    "xnor": xnor,
    "alpha_beta": alpha_beta,
    "irnet": irnet,
    "group": group,
}

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


def has_exact_gradient(name: str) -> bool:
    """Return whether the weight binarizer of this name softens its result, and so has a gradient of its own.

    An annealed one that `pkg.mod:attr` names is taken to do so. The others go straight through, or near it.

    Raises:
        LookupFailed: nothing has this name.
    """
    return is_annealed(weight_binarizer(name)) and not traits_of(name).hardens_gradient


def activation_binarizer(name: str) -> ActivationBinarizer:
    """Return the activation binarizer of this name, or the one that `pkg.mod:attr` names.

    Raises:
        LookupFailed: nothing has this name.
    """
    return find(name, ACTIVATION_BINARIZERS, what="activation binarizer")


__all__ = [
    "ACTIVATION_BINARIZERS",
    "WEIGHT_BINARIZERS",
    "ActivationBinarizer",
    "BinaryWeight",
    "WeightBinarizer",
    "activation_binarizer",
    "at_binary_magnitude",
    "filter_dims",
    "has_exact_gradient",
    "is_annealed",
    "weight_binarizer",
]
