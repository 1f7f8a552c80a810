"""An image folder, Parquet files or a hub name -> labelled images, through the `datasets` library."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bnas.data.dataset import Labelled, Raw
from bnas.data.decode import labelled
from bnas.data.resize import Shape, shape_of
from bnas.errors import DataError

TEST_NAMES = ("test", "validation", "valid", "val")  # what holds the test images, the first there is
IMAGE_ENDINGS = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
Table = Any  # a datasets.Dataset, which has no types


def image_folder(folder: Path, input_shape: Shape | None) -> Raw:
    """Read a folder with one sub-folder of images a class, or such folders in train/ and test/.

    Raises:
        DataError: there are no class folders, or one has no images.
    """
    train = folder / "train" if (folder / "train").is_dir() else folder
    tests = [folder / name for name in TEST_NAMES if train != folder and (folder / name).is_dir()]
    names = _class_folders(train)
    read_test = partial(_folder_table, tests[0], _class_folders(tests[0])) if tests else None
    return _raw(str(folder), lambda: _folder_table(train, names), read_test, input_shape)


def parquet(path: Path, input_shape: Shape | None) -> Raw:
    """Read a Parquet file, or a folder with train*.parquet and perhaps test*.parquet (in data/, as on the hub, too).

    Raises:
        DataError: there is no training file, or a file is damaged.
    """
    if path.is_file():
        return _raw(str(path), lambda: _parquet_table([path]), None, input_shape)
    train = parquet_files(path, "train")
    if not train:
        raise DataError(
            f"{path}: a folder of Parquet files needs one called train*.parquet; rename it, or give the file"
        )
    tests = next((files for name in TEST_NAMES if (files := parquet_files(path, name))), None)
    read_test = partial(_parquet_table, tests) if tests else None
    return _raw(str(path), lambda: _parquet_table(train), read_test, input_shape)


def hub(name: str, input_shape: Shape | None) -> Raw:
    """Read a data set of the Hugging Face hub, called owner/name.

    Raises:
        DataError: the hub has no such set, cannot be reached, or the set has no train split.
    """
    import datasets

    advice = (
        f"data set {name!r} cannot be had from the Hugging Face hub, and no such path is here; check the name, or "
        "where there is no network give the path of an image folder or of Parquet files instead"
    )
    with _one_line(advice):
        splits = datasets.get_dataset_split_names(name)
    if "train" not in splits:
        raise DataError(
            f"data set {name!r} needs a split called train, but has {', '.join(splits)}; save it as Parquet"
        )
    test = next((split for split in TEST_NAMES if split in splits), None)

    def read(split: str) -> Table:
        with _one_line(advice):
            return datasets.load_dataset(name, split=split)

    return _raw(name, lambda: read("train"), None if test is None else partial(read, test), input_shape)


def parquet_files(folder: Path, part: str) -> list[Path]:
    """Return the files of one part of a data set, sorted: `train.parquet`, `data/train-00000-of-00002.parquet`."""
    return sorted([*folder.glob(f"{part}*.parquet"), *(folder / "data").glob(f"{part}*.parquet")])


def _raw(
    where: str, read_train: Callable[[], Table], read_test: Callable[[], Table] | None, input_shape: Shape | None
) -> Raw:
    images, labels, names = labelled(read_train(), where=where, input_shape=input_shape)
    shape = shape_of(images.shape)

    def test() -> Labelled:
        assert read_test is not None
        return labelled(read_test(), where=f"{where}: test", input_shape=shape, class_names=names)[:2]

    return Raw(class_names=names, train=(images, labels), read_test=test if read_test else None)


def _class_folders(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            found[child.name] = [str(file) for file in sorted(child.rglob("*")) if file.suffix.lower() in IMAGE_ENDINGS]
            if not found[child.name]:
                raise DataError(
                    f"{child}: a class folder must hold images, but has none; add some or remove the folder"
                )
    if not found:
        raise DataError(
            f"{folder} holds neither class folders of images nor train*.parquet; "
            "an image folder has one sub-folder a class, or such folders in train/ and test/"
        )
    return found


def _folder_table(folder: Path, files: dict[str, list[str]]) -> Table:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(files))})
    paths = [path for names in files.values() for path in names]
    labels = [label for label, names in enumerate(files.values()) for _ in names]
    with _one_line(f"{folder}: the list of images cannot be made"):
        return datasets.Dataset.from_dict({"image": paths, "label": labels}, features=features)


def _parquet_table(files: list[Path]) -> Table:
    import datasets

    with _one_line(f"{files[0]}: the Parquet file cannot be read; write or fetch it again"):
        return datasets.Dataset.from_parquet([str(file) for file in files])


@contextmanager
def _one_line(advice: str) -> Iterator[None]:
    """Turn whatever the library raises into one line, and keep its progress bars off the screen."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    except Exception as problem:
        cause = problem.__cause__ or problem
        first = (str(cause).strip().splitlines() or [""])[0]
        raise DataError(f"{advice} ({type(cause).__name__}: {first})") from problem
    finally:
        if shown:
            datasets.enable_progress_bars()
