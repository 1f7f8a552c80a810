"""The schema and columns of an Arrow table -> the labels by class name, and the cells of its images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bnas.data.decode import Cell
from bnas.data.labels import Labels
from bnas.errors import DataError

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")
Kinds = dict[str, dict[str, Any]]  # what the `datasets` library noted of each column


def kinds_of(schema: pa.Schema) -> Kinds:
    """Return what the `datasets` library noted of the columns, nothing where another program wrote the table."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return {name: kind for name, kind in noted["info"]["features"].items() if isinstance(kind, dict)}
    except (ValueError, KeyError, AttributeError, TypeError):
        return {}


def image_column(schema: pa.Schema, where: str) -> str:
    """Return the name of the column of images.

    Raises:
        DataError: there is none, or it holds no encoded images; says which columns there are.
    """
    kinds = kinds_of(schema)
    found = [name for name in schema.names if kinds.get(name, {}).get("_type") == "Image"]
    # A table that was not written by `datasets` has plain bytes, alone or in a struct.
    found = found or [name for name in _IMAGE_COLUMNS if name in schema.names]
    best = [name for name in _IMAGE_COLUMNS if name in found] or found
    if not best or (len(best) > 1 and best[0] not in _IMAGE_COLUMNS):
        raise DataError(
            f"{where}: one column must hold the images, but the columns are {', '.join(schema.names)}; call it image"
        )
    kind = schema.field(best[0]).type
    is_cell = pa.types.is_struct(kind) and {"bytes", "path"} & {kind.field(i).name for i in range(kind.num_fields)}
    if not (is_cell or _is_bytes(kind) or _is_text(kind)):
        raise DataError(
            f"{where}: the column {best[0]} must hold encoded images (bytes, or a struct of bytes and path) or paths "
            f"of them, but holds {kind}; save PNG or JPEG bytes"
        )
    return best[0]


def label_column(schema: pa.Schema, where: str, *, role: str) -> str | None:
    """Return the name of the column of labels; None where there is none, which only training images need.

    Raises:
        DataError: there is none; says which columns there are.
    """
    kinds = kinds_of(schema)
    named = [name for name in _LABEL_COLUMNS if name in schema.names]
    found = named or [name for name in schema.names if kinds.get(name, {}).get("_type") == "ClassLabel"]
    if not found and role != "train":
        return None
    if not found:
        raise DataError(
            f"{where}: one column must hold the labels, but the columns are {', '.join(schema.names)}; call it label"
        )
    return found[0]


def labels_of(column: pa.ChunkedArray, kind: dict[str, Any], where: str) -> Labels:
    """Return the labels of one table.

    Args:
        column: of integers or names.
        kind: what the `datasets` library noted of it: the names that the integers stand for, in their order.
    Raises:
        DataError: a label is neither.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    found = Labels.of(column.to_pylist(), where=where)
    names = kind.get("names")
    if found.names is None and isinstance(names, list) and names:
        return Labels(found.numbers, tuple(map(str, names)), ordered=True)
    return found


@dataclass(frozen=True, eq=False)
class ArrowCells:
    """Cells of a column that is in memory.

    Args:
        chunks: of the column: bytes, paths, or structs of both.
        folder: that paths are below.
    """

    chunks: tuple[pa.Array, ...]
    folder: Path

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(chunk) for chunk in self.chunks])

    def __call__(self, rows: Sequence[int]) -> list[Cell]:
        return [self._cell(row) for row in rows]

    def _cell(self, row: int) -> Cell:
        number = int(np.searchsorted(self._ends, row, side="right"))
        value = self.chunks[number][row - int(self._ends[number])].as_py()
        return self.placed(value)

    def placed(self, value: Any) -> Cell:
        """Return a cell of what the column holds, the path below the folder where there are no bytes."""
        cell: Cell = value if isinstance(value, dict) else {"bytes" if isinstance(value, bytes) else "path": value}
        content, path = cell.get("bytes"), cell.get("path")
        return {"bytes": content, "path": str(self.folder / path) if content is None and path else path}


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
