"""The weight binarizers by name, and what is known of each without loading or running it."""

from typing import NamedTuple


class WeightTraits(NamedTuple):
    """What is known of a weight binarizer; one of a user's own is taken to have the least that may be assumed."""

    scale_shared_by_experts: bool = False  # it has none but the learned alpha, or one number for all weights
    has_offset: bool = True  # its two values are not opposite
    elementwise_backward: bool = False  # its backward pass multiplies each weight's gradient by one number of its own
    hardens_gradient: bool = False  # annealed, but binary from the start: it is its gradient that hardens, inexactly


WEIGHT_TRAITS = {
    "sign": WeightTraits(scale_shared_by_experts=True, has_offset=False, elementwise_backward=True),
    "xnor": WeightTraits(has_offset=False, elementwise_backward=True),
    "alpha_beta": WeightTraits(elementwise_backward=True),
    "irnet": WeightTraits(has_offset=False, hardens_gradient=True),
    "group": WeightTraits(scale_shared_by_experts=True, has_offset=False),
}


def traits_of(weight_binarizer: str) -> WeightTraits:
    """Return what is known of the weight binarizer of this name."""
    return WEIGHT_TRAITS.get(weight_binarizer, WeightTraits())
