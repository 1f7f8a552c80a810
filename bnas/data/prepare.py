"""What a reader found -> a data set: classes numbered alike in all parts, validation and test held out if need be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bnas.data.dataset import DataSet, Later
from bnas.data.fingerprint import of_split
from bnas.data.found import Found, Part
from bnas.data.held_out import Serving, serving, training_labels
from bnas.data.resize import Shape, check_channels, mixed_sizes, moments, shape_of, text
from bnas.data.split import Split
from bnas.data.stratified import TEST_PART, TEST_SEED, stratified
from bnas.data.stream import Images, Stream, pick
from bnas.data.transforms import Normalisation
from bnas.errors import DataError

_DECODED_AT_ONCE = 256
_STREAM_SAMPLE = 2_000  # images that stand for all when the moments of a stream are measured


@dataclass(frozen=True)
class Wanted:
    """What is asked of a data set, whatever it is.

    Args:
        validation: the part of the training images that is held out, between 0 and 1, where there is no such split.
        seed: what draws the validation images.
        input_shape: channels, height, width; None keeps the size.
        limit: how many training images to use at most, before validation is held out of them.
        normalisation: how a model wants its images; None takes mean and deviation of the training images.
        augment: what training images go through; None leaves it to the data set, which takes small shifts where its
            images are a user's own: they harm least, where a flip turns arrows and letters into others.
    """

    validation: float = 0.1
    seed: int = 0
    input_shape: Shape | None = None
    limit: int | None = None
    normalisation: Normalisation | None = None
    augment: tuple[str, ...] | None = None


def assemble(name: str, found: Found, wanted: Wanted) -> DataSet:
    """Return the data set; the images of the test split are not read yet, its labels are looked at.

    Raises:
        DataError: labels outside range, fewer than two classes, too few images of one, other channels than were asked
            for, or a test split with labels that training does not know and no validation split to take its place.
    """
    found = found.aligned(name)
    class_names, labels = training_labels(name, found)
    own, notes = serving(found, class_names)
    rows = divide(labels, class_names, name=name, own=own, wanted=wanted)
    source = found.parts["train"]
    images = _training_images(name, source, wanted.input_shape)
    for split in own.values():
        _check_joins(split.part, shape_of(images.shape), is_resized=wanted.input_shape is not None)
    train = _held(pick(images, rows.train))
    sample = _sample(train)
    mean, std = moments(sample)
    make, shape = partial(Split, mean=mean, std=std), shape_of(train.shape)
    data = DataSet(
        name=name,
        class_names=class_names,
        train=make(train, labels[rows.train], augmentation=_augmentation(found, wanted)),
        validation=_validation(own.get("validation"), images, labels, rows, make, wanted),
        read_test=_test(own.get("test"), images, labels, rows.test, shape, make),
        source=found.source,
        original_shape=source.shape if shape != source.shape else None,
        notes=(
            *found.notes,
            *notes,
            *(["images of several sizes are resized"] if source.is_mixed else []),
            *_flat(sample),
        ),
    )
    return data if wanted.normalisation is None else data.with_normalisation(wanted.normalisation)


def _flat(images: Tensor) -> Iterator[str]:
    """Yield a remark where channels of training images [n, channels, height, width] tell nothing."""
    flat = images.amax((0, 2, 3)) == images.amin((0, 2, 3))
    if flat.all():
        yield "ALL PIXELS ARE THE SAME (what lies in the transparency of pictures is dropped: put it on a background)"
    elif flat.any():
        yield f"channel {', '.join(str(place) for place in flat.nonzero().flatten().tolist())} is the same everywhere"


@dataclass(frozen=True)
class Rows:
    """Places among the images that were found for training; none are held out for a part that is there already."""

    train: Tensor
    validation: Tensor
    test: Tensor


def divide(labels: Tensor, class_names: tuple[str, ...], *, name: str, own: dict[str, Serving], wanted: Wanted) -> Rows:
    """Return which images serve for what: a pure function of labels, share, limit and seed."""
    hold_out = partial(stratified, names=class_names)
    rows = torch.arange(len(labels))
    none = rows[:0]
    test = validation = none
    if "test" not in own:
        test, rows = hold_out(labels, TEST_PART, seed=TEST_SEED, what=f"{name}: test split")
    if wanted.limit is not None and wanted.limit < len(rows):
        kept, _ = hold_out(labels[rows], wanted.limit, seed=wanted.seed, what=f"{name}: limit", leave=0)
        rows = rows[kept]
    if "validation" not in own:
        held, rest = hold_out(labels[rows], wanted.validation, seed=wanted.seed, what=f"{name}: validation")
        rows, validation = rows[rest], rows[held]
    return Rows(rows.sort().values, validation, test.sort().values)


def _training_images(name: str, train: Part, size: Shape | None) -> Images:
    if size is not None:
        check_channels(f"data set {name}", train.shape, size)
    images = train.read(size)
    if len(images) != len(train.labels):
        raise DataError(f"{name}: there are {len(images)} images but {len(train.labels)} labels; give one label each")
    return images


def _check_joins(part: Part, shape: Shape, *, is_resized: bool) -> None:
    """Raise where the images of a split have other channels than the training images, or unasked another size.

    Grey ones join colour ones. Of many images some are looked at.
    """
    for own in () if is_resized else part.sizes or (part.shape,):
        if own[1:] != shape[1:]:
            raise mixed_sizes(f"{part.where}: an image", own, shape)
    if part.shape[0] != shape[0] and (part.shape[0], shape[0]) != (1, 3):
        raise DataError(
            f"{part.where}: the images are {text(part.shape)}, but the training images {text(shape)}; the channels "
            "must agree: convert them"
        )


def _validation(
    own: Serving | None, images: Images, labels: Tensor, rows: Rows, make: Callable[..., Split], wanted: Wanted
) -> Split:
    """Return the validation split: that which is there, or the images that were held out."""
    if own is not None:
        return make(_held(own.part.read(shape_of(images.shape))), own.labels, origin=own.origin)
    held = rows.validation
    share = len(held) / (len(rows.train) + len(held))
    said = f"{100 * share:.3g} % of the training images, drawn with seed {wanted.seed}"
    return make(_held(pick(images, held)), labels[held], origin=said)


def _test(
    own: Serving | None, images: Images, labels: Tensor, rows: Tensor, shape: Shape, make: Callable[..., Split]
) -> Later:
    """Return what reads the test split: that which is there, or the images that were held out."""
    if own is None:
        numbers, read = labels[rows], partial(pick, images, rows)
        origin, identity = "a fifth of the images, held out", partial(_identity, read, numbers)
        return Later(partial(_read, read, numbers, make), numbers, origin, identity, partial(_decode, read))
    of_size = partial(own.part.read, shape)
    numbers, own_identity = own.labels, own.part.identity
    return Later(partial(_read, of_size, numbers, make), numbers, own.origin, own_identity, partial(_decode, of_size))


def _decode(read: Callable[[], Images]) -> None:
    """Decode images that are not in memory, and keep none."""
    images = read()
    for _ in images.batches(torch.arange(len(images)), _DECODED_AT_ONCE) if isinstance(images, Stream) else ():
        pass


def _identity(read: Callable[[], Images], labels: Tensor) -> str:
    return of_split(read(), labels)


def _read(read: Callable[[], Images], labels: Tensor, make: Callable[..., Split]) -> Split:
    return make(_held(read()), labels)


def _augmentation(found: Found, wanted: Wanted) -> tuple[str, ...]:
    own = ("shift",) if found.augmentation is None else found.augmentation
    return own if wanted.augment is None else wanted.augment


def _held(images: Images) -> Images:
    return images.in_memory() if isinstance(images, Stream) else images


def _sample(images: Images) -> Tensor:
    if isinstance(images, Tensor):
        return images
    order = np.random.default_rng(0).permutation(len(images))[:_STREAM_SAMPLE]
    return torch.cat(list(images.batches(torch.from_numpy(np.sort(order)), 64)))
