"""Other transformations of a filter into bits than the one that `group` has, with exact gradients as it has.

All begin with u, the filter centred and divided by its standard deviation, keep each filter's norm at one, and end in
its signs. `bnas train lenet5 --weights group_transforms:power` trains with one of them, run from this folder.
"""

from torch import Tensor

from bnas.binarize import BinaryWeight
from bnas.binarize.sign import hard_sign
from bnas.binarize.weight import at_mean_square_one, of_norm_one, standardized_filters

CLIPS = 12  # times that `clip` clips at the most
TINY = 1e-12  # square below which a weight counts as zero; a root has no gradient there


def power(weight: Tensor, *, hardness: float | Tensor = 1.0) -> BinaryWeight:
    """Return sign(u) |u|^p over its root mean square, p from 1 at hardness 0 to 0 at hardness 1."""
    u = standardized_filters(weight)
    p = 1 - float(hardness)
    return _ended(u, u * (u.square() + TINY).pow((p - 1) / 2), hard=p <= 0)


def clip(weight: Tensor, *, hardness: float | Tensor = 1.0) -> BinaryWeight:
    """Return u clipped to [-1, 1] and divided by its root mean square, again and again, 12 times before hardness 1."""
    u = v = standardized_filters(weight)
    for _ in range(round(CLIPS * float(hardness))):
        v = at_mean_square_one(v.clamp(-1, 1))
    return _ended(u, v, hard=float(hardness) >= 1)


def _ended(u: Tensor, v: Tensor, *, hard: bool) -> BinaryWeight:
    return of_norm_one(hard_sign(u) if hard else at_mean_square_one(v))
