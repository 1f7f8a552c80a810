"""Training, validation and test images of one name -> what is trained on, and what is said of it first."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from bnas.data.facts import facts_of, summary_of
from bnas.data.resize import Shape, check_channels, resize, text
from bnas.data.split import Split
from bnas.data.stratified import stratified
from bnas.data.stream import Stream, joined
from bnas.data.transforms import Normalisation, normalisation, spelled
from bnas.errors import BnasError, DataError
from bnas.lookup import FAILURES, reason

_logger = logging.getLogger("bnas.images")


@dataclass(frozen=True, eq=False)
class Later:
    """A split whose images are not read yet; called, it reads them.

    Args:
        read: reads the split.
        labels: int64 [n]; None where they are not known before.
        origin: how these images came to be the split, for people.
        identity: text that tells these images from others, made without decoding any.
        check: decodes all of them and keeps none; None where that is no work that may fail.
    """

    read: Callable[[], Split]
    labels: Tensor | None = None
    origin: str = ""
    identity: Callable[[], str] | None = None
    check: Callable[[], None] | None = None

    def __call__(self) -> Split:
        return self.read()


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """A named data set; `test` is read when it is first asked for, not before.

    Args:
        name: as it was asked for.
        class_names: in the order of their labels; some may have no images.
        train: images to train on.
        validation: images to choose by, none of them in `train`.
        read_test: reads the test split, best a `Later`, which says how many images there are.
        source: where it was read from.
        original_shape: of the first image, where all were resized.
        normalised: where mean and std are not those of the training images, what was asked for.
        notes: what was taken for what when it was read, and what was passed over.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    read_test: Callable[[], Split]
    source: str = ""
    original_shape: Shape | None = None
    normalised: str = ""
    notes: tuple[str, ...] = ()
    found_as: str | None = field(default=None, init=False)  # by `load_data`; a copy that is changed is found no more

    def __repr__(self) -> str:
        test = self.later_test.labels
        images = f"{len(self.train)} training, {len(self.validation)} validation, {_counted(test)} test images"
        return f"DataSet({self.name!r}: {images}, {text(self.input_shape)}, {self.classes} classes)"

    def __str__(self) -> str:
        return self.summary()

    @cached_property
    def test(self) -> Split:
        """The test split; a search must read it once, at its very end.

        Raises:
            DataError: it cannot be read, or is not what the training images are.
        """
        split = read_by_user(f"data set {self.name}: its test images", self.read_test)
        check_split(f"data set {self.name}: test", split, self.classes)
        if split.image_shape != self.input_shape:
            raise DataError(
                f"data set {self.name}: the test images are {text(split.image_shape)}, but the training images "
                f"{text(self.input_shape)}; make them alike"
            )
        return split

    def check_test(self) -> None:
        """Decode the test images and keep none: one that cannot be read is to be an error before long work.

        Raises:
            DataError: one cannot be read; says which.
        """
        if self.later_test.check is not None:
            self.later_test.check()

    @property
    def later_test(self) -> Later:
        """What reads the test split, with whatever is known of it before."""
        return self.read_test if isinstance(self.read_test, Later) else Later(self.read_test)

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
        """What is taken from the images per channel, in units of full scale: their mean, unless told otherwise."""
        return self.train.mean

    @property
    def std(self) -> tuple[float, ...]:
        """What the images are divided by per channel, in units of full scale."""
        return self.train.std

    @property
    def augmentation(self) -> tuple[str, ...]:
        """What an augmented training pass does to the images."""
        return self.train.augmentation

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return facts_of(self)

    def facts(self) -> dict[str, Any]:
        """Return what is known of the images, as JSON can hold it: how many, how split, size, classes, fingerprint."""
        return dict(self._facts)

    @property
    def fingerprint(self) -> str:
        """A checksum over the images and labels of all three splits; `bnas.data.fingerprint` says of what."""
        found: str = self._facts["fingerprint"]
        return found

    def summary(self) -> str:
        """Return in one line how many images there are, how they are split, their size, classes, mean and deviation."""
        return summary_of(self)

    def announce(self) -> None:
        """Tell whoever listens to the logger `bnas.images` what will be trained on; the command line prints it."""
        _logger.info("data %s", self.summary())

    def with_augmentation(self, *names: str) -> "DataSet":
        """Return the same data set with these augmentations; none leaves the training images as they are."""
        return replace(self, train=replace(self.train, augmentation=names))

    def with_limit(self, limit: int, *, seed: int) -> "DataSet":
        """Return the same data set with at most `limit` training images, every class in its proportion."""
        if limit >= len(self.train):
            return self
        kept, _ = stratified(
            self.train.labels, limit, seed=seed, names=self.class_names, what=f"{self.name}: limit", leave=0
        )
        return replace(self, train=self.train.select(kept.sort().values))

    def with_held_out(self) -> "DataSet":
        """Return the same data set with the validation images among the training images, behind the others.

        They stay the validation images too, but are held out no more. Mean and deviation stay what they are.

        Raises:
            DataError: they are normalised otherwise than the training images.
        """
        self.check_alike()
        own, held = self.train, self.validation
        labels = torch.cat((own.labels, held.labels))
        return replace(self, train=replace(own, images=joined(own.images, held.images), labels=labels))

    def check_alike(self) -> None:
        """Raise unless training and validation images can be trained on together.

        Raises:
            DataError: they are normalised otherwise.
        """
        own, held = self.train, self.validation
        if (own.mean, own.std) != (held.mean, held.std):
            raise DataError(
                f"data set {self.name}: the validation images have mean {held.mean} and std {held.std}, the training "
                f"images {own.mean} and {own.std}, so that they cannot be trained on together; give both the same"
            )

    def with_normalisation(self, asked: Normalisation) -> "DataSet":
        """Return the same data set, its batches normalised as a model wants them.

        Args:
            asked: `imagenet`, `unit`, `bytes`, or mean and std, as `bnas.data.transforms.normalisation` takes them.
        Raises:
            DataError: it is none of these, or the images are not in units of full scale, so that a word means nothing.
        """
        mean, std = normalisation(asked, self.input_shape[0])
        if isinstance(asked, str) and "/" not in asked:
            _check_scale(self.name, self.train, asked)
        return replace(self._each(partial(_normalised, mean, std)), normalised=spelled(asked))

    def resized(self, shape: Shape) -> "DataSet":
        """Return the same data set with images of this size.

        Raises:
            DataError: it has other channels.
        """
        if self.input_shape == shape:
            return self
        change = partial(_resized, f"data set {self.name}", shape)
        return replace(self._each(change), original_shape=self.original_shape or self.input_shape)

    def _each(self, change: Callable[[Split], Split]) -> "DataSet":
        later = self.later_test
        test = replace(later, read=partial(_changed, self.name, later.read, change))
        return replace(self, train=change(self.train), validation=change(self.validation), read_test=test)


