"""A table of encoded images and labels -> a stream of images, and numbered labels."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bnas.data.resize import Shape, check_channels, resize, text
from bnas.data.stream import Stream
from bnas.errors import DataError

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")
_GREY, _COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")
_PROBED = 100  # images looked at to tell a grey set from a colour one
Table = Any  # a datasets.Dataset, which has no types


@dataclass(frozen=True)
class Decoder:
    """Turns an encoded image into a tensor.

    Args:
        where: the table, for errors.
        mode: "L" or "RGB".
        shape: channels, height and width of the tensor.
        resized: whether images of other sizes are resized; else they are an error.
    """

    where: str
    mode: str
    shape: Shape
    resized: bool

    def __call__(self, row: int, cell: dict[str, Any]) -> Tensor:
        """Return the uint8 image [channels, height, width] of one table cell."""
        named = _named(self.where, row, cell)
        picture = open_image(cell, named)
        if picture.mode in _COLOUR and self.mode == "L":
            raise DataError(f"{named} is in colour, but the first images are grey; make all the same kind")
        picture = picture if picture.mode == self.mode else picture.convert(self.mode)
        pixels = torch.from_numpy(np.array(picture)).view(picture.height, picture.width, -1)
        image = pixels.permute(2, 0, 1).contiguous()
        if image.shape != self.shape and not self.resized:
            raise DataError(
                f"{named} is {text(image.shape)}, but the first is {text(self.shape)}; "
                "all must have one size: give input_shape to resize them"
            )
        return resize(image.unsqueeze(0), self.shape[1:])[0]


@dataclass(frozen=True)
class RowReader:
    """Reads rows of a table; pickled to the worker processes of a stream."""

    table: Table
    column: str
    decode: Decoder

    def __call__(self, rows: Tensor) -> Tensor:
        numbers = rows.tolist()
        cells = self.table[numbers][self.column]
        return torch.stack([self.decode(row, cell) for row, cell in zip(numbers, cells, strict=True)])


def labelled(
    table: Table, *, where: str, input_shape: Shape | None, class_names: tuple[str, ...] | None = None
) -> tuple[Stream, Tensor, tuple[str, ...]]:
    """Return images, labels and the names of the classes.

    Args:
        table: a `datasets.Dataset` with one column of images and one of labels.
        where: what errors call it.
        input_shape: channels, height, width to resize to; None wants all images of one size.
        class_names: of the training images, by which this table's labels are numbered.
    Raises:
        DataError: no such columns, an unknown class, or the first images cannot be decoded; the stream raises it too
            when it meets an image that cannot be decoded or has another size.
    """
    import datasets

    if not len(table):
        raise DataError(f"{where}: the table has no rows; look at where it is read from")
    column = _image_column(table, where)
    table = table.cast_column(column, datasets.Image(decode=False))
    labels, names = _labels(table, where, class_names)
    decode = _decoder(table, column, where, input_shape)
    read = RowReader(table.select_columns([column]), column, decode)
    return Stream(read, torch.arange(len(table)), decode.shape), labels, names


def open_image(cell: dict[str, Any], named: str) -> Image.Image:
    """Return the upright picture of a table cell with `bytes` or `path`.

    Raises:
        DataError: it cannot be decoded, or has pixels of more than 8 bits.
    """
    try:
        picture = Image.open(io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"])
        picture.load()
        if "exif" in picture.info:
            ImageOps.exif_transpose(picture, in_place=True)
    except Exception as problem:  # a damaged file makes PIL raise whatever its decoder ran into
        raise DataError(f"{named} cannot be decoded: {problem}; replace it") from problem
    if picture.mode not in _GREY + _COLOUR:
        raise DataError(f"{named} has pixels of kind {picture.mode}; convert it to 8-bit grey or RGB")
    return picture


def _decoder(table: Table, column: str, where: str, input_shape: Shape | None) -> Decoder:
    probed = np.unique(np.linspace(0, len(table) - 1, _PROBED).astype(int))
    cells = [(int(row), table[int(row)][column]) for row in probed]
    pictures = [open_image(cell, _named(where, row, cell)) for row, cell in cells]
    mode = "RGB" if any(picture.mode in _COLOUR for picture in pictures) else "L"
    channels = 3 if mode == "RGB" else 1
    have: Shape = (channels, pictures[0].height, pictures[0].width)
    if input_shape is None:
        return Decoder(where, mode, have, resized=False)
    check_channels(f"data set {where}", have, input_shape)
    return Decoder(where, mode, input_shape, resized=True)


def _named(where: str, row: int, cell: dict[str, Any] | None) -> str:
    path = cell["path"] if cell else None
    return f"{where}: image {row}" + (f" ({path})" if path else "")


def _image_column(table: Table, where: str) -> str:
    import datasets

    kinds = table.features
    found = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    # A Parquet file that was not written by `datasets` has plain bytes, alone or in a struct.
    found = found or [name for name in _IMAGE_COLUMNS if name in kinds]
    best = [name for name in _IMAGE_COLUMNS if name in found] or found
    if not best or (len(best) > 1 and best[0] not in _IMAGE_COLUMNS):
        raise DataError(
            f"{where}: one column must hold the images, but the columns are {', '.join(kinds)}; call it image"
        )
    return best[0]


def _labels(table: Table, where: str, known: tuple[str, ...] | None) -> tuple[Tensor, tuple[str, ...]]:
    import datasets

    kinds = table.features
    column = next((name for name in _LABEL_COLUMNS if name in kinds), None)
    column = column or next((name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)), None)
    if column is None:
        raise DataError(
            f"{where}: one column must hold the labels, but the columns are {', '.join(kinds)}; call it label"
        )
    values = table[column][:]
    if isinstance(kinds[column], datasets.ClassLabel):
        names = tuple(kinds[column].names)
        values = [names[value] if value is not None and 0 <= value < len(names) else value for value in values]
    elif all(isinstance(value, str) for value in values):
        names = tuple(sorted(set(values)))
    else:
        names = ()
    return _numbers(values, where, known, names)


def _numbers(
    values: list[Any], where: str, known: tuple[str, ...] | None, names: tuple[str, ...]
) -> tuple[Tensor, tuple[str, ...]]:
    """Number the labels by the names of the training classes, so that a test split cannot number them otherwise."""
    if any(not isinstance(value, (int, str)) for value in values):
        row = next(row for row, value in enumerate(values) if not isinstance(value, (int, str)))
        raise DataError(f"{where}: label {values[row]!r} of image {row} must be an integer or a name; correct it")
    if not names:
        largest = max(values)
        return torch.tensor(values), known or tuple(str(label) for label in range(min(largest + 1, len(values))))
    known = known or names
    places = {name: place for place, name in enumerate(known)}
    strange = next((value for value in values if value not in places), None)
    if strange is not None:
        raise DataError(
            f"{where}: class {strange!r} is not one of the {len(known)} training classes; correct the labels"
        )
    return torch.tensor([places[value] for value in values]), known
