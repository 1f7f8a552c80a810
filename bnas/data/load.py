"""A name, a path or an object of the user's -> a data set."""

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bnas.data.dataset import DataSet
from bnas.data.found import Found
from bnas.data.held_out import serving, training_labels
from bnas.data.hub import hub
from bnas.data.image_folder import image_folder
from bnas.data.known import cifar10, digits, mnist, sketches
from bnas.data.listed import ENDINGS, listed_by
from bnas.data.parquet import holds_parquet, parquet
from bnas.data.prepare import Wanted, assemble, divide
from bnas.data.resize import MixedSizes, Shape, shape_of
from bnas.data.transforms import Normalisation, augmentations
from bnas.data.user_objects import adapted, found_in, read_npz, title_of
from bnas.errors import DataError
from bnas.lookup import load_reference
from bnas.spec import shown

DATA_SETS: dict[str, Callable[[], Found]] = {
    "cifar10": cifar10, "digits": digits, "mnist": mnist, "sketches": sketches
}  # fmt: skip
SEEDS = 2**32  # as many as every random generator takes


def load_data(
    data: Any,
    *,
    validation: float = 0.1,
    seed: int = 0,
    input_shape: tuple[int, int, int] | None = None,
    limit: int | None = None,
    normalisation: Normalisation | None = None,
    augment: str | Sequence[str] | None = None,
) -> DataSet:
    """Return a data set by its name, from a path, or from an object that holds the images.

    Args:
        data: one of

            - `digits`, `mnist`, `cifar10` or `sketches`; with a number, as in `sketches:50`, the first classes alone,
              in the order of their names;
            - the path of an image folder: one sub-folder a class, or such folders in folders called like splits
              (train, Training, val, valid, dev, test, eval, ...), or images and a CSV of file names and labels;
            - the path of a Parquet file, of a folder of them called like splits, of a CSV file, or of an .npz file with
              arrays `x_train, y_train` or `images, labels`, and `x_test, y_test` where it has a test split
              (`bnas.data.user_objects.KEYS` has all names);
            - a hub name owner/name;
            - a `DataSet`; a torch `Dataset` of the map style that gives pairs (image, label), or two of them (train,
              test); arrays or tensors (images, labels) or (train_images, train_labels, test_images, test_labels), as
              `from_arrays` takes them;
            - `pkg.mod:attr` or `file.py:attr`, one of these objects, or a function that returns one.

            A split called validation serves as such where there is a test split too, and else as the test split. A set
            with neither gives a fifth of its images as test split, the same for every seed.
        validation: the part of the training images held out of them, every class in its proportion, where there is no
            such split.
        seed: what draws the validation images.
        input_shape: channels, height, width to resize to: mean pooling where the sides divide, else bilinear.
        limit: how many training images to use at most, before validation is held out; the test split stays whole.
            A DataSet keeps its own validation split, and has `limit` training images beside it.
        normalisation: how a model wants its images: `imagenet`, `unit` (0 to 1), `bytes` (0 to 255), or mean and std as
            text or numbers; None takes mean and deviation of the training images.
        augment: what training images go through, in this order: names of `bnas.data.transforms.AUGMENTATIONS` (`flip`,
            `crop`, `shift`, `affine`, `cutout`, ...), as text with commas or one by one; `none`; None takes what suits
            a known set, and small shifts for any other.
    Raises:
        DataError: the name is not known, its images cannot be read, do not have what was asked for, or are of one class
            only; or its test labels are none of the training classes.
    """
    wanted = _wanted(validation, seed, input_shape, limit, normalisation, augment)
    is_named, name = isinstance(data, (str, Path)), title_of(data)
    found = _read(name, wanted.input_shape) if is_named else found_in(data, name, wanted.input_shape)
    whole = adapted(found, wanted) if isinstance(found, DataSet) else assemble(name, found, wanted)
    if is_named:
        whole = replace(whole, source=whole.source or name)
        object.__setattr__(whole, "found_as", name)  # it is our own, and nobody has seen it yet
    return whole


