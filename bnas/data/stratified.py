"""Labels -> a part of the images that is held out, in which every class has its share."""

import numpy as np
import torch
from torch import Tensor

from bnas.errors import DataError

TEST_PART = 0.2  # of a set that has no test split of its own
TEST_SEED = 0  # the test images do not change with the seed of a run, so that runs can be compared


def stratified(
    labels: Tensor, part: float | int, *, seed: int, names: tuple[str, ...], what: str, leave: int = 1
) -> tuple[Tensor, Tensor]:
    """Return the places of a part in which every class has its share, and the places of the rest.

    Both come in random order, so that the first few of either are a fair sample too.

    Args:
        labels: int64 [n], from 0.
        part: a fraction between 0 and 1, or a number of images; one of each class is taken at least, `leave` are left.
        seed: what draws them.
        names: of all the classes.
        what: what the part is for, in errors ("mnist: validation").
        leave: how many of each class the rest has at least.
    Raises:
        DataError: a class has one image alone, or the part has no room for every class.
    """
    sizes = np.bincount(labels.numpy(), minlength=len(names))
    present = np.flatnonzero(sizes)  # a class may have been named that has no images
    if sizes[present].min() < 2:
        scarce = int(present[sizes[present].argmin()])
        raise DataError(
            f"{what}: class {names[scarce]!r} must have at least 2 images to divide, but has {sizes[scarce]}; "
            "add images or leave the class out"
        )
    count = part if isinstance(part, int) else int(part * len(labels) + 0.5)
    if isinstance(part, int):
        if not 2 * len(present) <= part <= len(labels) - leave * len(present):
            rest = " and leave one of each" if leave else ""
            raise DataError(
                f"{what}: must be at least 2 for each of {len(present)} classes{rest}, "
                f"but got {part} of {len(labels)} images"
            )
    else:
        count = min(max(count, len(present)), len(labels) - leave * len(present))
    generator = np.random.default_rng(seed)
    shares = _shares(sizes[present], count, leave)
    taken, left = [], []
    for label, share in zip(present, shares, strict=True):
        members = generator.permutation(np.flatnonzero(labels.numpy() == label))
        taken.append(members[:share])
        left.append(members[share:])
    return (
        torch.from_numpy(generator.permutation(np.concatenate(taken))),
        torch.from_numpy(generator.permutation(np.concatenate(left))),
    )


def _shares(sizes: np.ndarray, count: int, leave: int) -> np.ndarray:
    """Divide `count` among classes in proportion to their sizes, at least 1 and at most size - leave each."""
    exact = sizes * (count / sizes.sum())
    shares = np.clip(np.floor(exact).astype(np.int64), 1, sizes - leave)
    while (missing := count - shares.sum()) != 0:
        step = 1 if missing > 0 else -1
        room = shares < sizes - leave if step > 0 else shares > 1
        shares[np.where(room, step * (exact - shares), -np.inf).argmax()] += step
    return shares