def _counted(labels: Tensor | None) -> str:
    return "not yet counted" if labels is None else str(len(labels))


def check_split(where: str, split: Any, classes: int) -> None:
    """Raise unless something is a split with labels of so many classes: what a user's function gives may be anything.

    Raises:
        DataError: says what it is.
    """
    if not isinstance(split, Split):
        raise DataError(f"{where}: must be a bnas.data.Split, but is a {type(split).__name__}")
    labels = split.labels
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise DataError(f"{where}: labels must be int64 [n], but are {labels.dtype} {list(labels.shape)}; convert them")
    if not len(labels):
        raise DataError(f"{where}: there are no images; look at where it is read from")
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}: label {int(labels[row])} of image {row} must be from 0 to {classes - 1} for {classes} classes; "
            "correct the labels"
        )


def _check_scale(name: str, train: Split, asked: str) -> None:
    """Raise where floating-point images do not go from 0 to 1, which `unit` and the other words are said of."""
    if isinstance(train.images, Tensor) and train.images.is_floating_point():
        low, high = (float(value) for value in train.images.aminmax())
        if low < 0 or high > 1:
            raise DataError(
                f"data set {name}: normalise {asked} is said of images from 0 to 1, but these go from {low:.3g} to "
                f"{high:.3g}; scale them, or give 0/1 to take them as they are"
            )


def _normalised(mean: tuple[float, ...], std: tuple[float, ...], split: Split) -> Split:
    return replace(split, mean=mean, std=std)


def _resized(where: str, shape: Shape, split: Split) -> Split:
    check_channels(where, split.image_shape, shape)
    images = split.images
    same = images.resized(shape[1:]) if isinstance(images, Stream) else resize(images, shape[1:])
    return replace(split, images=same)


def _changed(name: str, read: Callable[[], Split], change: Callable[[Split], Split]) -> Split:
    split = read_by_user(f"data set {name}: its test images", read)
    if not isinstance(split, Split):
        raise DataError(f"data set {name}: test: must be a bnas.data.Split, but is a {type(split).__name__}")
    return change(split)


def read_by_user(what: str, read: Callable[[], Any]) -> Any:
    """Return what a function gives that may be a user's own.

    Raises:
        DataError: it fails; says with what.
    """
    try:
        return read()
    except BnasError:
        raise
    except FAILURES as problem:
        raise DataError(f"{what}: the function failed: {reason(problem)}") from problem
