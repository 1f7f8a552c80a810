"""Images that are in memory, or that a torch Dataset gives one by one -> parts of a data set."""

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnas.data import stream
from bnas.data.fingerprint import of_tensor
from bnas.data.found import Part, resized
from bnas.data.labels import Labels
from bnas.data.layout import as_image, as_images
from bnas.data.resize import Shape, check_channels, mixed_sizes, resize, shape_of, text
from bnas.data.stream import Images, Stream
from bnas.errors import BnasError, DataError
from bnas.lookup import FAILURES, reason

_PROBED = 100  # items whose labels must be those that a Dataset keeps beside them


def of_arrays(where: str, images: Any, labels: Any, size: Shape | None) -> Part:
    """Return a part of images that are in memory: an array, or a list of them where they have several sizes.

    Args:
        images: as `as_images` takes them, or a list of images as `as_image` takes them.
        labels: integers from 0 or names [n].
        size: to resize each image of a list to; None wants one size.
    Raises:
        DataError: other shapes or kinds than these.
    """
    ragged = isinstance(images, (list, tuple)) or (isinstance(images, np.ndarray) and images.dtype == object)
    pixels, sizes = stacked(where, images, size) if ragged else (as_images(images, where), ())
    return held(where, pixels, Labels.of(labels, where=where), sizes=sizes)


def held(where: str, pixels: Tensor, labels: Labels, *, sizes: Sequence[Shape] = ()) -> Part:
    """Return a part of images that are in memory.

    Args:
        sizes: channels, height and width that they had, where they are resized already; that of the first comes first.
    Raises:
        DataError: there are more or fewer labels than images.
    """
    if len(pixels) != len(labels):
        raise DataError(f"{where}: there are {len(pixels)} images but {len(labels)} labels; give one label each")
    read = partial(resized, pixels, f"data set {where}")
    own = sizes[0] if sizes else shape_of(pixels.shape)
    return Part(where, labels, own, read, partial(of_tensor, pixels), tuple(sizes))


def stacked(where: str, images: Iterable[Any], size: Shape | None) -> tuple[Tensor, tuple[Shape, ...]]:
    """Return images that come one by one as one tensor [n, channels, height, width], and the sizes that they had.

    Raises:
        DataError: they have several sizes, and none was asked for; other channels, or another kind.
    """
    found, sizes = list[Tensor](), list[Shape]()
    for row, value in enumerate(images):
        named = f"{where}: image {row}"
        image = as_image(value, named)
        like = found[0] if found else image
        sizes.append(shape_of(image.shape))
        own = sizes[0]
        check_channels(f"data set {where}", own, size or own)
        found.append(fitted(image, named, size or own, like.dtype, size is not None))
    if not found:
        raise DataError(f"{where}: there are no images; look at where it is read from")
    return torch.stack(found), tuple(sizes)


def fitted(image: Tensor, where: str, shape: Shape, dtype: torch.dtype, is_resized: bool) -> Tensor:
    """Return an image in the channels, kind and size of the others; grey ones join colour ones.

    Raises:
        DataError: it has other channels or is of another kind, or another size where none was asked for.
    """
    if image.dtype != dtype:
        raise DataError(f"{where} is {image.dtype}, but the first is {dtype}; make all the same kind")
    if image.shape[0] == 1 and shape[0] == 3:
        image = image.expand(3, -1, -1)
    if image.shape[0] != shape[0]:
        raise DataError(f"{where} is {text(image.shape)}, but {shape[0]} channels are wanted; make all the same kind")
    if image.shape[1:] != shape[1:] and not is_resized:
        raise mixed_sizes(where, image.shape, shape)
    return resize(image.unsqueeze(0), shape[1:])[0]


