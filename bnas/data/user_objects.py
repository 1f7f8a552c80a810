"""An object of the user's -> what was found in it; whatever it is, it ends as that or in one line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bnas.data.arrays import of_arrays, of_dataset
from bnas.data.dataset import DataSet, check_split, read_by_user
from bnas.data.found import Found, Part
from bnas.data.prepare import Wanted, assemble
from bnas.data.resize import Shape
from bnas.data.transforms import Normalisation
from bnas.errors import DataError

FORMS = (
    "a DataSet, a torch Dataset of pairs (image, label) or two of them (train, test), arrays (images, labels) or "
    "(train_images, train_labels, test_images, test_labels), or a function that returns one of these"
)
# Names of the arrays of an .npz file or of a dictionary: those of the images, then of their labels.
KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels"), ("x", "y")),
    "validation": (
        ("validation_images", "validation_labels"), ("val_images", "val_labels"), ("x_validation", "y_validation"),
        ("x_val", "y_val"),
    ),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}  # fmt: skip
NAMES_KEY = "class_names"


def title_of(data: Any) -> str:
    """Return what a data set is called in settings and messages: a name or path itself, of an object what it is."""
    if isinstance(data, (str, Path)):
        return str(data)
    if isinstance(data, DataSet):
        return data.name
    if isinstance(data, (tuple, list, Mapping)):
        return "arrays"
    return str(getattr(data, "__name__", type(data).__name__))


def found_in(value: Any, name: str, size: Shape | None, *, verb: str = "is") -> Found | DataSet:
    """Return what an object holds.

    Args:
        value: one of `FORMS`, or a dictionary with the `KEYS`.
        name: what errors call it.
        size: channels, height and width to resize images of several sizes to; None wants one size.
        verb: what is said of it in errors.
    Raises:
        DataError: it is something else.
    """
    if isinstance(value, DataSet):
        return _checked(value)
    if isinstance(value, Mapping):
        return of_keys(value, name, size)
    if isinstance(value, tuple) and len(value) in (2, 4):
        return _of_tuple(value, name, size)
    if isinstance(value, DataLoader):
        raise DataError(f"data set {name!r}: a DataLoader has batches of its own; give what it loads, its .dataset")
    if _gives_items(value):
        return Found(name, {"train": of_dataset(name, value, size)})
    if callable(value) and verb == "is":
        return found_in(read_by_user(f"data set {name!r}", value), name, size, verb="returned")
    count = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    raise DataError(f"data set {name!r}: must be {FORMS}, but {verb} a {type(value).__name__}{count}")


def of_keys(arrays: Mapping[str, Any], name: str, size: Shape | None) -> Found:
    """Return the parts that arrays with names hold: those of `KEYS`, in small or capital letters, and `class_names`.

    Raises:
        DataError: there are no images and labels for training; says which names there are.
    """
    known = {str(key).lower(): key for key in arrays}
    found: dict[str, tuple[Any, Any]] = {}
    for role, pairs in KEYS.items():
        pair = next((pair for pair in pairs if set(pair) <= known.keys()), None)
        if pair:
            images, labels = (arrays[known[key]] for key in pair)
            found[role] = images, labels
    _check_kinds(name, {role: images for role, (images, _) in found.items()})
    parts: dict[str, Part] = {}
    for role, (images, labels) in found.items():
        parts[role] = of_arrays(f"{name}: {role}", images, labels, size or _shape(parts))
    if "train" not in parts:
        wanted = " or ".join(" and ".join(pair) for pair in KEYS["train"])
        raise DataError(f"data set {name!r}: needs arrays called {wanted}, but has {', '.join(known) or 'none'}")
    names = arrays[known[NAMES_KEY]] if NAMES_KEY in known else None
    return Found(name, parts, class_names=None if names is None else tuple(map(_text, names)))


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _check_kinds(name: str, images: Mapping[str, Any]) -> None:
    """Raise where the images of some splits are whole numbers, and those of others are not: they have other units."""
    types = {role: values.dtype for role, values in images.items() if hasattr(values, "dtype")}
    kinds = {role: str(dtype).removeprefix("torch.") for role, dtype in types.items()}
    own = kinds.pop("train", None)
    other = next((role for role, kind in kinds.items() if own and ("float" in kind) != ("float" in own)), None)
    if other:
        raise DataError(
            f"{name}: the training images are {own}, but the {other} images {kinds[other]}; give both as uint8, or "
            "both as floating point from 0 to 1"
        )


def read_npz(path: Path, size: Shape | None) -> Found:
    """Return what an .npz file of NumPy holds, as `of_keys` takes it; nothing in it is unpickled.

    Raises:
        DataError: it cannot be read, or has not these arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return of_keys({key: file[key] for key in file.files}, str(path), size)
    except DataError:
        raise
    except Exception as problem:  # a damaged file makes numpy and zlib raise whatever they ran into
        raise DataError(
            f"{path}: the .npz file cannot be read; write it again with numpy.savez, arrays of numbers or names in it "
            f"({type(problem).__name__}: {' '.join(str(problem).split())})"
        ) from problem


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
    normalisation: Normalisation | None = None,
) -> DataSet:
    """Return a data set of images that are in memory already.

    Args:
        train_images, test_images: numpy arrays or tensors [n, channels, height, width], or [n, height, width] for grey
            ones; uint8, or floating point in units of full scale. [n, height, width, channels] with 1, 3 or 4 channels
            is taken as such unless it could be either. A list of arrays or pictures may have several sizes, if
            input_shape is given. Without test images a fifth is held out.
        train_labels, test_labels: integers [n], from 0, or names, which are numbered in their order.
        class_names: None calls the classes by their numbers or names; else some may have no images.
        augmentation: names from `AUGMENTATIONS`; None takes small shifts.
        validation, seed, input_shape, limit, normalisation: as in `load_data`.
    Raises:
        DataError: other shapes or kinds than these, and as in `load_data`.
    """
    found = _of_tuple((train_images, train_labels, test_images, test_labels), name, input_shape)
    parts, names = found.parts, None if class_names is None else tuple(map(_text, class_names))
    whole = Found(name, parts, class_names=names, augmentation=augmentation)
    return assemble(name, whole, Wanted(validation, seed, input_shape, limit, normalisation))