class Glance(NamedTuple):
    """What is known of images before they are decoded.

    Attributes:
        shapes: channels, height and width of training images: of some dozens of files, or of all that are in memory.
        class_names: in the order of their labels.
        training: images to train on, with those that are held out of them for validation.
        has_validation: whether there is a split of that kind beside them.
        augmentation: what suits training images; None where that is not known.
    """

    shapes: tuple[Shape, ...]
    class_names: tuple[str, ...]
    training: int
    has_validation: bool
    augmentation: tuple[str, ...] | None


def glance_at(data: Any) -> Glance:
    """Return what is known of a data set before its images are decoded; what is in memory is looked at whole.

    Args:
        data: as `load_data` takes it.
    Raises:
        DataError: as `load_data` does.
    """
    name = title_of(data)
    read = partial(_read, name) if isinstance(data, (str, Path)) else partial(found_in, data, name)
    try:
        found = read(None)
    except MixedSizes as problem:  # those in memory are resized as they are read
        found = read(problem.first)
    if isinstance(found, DataSet):
        shape = found.original_shape or found.input_shape
        return Glance((shape,), found.class_names, len(found.train), True, found.augmentation)
    found = found.aligned(name)
    class_names, labels = training_labels(name, found)
    own, _ = serving(found, class_names)
    rows = divide(labels, class_names, name=name, own=own, wanted=Wanted())
    train = found.parts["train"]
    count = len(rows.train) + len(rows.validation)
    return Glance(train.sizes or (train.shape,), class_names, count, "validation" in own, found.augmentation)


def _wanted(
    validation: float,
    seed: int,
    input_shape: Shape | None,
    limit: int | None,
    normalisation: Normalisation | None,
    augment: str | Sequence[str] | None,
) -> Wanted:
    if not 0 < validation < 1:
        raise DataError(f"validation must be between 0 and 1, but got {validation}; 0.1 holds out every tenth image")
    if input_shape is not None and (len(input_shape) != 3 or min(input_shape) < 1):
        raise DataError(f"input_shape must be channels, height and width of at least 1, but got {tuple(input_shape)}")
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1, but got {limit}")
    if not 0 <= seed < SEEDS:
        raise DataError(f"seed must be from 0 to {SEEDS - 1}, but got {shown(seed)}")
    shape, changes = shape_of(input_shape) if input_shape else None, None if augment is None else augmentations(augment)
    return Wanted(validation, seed, shape, limit, normalisation, changes)


def _read(name: str, size: Shape | None) -> Found | DataSet:
    """Return what a name or a path stands for."""
    known, _, count = name.partition(":")
    if known in DATA_SETS and (not count or count.isdecimal()):
        found = DATA_SETS[known]()
        return found.first_classes(int(count), name=known) if count else found
    path = Path(os.path.expanduser(name))
    if name and os.path.exists(path):
        return _from_path(path, size)
    if ":" in name:
        return found_in(load_reference(name, what="data set"), name, size)
    if name.count("/") == 1 and name[0] not in "./~" and not name.endswith((".parquet", "/")):
        return hub(name)
    raise DataError(_unknown(name))


def _from_path(path: Path, size: Shape | None) -> Found:
    if path.is_dir():
        return parquet(path) if holds_parquet(path) else image_folder(path)
    readers: dict[str, Callable[[Path], Found]] = {".parquet": parquet, **dict.fromkeys(ENDINGS, listed_by)}
    ending = path.suffix.lower()
    if path.is_file() and ending == ".npz":
        return read_npz(path, size)
    if path.is_file() and ending in readers:
        return readers[ending](path)
    advice = f"; for a Python file name the function too, as in {path}:data" if path.suffix == ".py" else ""
    raise DataError(
        f"data set {path}: a file must be Parquet and end in .parquet, or a CSV or .npz file with these endings{advice}"
    )


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, DATA_SETS, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return (
        f"data set {shown(name)} is not known, and no such path is here; {guess}choose from {', '.join(DATA_SETS)}, or "
        "give the path of an image folder, of Parquet, CSV or .npz files, a hub name owner/name, pkg.mod:attr or "
        "file.py:attr"
    )