def of_dataset(where: str, dataset: Any, size: Shape | None) -> Part:
    """Return a part of the (image, label) pairs that a torch Dataset of the map style gives, one for each index.

    Each pair is read with the random generators set by its index, so that what its transforms draw is the same at each
    reading: a random crop is drawn once, for good. Where the images are few enough for memory all are read now.

    Args:
        dataset: images as `as_image` takes them, labels as `Labels.of` takes them; its `classes`, where it has such a
            list, name the classes.
        size: channels, height and width to resize the images to; None wants one size.
    Raises:
        DataError: it gives something else, or fails.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{where}: a {type(dataset).__name__} has no length, or gives no item by its index; give a Dataset of the "
            "map style, or arrays (images, labels)"
        )
    items = Items(where, dataset)
    if not len(items):
        raise DataError(f"{where}: there are no images; look at where it is read from")
    first = as_image(items.pair(0)[0], f"{where}: image 0")
    own = shape_of(first.shape)
    if len(items) * math.prod(size or own) * first.dtype.itemsize > stream.IN_MEMORY_BYTES:
        return Part(where, items.labels(), own, partial(_streamed, items, own, first.dtype), partial(str, where))
    labels = list[Any]()

    def images() -> Iterator[Any]:
        for image, label in items.pairs(range(len(items))):
            labels.append(label)
            yield image

    pixels, sizes = stacked(where, images(), size)
    return held(where, pixels, items.named(labels), sizes=sizes)


@dataclass(frozen=True, eq=False)
class Items:
    """What a torch Dataset of a user's gives."""

    where: str
    dataset: Any

    def __len__(self) -> int:
        """Return how many items it says that it has.

        Raises:
            DataError: it does not say.
        """
        try:
            return len(self.dataset)
        except FAILURES as problem:
            raise DataError(f"{self.where}: the length of the Dataset cannot be had: {reason(problem)}") from problem

    def pair(self, row: int) -> tuple[Any, Any]:
        """Return an image and its label, both as they are.

        Raises:
            DataError: the Dataset fails, or gives something else.
        """
        return next(self.pairs([row]))

    def pairs(self, rows: Iterable[int]) -> Iterator[tuple[Any, Any]]:
        """Yield images and labels."""
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            for row in rows:
                random.seed(row)
                np.random.seed(row)
                torch.default_generator.manual_seed(row)
                yield self._read(row)
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])

    def _read(self, row: int) -> tuple[Any, Any]:
        try:
            item = self.dataset[row]
        except BnasError:
            raise
        except FAILURES as problem:
            raise DataError(f"{self.where}: item {row} of the Dataset cannot be read: {reason(problem)}") from problem
        if isinstance(item, Mapping) and {"image", "label"} <= item.keys():
            return item["image"], item["label"]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            said = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
            raise DataError(
                f"{self.where}: a Dataset must give pairs (image, label), but item {row} is a "
                f"{type(item).__name__}{said}; return the two"
            )
        return item[0], item[1]

    def labels(self) -> Labels:
        """Return the labels without keeping images: those that the Dataset has beside them, if its items agree."""
        count = len(self)
        if (kept := self._beside()) is not None:
            probed = [int(row) for row in np.unique(np.linspace(0, count - 1, _PROBED))]
            if (self.named([label for _, label in self.pairs(probed)]).numbers == kept.numbers[probed]).all():
                return kept
        return self.named([label for _, label in self.pairs(range(count))])

    def _beside(self) -> Labels | None:
        """Return what the Dataset calls its labels; None where it has nothing of that name, or what it has are none."""
        try:
            beside = getattr(self.dataset, "targets", getattr(self.dataset, "labels", None))
            return self.named(list(beside)) if beside is not None and len(beside) == len(self) else None
        except FAILURES:
            return None

    def named(self, labels: Sequence[Any]) -> Labels:
        """Return labels, with the names of their classes where the Dataset has them."""
        found = Labels.of(labels, where=self.where)
        names = getattr(self.dataset, "classes", None)
        if found.names is not None or not isinstance(names, (list, tuple)) or len(set(map(str, names))) < len(names):
            return found
        return (
            Labels(found.numbers, tuple(map(str, names)), ordered=True) if found.numbers.max() < len(names) else found
        )


def _streamed(items: Items, own: Shape, dtype: torch.dtype, size: Shape | None) -> Images:
    read = partial(_read_items, items, size or own, dtype, size is not None)
    return Stream(read, torch.arange(len(items)), size or own, dtype)


def _read_items(items: Items, shape: Shape, dtype: torch.dtype, is_resized: bool, rows: Tensor) -> Tensor:
    numbers = rows.tolist()
    named = [f"{items.where}: image {row}" for row in numbers]
    pictures = [as_image(image, where) for where, (image, _) in zip(named, items.pairs(numbers), strict=True)]
    return torch.stack([fitted(p, where, shape, dtype, is_resized) for where, p in zip(named, pictures, strict=True)])