def adapted(data: DataSet, wanted: Wanted) -> DataSet:
    """Return a data set as it was given, in the size, number, augmentation and normalisation that is asked for.

    It keeps its own validation split, and has `limit` training images beside it.
    """
    if wanted.input_shape is not None:
        data = data.resized(wanted.input_shape)
    if wanted.limit is not None:
        data = data.with_limit(wanted.limit, seed=wanted.seed)
    if wanted.augment is not None:
        data = data.with_augmentation(*wanted.augment)
    return data if wanted.normalisation is None else data.with_normalisation(wanted.normalisation)


def _of_tuple(values: Sequence[Any], name: str, size: Shape | None) -> Found:
    """Return what (images, labels), the four arrays, the last two perhaps None, or two Datasets hold."""
    if len(values) == 2 and all(map(_gives_items, values)):
        train = of_dataset(f"{name}: train", values[0], size)
        return Found(name, {"train": train, "test": of_dataset(f"{name}: test", values[1], size or train.shape)})
    _check_kinds(name, dict(zip(("train", "test"), values[::2], strict=False)))
    train = of_arrays(f"{name}: train", values[0], values[1], size)
    parts = {"train": train}
    if len(values) == 4 and values[2] is not None:
        parts["test"] = of_arrays(f"{name}: test", values[2], values[3], size or train.shape)
    return Found(name, parts)


def _gives_items(value: Any) -> bool:
    """Whether something gives pairs one by one: a Dataset, or what looks like one, and is neither array nor list."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, tuple) and len(item) == 2 for item in value)
    is_array = isinstance(value, (Tensor, np.ndarray, str, bytes, tuple, range, type)) or hasattr(value, "to_numpy")
    has_items = hasattr(type(value), "__getitem__") and hasattr(type(value), "__len__")
    return isinstance(value, Dataset) or (has_items and not is_array)


def _shape(parts: Mapping[str, Part]) -> Shape | None:
    return parts["train"].shape if "train" in parts else None


def _checked(data: DataSet) -> DataSet:
    """Return a DataSet that a user made, if it is whole.

    Raises:
        DataError: says what is not.
    """
    where = f"data set {data.name}"
    names = data.class_names
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names) or len(names) < 2:
        raise DataError(f"{where}: class_names must be two names or more, but are {names!r}; name all classes")
    for role in ("train", "validation"):
        check_split(f"{where}: {role}", getattr(data, role), len(names))
    if data.train.image_shape != data.validation.image_shape:
        raise DataError(
            f"{where}: the validation images are {data.validation.image_shape}, but the training images "
            f"{data.train.image_shape}; make them alike"
        )
    if not callable(data.read_test):
        raise DataError(f"{where}: read_test must be a function that returns the test split, as lambda: split")
    return data
