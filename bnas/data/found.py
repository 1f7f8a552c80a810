"""What a reader found -> the parts of a data set, their labels numbered alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bnas.data.labels import Labels
from bnas.data.resize import Shape, check_channels, resize, shape_of
from bnas.data.roles import ROLES
from bnas.data.stream import Images, pick
from bnas.errors import DataError


@dataclass(frozen=True, eq=False)
class Part:
    """One split as it was found.

    Args:
        where: what errors call it.
        labels: of its images, in their order.
        shape: channels, height and width of its first image.
        read: the size to give the images, or None for one size that they have -> all of them.
        identity: text that tells these images from others, made without decoding any.
        sizes: channels, height and width of images that were looked at; none where all are like the first.
    """

    where: str
    labels: Labels
    shape: Shape
    read: Callable[[Shape | None], Images]
    identity: Callable[[], str]
    sizes: tuple[Shape, ...] = ()

    @property
    def is_mixed(self) -> bool:
        """Whether images that were looked at have several sizes."""
        return len({size[1:] for size in self.sizes}) > 1

    def select(self, rows: np.ndarray) -> "Part":
        """Return the part of it at these places, int64 [m]."""
        kept = replace(self.labels, numbers=self.labels.numbers[rows])
        return replace(self, labels=kept, read=partial(_read_some, self.read, torch.from_numpy(rows)))


def _read_some(read: Callable[[Shape | None], Images], rows: Tensor, size: Shape | None) -> Images:
    return pick(read(size), rows)


def resized(images: Tensor, where: str, size: Shape | None) -> Tensor:
    """Return images that are in memory in this size; bound to the first two it is what a `Part` reads with."""
    if size is None:
        return images
    if images.shape[1] == 1 and size[0] == 3:
        images = images.expand(-1, 3, -1, -1)
    check_channels(where, shape_of(images.shape), size)
    return resize(images, size[1:])


@dataclass(frozen=True, eq=False)
class Found:
    """A data set as a reader found it.

    Args:
        source: where it was read from, for people.
        parts: `train`, and `validation` and `test` where there are such.
        class_names: where the classes were named without the help of labels: some may have no images then.
        augmentation: of training images, where it is known what suits them; None takes small shifts.
        notes: what was taken for what, and what was passed over, a short remark each.
    """

    source: str
    parts: Mapping[str, Part]
    class_names: tuple[str, ...] | None = None
    augmentation: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def aligned(self, name: str) -> "Found":
        """Return it with the labels of all parts numbered by the same names.

        Raises:
            DataError: as `Labels.alike` does.
        """
        parts = [(role, self.parts[role]) for role in ROLES if role in self.parts]  # the order of names is training's
        same = Labels.alike([_named(part.labels, self.class_names) for _, part in parts], where=name)
        pairs = zip(parts, same, strict=True)
        return replace(self, parts={role: replace(part, labels=labels) for (role, part), labels in pairs})

    def first_classes(self, count: int, *, name: str) -> "Found":
        """Return the images of the first classes alone, in the order of their names.

        Raises:
            DataError: there are not so many, or fewer than two are asked for.
        """
        found = self.aligned(name)
        names = tuple(sorted(found.class_names or found.parts["train"].labels.found()))
        if not 2 <= count <= len(names):
            raise DataError(
                f"data set {name}: has {len(names)} classes, so that the first 2 to {len(names)} can be had"
            )
        first = names[:count]
        kept = {role: part.select(np.flatnonzero(part.labels.by(first) >= 0)) for role, part in found.parts.items()}
        return replace(found, parts=kept, class_names=first)


def _named(labels: Labels, names: tuple[str, ...] | None) -> Labels:
    return labels if labels.names is not None or names is None else Labels(labels.numbers, names, ordered=True)
