"""The paper's limit on how many inputs stay real: K of P layers, with K / P <= R."""

import math
from dataclasses import dataclass

from bnas.errors import SpecError


@dataclass(frozen=True)
class Ratio:
    """How many of a network's layers may keep real inputs.

    P counts the layers with a choice, and of those that a rule decides on the 1x1 convolutions that downsample, and a
    last layer that follows one of its own kind. It leaves out the first layer, a classifier of another kind than what
    comes before it, and whatever stays real as a whole. So AlexNet has 7 (conv2 to conv5, fc6 to fc8) and ResNet-18
    has 19 (16 convolutions of 3x3 and 3 of 1x1), of which the published choices keep 2 (28.6 %) and 7 (36.8 %).

    K counts the layers that are chosen to keep real inputs, not those that a rule keeps so anyway.

    Args:
        limit: R.
        of: P.
    Source: Prabhu et al., Hybrid Binary Networks, 2018 (arXiv:1804.03867), algorithm 1. What P counts is not said
        there; ours is what gives the percentages that are.
    """

    limit: float
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= 1:
            raise SpecError(
                f"ratio: must be between 0 and 1, but got {self.limit}; 0.3 lets three of ten inputs stay real"
            )

    @property
    def most(self) -> int:
        """The largest K."""
        return math.floor(self.limit * self.of + 1e-9)  # 0.7 * 10 is a little less than 7
