"""A hub name, or Parquet files too large for memory -> tables of the `datasets` library, and what they hold."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bnas.data.arrow_table import ArrowCells, image_column, kinds_of, label_column, labels_of
from bnas.data.decode import Cell, part_of_cells
from bnas.data.fingerprint import of_files
from bnas.data.found import Found, Part
from bnas.data.labels import Labels
from bnas.data.roles import chosen_split
from bnas.errors import DataError

Table = Any  # a datasets.Dataset, which has no types
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, eq=False)
class TableCells:
    """Cells of a table that lies on a disk, mapped into memory."""

    table: Table
    column: str

    def __call__(self, rows: Sequence[int]) -> list[Cell]:
        place = ArrowCells((), Path()).placed
        return [place(value) for value in self.table[list(rows)][self.column]]


def hub(name: str) -> Found:
    """Read a data set of the Hugging Face hub, called owner/name.

    Raises:
        DataError: the hub has no such set, cannot be reached, the set has no train split, or the cache of the library
            cannot be written.
    """
    import datasets

    advice = (
        f"data set {name!r} cannot be had from the Hugging Face hub, and no such path is here; check the name, or "
        "where there is no network give the path of an image folder or of Parquet files instead"
    )
    with _one_line(advice):
        splits = datasets.get_dataset_split_names(name)
    chosen = chosen_split(splits)
    if "train" not in chosen:
        raise DataError(
            f"data set {name!r} needs a split called train, but has {', '.join(splits)}; save it as Parquet"
        )
    parts = {}
    for role, split in chosen.items():
        with _one_line(advice):
            table = datasets.load_dataset(name, split=split)
        parts[role] = of_table(table, f"{name}: {split}", role=role)
    rest = [split for split in splits if split not in chosen.values()]
    notes = (f"the splits {', '.join(rest)} are passed over",) if rest else ()
    return Found(source=f"{name}, of the Hugging Face hub", parts=parts, notes=notes)


def of_table(table: Table, where: str, *, role: str = "train") -> Part:
    """Return what a table of the `datasets` library holds; without labels where it has none, and is not for training.

    Raises:
        DataError: it has no column of images, or of labels where it is for training.
    """
    if not len(table):
        raise DataError(f"{where}: the table has no rows; look at where it is read from")
    schema = table.features.arrow_schema
    images = image_column(schema, where)
    labels = _labels(table, where, role)
    files = [Path(file["filename"]) for file in table.cache_files]
    return part_of_cells(where, cells_of(table, images), labels, partial(of_files, files))


def _labels(table: Table, where: str, role: str) -> Labels:
    schema = table.features.arrow_schema
    column = label_column(schema, where, role=role)
    if column is None:
        return Labels.of([None] * len(table), where=where)
    values = table.select_columns([column]).with_format("arrow")[:][column]
    return labels_of(values, kinds_of(schema).get(column, {}), where)


def cells_of(table: Table, column: str) -> TableCells:
    """Return the cells of a column of images, not decoded."""
    import datasets

    alone = table.select_columns([column])
    if isinstance(table.features[column], datasets.Image):
        alone = alone.cast_column(column, datasets.Image(decode=False))
    return TableCells(alone, column)


def unpacked(files: Sequence[Path], column: str) -> TableCells:
    """Return the images of Parquet files that are too large for memory, unpacked once to where they can be mapped.

    The copy lies in the cache of the library, in a folder named for the content of the files, so that another file of
    the same name has another.

    Raises:
        DataError: a file cannot be read, or the cache not written.
    """
    import datasets

    place = Path(datasets.config.HF_DATASETS_CACHE) / "bnas" / of_files(files)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise _not_written(problem) from problem
    with _one_line(f"{files[0]}: the Parquet file cannot be read; write or fetch it again"):
        table = datasets.Dataset.from_parquet([str(file) for file in files], columns=[column], cache_dir=str(place))
    return cells_of(table, column)


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
        for each in (problem, cause):
            if isinstance(each, OSError) and each.errno in _CANNOT_WRITE:
                raise _not_written(each) from problem
        raise DataError(f"{advice} ({type(cause).__name__}: {first})") from problem
    finally:
        if shown:
            datasets.enable_progress_bars()


def _not_written(problem: OSError) -> DataError:
    return DataError(
        "the cache of the datasets library cannot be written; set HF_HOME to a folder that can, with room for the "
        f"images ({type(problem).__name__}: {problem.strerror})"
    )
