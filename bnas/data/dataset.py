"""Labelled images as they were read -> a data set with training, validation and test split."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnas.data.resize import Shape, check_channels, moments, resize, shape_of
from bnas.data.split import Split, pick
from bnas.data.stratify import stratified
from bnas.data.stream import Stream
from bnas.errors import DataError

Labelled = tuple[Tensor | Stream, Tensor]  # images [n, channels, height, width], int64 labels [n]

TEST_PART = 0.2  # of a set that has no test split of its own
TEST_SEED = 0  # the test images do not change with the seed of a run, so that runs can be compared
_STREAM_SAMPLE = 2_000  # images that stand for all when the moments of a stream are measured


@dataclass(frozen=True, eq=False)
class DataSet:
    """A named data set; `test` is read when it is first asked for, not before.

    Args:
        name: as it was asked for.
        class_names: in the order of their labels.
        train, validation: disjoint parts of the training images.
        read_test: reads the test split.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    read_test: Callable[[], Split]

    @cached_property
    def test(self) -> Split:
        """The test split; a search must read it once, at its very end."""
        return self.read_test()

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def input_shape(self) -> Shape:
        """Channels, height and width."""
        return self.train.image_shape

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of the training images per channel, in units of full scale."""
        return self.train.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the training images per channel, in units of full scale."""
        return self.train.std

    @property
    def augmentation(self) -> tuple[str, ...]:
        """What an augmented training pass does to the images."""
        return self.train.augmentation

    def with_augmentation(self, *names: str) -> "DataSet":
        """Return the same data set with these augmentations; none leaves the training images as they are."""
        return replace(self, train=replace(self.train, augmentation=names))

    def with_limit(self, limit: int, *, seed: int) -> "DataSet":
        """Return the same data set with at most `limit` training images, every class in its proportion."""
        if limit >= len(self.train):
            return self
        kept, _ = stratified(self.train.labels, limit, seed=seed, names=self.class_names, what=f"{self.name}: limit")
        return replace(self, train=self.train.select(kept.sort().values))


@dataclass(frozen=True, eq=False)
class Raw:
    """What a reader gives.

    Args:
        class_names: in the order of their labels.
        train: the labelled training images.
        read_test: reads the labelled test images; None where the set has no test split of its own.
        augmentation: None takes what suits photographs where the images have three channels, else small shifts.
    """

    class_names: tuple[str, ...]
    train: Labelled
    read_test: Callable[[], Labelled] | None = None
    augmentation: tuple[str, ...] | None = None


def assemble(
    name: str, raw: Raw, *, validation: float, seed: int, input_shape: Shape | None, limit: int | None = None
) -> DataSet:
    """Return the data set: images resized, labels checked, validation (and test, if need be) held out by class.

    Args:
        name: what errors call it.
        raw: what was read.
        validation: the part of the training images that is held out, between 0 and 1.
        seed: what draws the validation images.
        input_shape: channels, height, width; None keeps the size.
        limit: how many training images to use at most, before validation is held out of them.
    Raises:
        DataError: labels outside range, too few images of a class, other channels than were asked for.
    """
    hold_out = partial(stratified, names=raw.class_names)
    images, labels = _checked(name, raw.train, raw.class_names, input_shape)
    rows, test_rows = torch.arange(len(labels)), None
    if raw.read_test is None:
        test_rows, rows = hold_out(labels, TEST_PART, seed=TEST_SEED, what=f"{name}: test split")
    if limit is not None and limit < len(rows):
        kept, _ = hold_out(labels[rows], limit, seed=seed, what=f"{name}: limit")
        rows = rows[kept]
    held, rest = hold_out(labels[rows], validation, seed=seed, what=f"{name}: validation")
    train_rows = rows[rest].sort().values
    train_images = _picked(images, train_rows)
    mean, std = moments(_sample(train_images))
    augmentation = raw.augmentation
    if augmentation is None:
        augmentation = ("flip", "crop") if images.shape[1] == 3 else ("shift",)
    make = partial(Split, mean=mean, std=std)

    def read_test() -> Split:
        if test_rows is not None:
            chosen = test_rows.sort().values
            return make(_picked(images, chosen), labels[chosen])
        assert raw.read_test is not None
        found, numbers = _checked(f"{name}: test", raw.read_test(), raw.class_names, shape_of(train_images.shape))
        return make(found.in_memory() if isinstance(found, Stream) else found, numbers)

    return DataSet(
        name=name,
        class_names=raw.class_names,
        train=make(train_images, labels[train_rows], augmentation=augmentation),
        validation=make(_picked(images, rows[held]), labels[rows[held]]),
        read_test=read_test,
    )


