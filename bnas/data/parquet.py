"""Parquet files -> the splits that they hold, read from the disk as it is now, their labels joined by class name.

What the `datasets` library caches by path and time stamp is not asked for: a file that was replaced is another file.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bnas.data import stream
from bnas.data.arrow_table import ArrowCells, image_column, kinds_of, label_column, labels_of
from bnas.data.decode import ReadCells, part_of_cells
from bnas.data.fingerprint import of_files
from bnas.data.found import Found, Part
from bnas.data.hub import unpacked
from bnas.data.labels import Labels
from bnas.data.roles import role_of_file, role_of_folder
from bnas.data.tree import look_into
from bnas.errors import DataError

_DEEPEST = 3  # folders between the one that is given and a file: data/, or CONFIG/SPLIT/ as the hub converts them


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder and not far below it, sorted; none of them is a FIFO or hidden."""
    found = [path for depth in range(_DEEPEST) for path in folder.glob("*/" * depth + "*.parquet")]
    shown = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return sorted(path for path in shown if path.is_file())


def holds_parquet(folder: Path) -> bool:
    """Whether a folder holds Parquet files to train on, or nothing but such."""
    files = parquet_files(folder)
    return bool(files) and ("train" in _by_split(folder) or not look_into(folder).has_images())


def parquet(path: Path) -> Found:
    """Read a Parquet file, or a folder of files called like splits, or in folders called like splits.

    A file `train*.parquet`, in any case, or any file in `train/`, is for training, and so for validation and test.

    Raises:
        DataError: there is no training file, or a file is damaged.
    """
    files = {"train": [path]} if path.is_file() else _by_split(path)
    if "train" not in files:
        names = ", ".join(str(file.relative_to(path)) for same in files.values() for file in same[:3])
        raise DataError(
            f"{path}: a folder of Parquet files needs one called train*.parquet, but has {names}; rename it, or give "
            "the file"
        )
    unnamed = files.pop("", [])
    parts = {role: _part(same, role) for role, same in files.items()}
    notes = (f"{len(unnamed)} Parquet files that are not called like a split are passed over",) if unnamed else ()
    return Found(source=str(path), parts=parts, notes=notes)


def _by_split(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each split; those that belong to none under an empty name."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in parquet_files(folder):
        above = [role_of_folder(part) for part in reversed(file.relative_to(folder).parts[:-1])]
        found[role_of_file(file.stem) or next(filter(None, above), "")].append(file)
    return found


def _part(files: Sequence[Path], role: str) -> Part:
    """Return one split: the rows of its files, in the order of their names."""
    where = str(files[0])
    tables = [_labels(file, role) for file in files]
    labels = Labels.joined([found for found, _ in tables], where=where)
    if not len(labels):
        raise DataError(f"{where}: the table has no rows; look at where it is read from")
    columns = {column for _, column in tables if column}
    if len(columns) > 1:
        raise DataError(
            f"{files[0].parent}: the images are in the column {' or '.join(sorted(columns))} of the files of one "
            "split; call it image in all"
        )
    return part_of_cells(where, _cells(files, columns.pop()), labels, partial(of_files, files))


def _labels(file: Path, role: str) -> tuple[Labels, str]:
    """Return the labels of a file, and the name of its column of images; a file without rows has neither."""
    with _readable(file), pq.ParquetFile(file) as opened:
        if not opened.metadata.num_rows:
            return Labels.of([], where=str(file)), ""
        schema = opened.schema_arrow
        images, column = image_column(schema, str(file)), label_column(schema, str(file), role=role)
        if column is None:
            return Labels.of([None] * opened.metadata.num_rows, where=str(file)), images
        values = opened.read(columns=[column]).column(column)
        return labels_of(values, kinds_of(schema).get(column, {}), str(file)), images


def _cells(files: Sequence[Path], column: str) -> ReadCells:
    """Return the images as they are encoded: in memory, unless they are too many."""
    if sum(file.stat().st_size for file in files) > stream.IN_MEMORY_BYTES:
        return unpacked(files, column)
    chunks = list[pa.Array]()
    for file in files:
        with _readable(file), pq.ParquetFile(file) as opened:
            if not opened.metadata.num_rows:
                continue
            chunks += opened.read(columns=[column]).column(column).chunks
    return ArrowCells(tuple(chunks), files[0].parent)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as problem:  # a damaged file makes pyarrow raise whatever it ran into
        first = (str(problem).strip().splitlines() or [""])[0]
        raise DataError(
            f"{file}: the Parquet file cannot be read; write or fetch it again ({type(problem).__name__}: {first})"
        ) from problem
