"""The name of a data set -> the data set."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnas.data.dataset import DataSet, Raw, assemble, from_arrays
from bnas.data.known import cifar10, digits, mnist
from bnas.data.resize import Shape, text
from bnas.data.sources import hub, image_folder, parquet, parquet_files
from bnas.errors import BnasError, DataError
from bnas.lookup import FAILURES, load_reference, reason
from bnas.spec import shown

DATA_SETS: dict[str, Callable[[Shape | None], Raw]] = {"cifar10": cifar10, "digits": digits, "mnist": mnist}

SEEDS = 2**32  # as many as every random generator takes


def load_data(
    name: str,
    *,
    validation: float = 0.1,
    seed: int = 0,
    input_shape: tuple[int, int, int] | None = None,
    limit: int | None = None,
) -> DataSet:
    """Return a data set by name.

    Args:
        name: `digits`, `mnist` or `cifar10`; the path of an image folder (one sub-folder a class, or such folders in
            train/ and test/), of a Parquet file, or of a folder with train*.parquet and test*.parquet; a hub name
            owner/name; or `pkg.mod:attr` or `file.py:attr`, a function that returns a DataSet, or (train_images,
            train_labels, test_images, test_labels) as `from_arrays` takes them. A split called validation serves as
            the test split of a set that has none; a set with neither gives a fifth of its images, the same for
            every seed.
        validation: the part of the training images held out of them, every class in its proportion.
        seed: what draws the validation images.
        input_shape: channels, height, width to resize to: mean pooling where the sides divide, else bilinear.
        limit: how many training images to use at most, before validation is held out; the test split stays whole.
            A DataSet made by a function keeps its own validation split, and has `limit` training images beside it.
    Raises:
        DataError: the name is not known, or its images cannot be read or do not have what was asked for.
    """
    if not 0 < validation < 1:
        raise DataError(f"validation must be between 0 and 1, but got {validation}; 0.1 holds out every tenth image")
    if input_shape is not None and (len(input_shape) != 3 or min(input_shape) < 1):
        raise DataError(f"input_shape must be channels, height and width of at least 1, but got {tuple(input_shape)}")
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1, but got {limit}")
    if not 0 <= seed < SEEDS:
        raise DataError(f"seed must be from 0 to {SEEDS - 1}, but got {shown(seed)}")
    path = Path(name).expanduser()
    if name in DATA_SETS:
        raw = DATA_SETS[name](input_shape)
    elif path.exists():
        raw = _from_path(path, input_shape)
    elif ":" in name:
        return _from_reference(name, validation=validation, seed=seed, input_shape=input_shape, limit=limit)
    elif name.count("/") == 1 and name[0] not in "./~" and not name.endswith((".parquet", "/")):
        raw = hub(name, input_shape)
    else:
        raise DataError(_unknown(name))
    return assemble(name, raw, validation=validation, seed=seed, input_shape=input_shape, limit=limit)


def _from_path(path: Path, input_shape: Shape | None) -> Raw:
    if path.is_dir():
        return parquet(path, input_shape) if parquet_files(path, "") else image_folder(path, input_shape)
    if path.suffix == ".parquet":
        return parquet(path, input_shape)
    advice = f"; for a Python file name the function too, as in {path}:data" if path.suffix == ".py" else ""
    raise DataError(f"data set {path}: a file must be Parquet and end in .parquet{advice}")


def _from_reference(
    name: str, *, validation: float, seed: int, input_shape: Shape | None, limit: int | None
) -> DataSet:
    function = load_reference(name, what="data set")
    if not callable(function):
        raise DataError(f"data set {name!r} must be a function, but is a {type(function).__name__}")
    try:
        made: Any = function()
    except BnasError:
        raise
    except FAILURES as problem:
        raise DataError(f"data set {name!r}: the function failed: {reason(problem)}") from problem
    if isinstance(made, tuple) and len(made) == 4:
        return from_arrays(name, *made, validation=validation, seed=seed, input_shape=input_shape, limit=limit)
    if not isinstance(made, DataSet):
        raise DataError(
            f"data set {name!r} must return a DataSet or (train_images, train_labels, test_images, test_labels), "
            f"but returned a {type(made).__name__}{f' of {len(made)}' if isinstance(made, tuple) else ''}"
        )
    if input_shape is not None and made.input_shape != tuple(input_shape):
        raise DataError(
            f"data set {name!r} has images {text(made.input_shape)}, but {text(input_shape)} was asked for; "
            "resize them in the function, or return arrays"
        )
    return made if limit is None else made.with_limit(limit, seed=seed)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, DATA_SETS, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return (
        f"data set {name!r} is not known, and no such path is here; {guess}choose from {', '.join(DATA_SETS)}, or give "
        "the path of an image folder or Parquet files, a hub name owner/name, pkg.mod:attr or file.py:attr"
    )