def from_arrays(
    name: str,
    train_images: Any,
    train_labels: Any,
    test_images: Any = None,
    test_labels: Any = None,
    *,
    class_names: tuple[str, ...] | None = None,
    augmentation: tuple[str, ...] | None = None,
    validation: float = 0.1,
    seed: int = 0,
    input_shape: Shape | None = None,
    limit: int | None = None,
) -> DataSet:
    """Return a data set of images that are in memory already.

    Args:
        train_images, test_images: numpy arrays or tensors [n, channels, height, width], or [n, height, width] for grey
            ones; uint8, or floating point in units of full scale. Without test images a fifth is held out.
        train_labels, test_labels: integers [n], from 0.
        class_names: None calls the classes by their numbers.
        augmentation: as in `Raw`; the other arguments as in `load_data`.
    Raises:
        DataError: other shapes or kinds than these, and as in `load_data`.
    """
    train = _labelled(f"{name}: train", train_images, train_labels)
    if class_names is None:
        class_names = numbered(train[1])
    raw = Raw(
        class_names=class_names,
        train=train,
        read_test=None if test_images is None else partial(_labelled, f"{name}: test", test_images, test_labels),
        augmentation=augmentation,
    )
    return assemble(name, raw, validation=validation, seed=seed, input_shape=input_shape, limit=limit)


def numbered(labels: Tensor) -> tuple[str, ...]:
    """Return names for classes that have only numbers: "0", "1", and so on up to the largest label."""
    largest = int(labels.max()) if len(labels) else -1
    return tuple(str(label) for label in range(min(largest + 1, len(labels))))


def _labelled(where: str, images: Any, labels: Any) -> Labelled:
    pixels, numbers = torch.as_tensor(np.asarray(images)), torch.as_tensor(np.asarray(labels))
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(1)
    if pixels.ndim != 4 or not (pixels.dtype == torch.uint8 or pixels.dtype.is_floating_point):
        raise DataError(
            f"{where}: images must be uint8 or floating point [n, channels, height, width] or [n, height, width], "
            f"but are {str(pixels.dtype).removeprefix('torch.')} {list(pixels.shape)}; convert them"
        )
    if numbers.ndim != 1 or numbers.dtype.is_floating_point or numbers.dtype.is_complex:
        raise DataError(
            f"{where}: labels must be integers [n], but are {str(numbers.dtype).removeprefix('torch.')} "
            f"{list(numbers.shape)}; convert them"
        )
    if pixels.dtype.is_floating_point:
        pixels = pixels.float()
        if not pixels.isfinite().all():
            raise DataError(f"{where}: images hold values that are not finite; remove or replace these images")
    return pixels, numbers.long()


def _checked(name: str, labelled: Labelled, class_names: tuple[str, ...], shape: Shape | None) -> Labelled:
    images, labels = labelled
    if len(images) != len(labels):
        raise DataError(f"{name}: there are {len(images)} images but {len(labels)} labels; give one label each")
    if not len(labels):
        raise DataError(f"{name}: there are no images; look at where it is read from")
    wrong = ((labels < 0) | (labels >= len(class_names))).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{name}: label {int(labels[row])} of image {row} must be from 0 to {len(class_names) - 1} "
            f"for {len(class_names)} classes; correct the labels"
        )
    if shape is not None:
        check_channels(f"data set {name}", shape_of(images.shape), shape)
        if isinstance(images, Tensor):
            images = resize(images, shape[1:])
    return images, labels


def _picked(images: Tensor | Stream, rows: Tensor) -> Tensor | Stream:
    picked = pick(images, rows)
    return picked.in_memory() if isinstance(picked, Stream) else picked


def _sample(images: Tensor | Stream) -> Tensor:
    if isinstance(images, Tensor):
        return images
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)[:_STREAM_SAMPLE].sort().values
    return torch.cat(list(images.batches(order, 64)))
