"""Values -> what is lost when they become bits: of a layer's input, and of its weights."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from bnas.binarize.weight import WeightBinarizer, filter_dims


class InputError(NamedTuple):
    """What the sign of some values x loses. Sums, so that batches and calls can be added up."""

    values: float  # n
    magnitude: float  # sum |x|
    energy: float  # sum x^2

    @property
    def plain(self) -> float:
        """||x - sign(x)||^2 / n.

        Source: Prabhu et al., Hybrid Binary Networks, 2018 (arXiv:1804.03867), section 3.
        """
        return (self.energy - 2 * self.magnitude + self.values) / self.values

    @property
    def scale_invariant(self) -> float:
        """||x - s sign(x)||^2 / ||x||^2 at the best s, which is the mean of |x|; 0 where all x are."""
        return 1 - self.magnitude**2 / (self.values * self.energy) if self.energy else 0.0


@torch.no_grad()
def input_error(x: Tensor) -> InputError:
    """Return what the sign of x loses; x [...] stands right before its sign."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    magnitude, energy = x.abs().sum(), x.square().sum()
    return InputError(float(x.numel()), float(magnitude), float(energy))


def summed(errors: Iterable[InputError]) -> InputError:
    """Return the error over all values together."""
    return InputError(*map(sum, zip(*errors, strict=True)))


@torch.no_grad()
def weight_error(weight: Tensor, binarize: WeightBinarizer) -> float:
    """Return ||W - s W~||^2 / ||W||^2 at the best s for each filter, which a learned output scale can reach.

    Args:
        weight: latent weights [..., out, in, kh, kw] or [out, in].
    """
    dims = filter_dims(weight)
    binary = binarize(weight).dense()
    along = (weight * binary).sum(dims).square() / binary.square().sum(dims).clamp_min(torch.finfo(weight.dtype).tiny)
    energy = weight.square().sum(dims)
    whole = energy.sum(dtype=torch.float64)
    return float((energy - along).clamp_min(0).sum(dtype=torch.float64) / whole) if whole else 0.0
