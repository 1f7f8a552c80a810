"""Encoded images, in files or in the cells of a table -> a stream of images of one kind and size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bnas.data.found import Part
from bnas.data.labels import Labels
from bnas.data.layout import COLOUR, GREY, of_picture
from bnas.data.picture import Cell, content_of, open_image
from bnas.data.resize import Shape, mixed_sizes, resize
from bnas.data.stream import Images, Stream
from bnas.errors import DataError

_PROBED = 100  # images looked at to tell a grey set from a colour one
_ORIENTATION, _TURNED = 274, (5, 6, 7, 8)  # the tag of EXIF, and its values for pictures that lie on their side
ReadCells = Callable[[Sequence[int]], list[Cell]]  # row numbers -> their cells; must survive pickling


@dataclass(frozen=True)
class Files:
    """Cells of image files."""

    paths: tuple[str, ...]

    def __call__(self, rows: Sequence[int]) -> list[Cell]:
        return [{"bytes": None, "path": self.paths[row]} for row in rows]


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

    def __call__(self, row: int, cell: Cell) -> Tensor:
        """Return the uint8 image [channels, height, width] of one table cell."""
        named = _named(self.where, row, cell)
        picture = open_image(cell, named)
        if picture.mode in COLOUR and self.mode == "L":
            raise DataError(f"{named} is in colour, but the first images are grey; make all the same kind")
        image = of_picture(picture, self.mode, named)
        if image.shape != self.shape and not self.resized:
            raise mixed_sizes(named, image.shape, self.shape)
        return resize(image.unsqueeze(0), self.shape[1:])[0]


@dataclass(frozen=True)
class CellReader:
    """Reads rows of a table; pickled to the worker processes of a stream."""

    cells: ReadCells
    decode: Decoder

    def __call__(self, rows: Tensor) -> Tensor:
        numbers = rows.tolist()
        cells = _read_cells(self.decode.where, self.cells, numbers)
        return torch.stack([self.decode(row, cell) for row, cell in zip(numbers, cells, strict=True)])


def part_of_cells(where: str, cells: ReadCells, labels: Labels, identity: Callable[[], str]) -> Part:
    """Return a part of a data set whose images are decoded when they are asked for.

    Args:
        where: what errors call it.
        cells: as many as labels.
        identity: text that tells these images from others.
    Raises:
        DataError: one of the images that are looked at is none; the stream raises it too.
    """
    shape, sizes = _look(where, cells, len(labels))
    return Part(where, labels, shape, partial(_stream, where, cells, len(labels), shape, identity), identity, sizes)


def _stream(
    where: str, cells: ReadCells, count: int, own: Shape, identity: Callable[[], str], size: Shape | None
) -> Images:
    shape = own if size is None else size
    if own[0] > shape[0]:
        raise DataError(f"{where}: the images are in colour, but the training images are grey; make all the same kind")
    decode = Decoder(where, "L" if shape[0] == 1 else "RGB", shape, resized=size is not None)
    return Stream(CellReader(cells, decode), torch.arange(count), shape, identity=identity)


def _look(where: str, cells: ReadCells, count: int) -> tuple[Shape, tuple[Shape, ...]]:
    """Return the shape of the first image, and those of all that are looked at; with three channels where one of these
    has colour."""
    probed = [int(row) for row in np.unique(np.linspace(0, count - 1, min(_PROBED, count)).astype(int))]
    found = _read_cells(where, cells, probed)
    kinds = [_kind(cell, _named(where, row, cell)) for row, cell in zip(probed, found, strict=True)]
    channels = 3 if any(is_colour for is_colour, _, _ in kinds) else 1
    sizes = tuple((channels, height, width) for _, height, width in kinds)
    return sizes[0], sizes


def _kind(cell: Cell, named: str) -> tuple[bool, int, int]:
    """Return whether an image has colour, its height and its width, from its header alone."""
    try:
        with Image.open(content_of(cell)) as picture:
            width, height = picture.size
            turned = "exif" in picture.info and picture.getexif().get(_ORIENTATION) in _TURNED
    except Exception as problem:
        raise DataError(f"{named} cannot be decoded: {problem}; replace it") from problem
    if picture.mode not in GREY + COLOUR:
        raise DataError(f"{named} has pixels of kind {picture.mode}; convert it to 8-bit grey or RGB")
    return picture.mode in COLOUR, *((width, height) if turned else (height, width))


def _read_cells(where: str, cells: ReadCells, rows: Sequence[int]) -> list[Cell]:
    try:
        return cells(rows)
    except Exception as problem:  # a damaged table makes its library raise whatever it ran into
        raise DataError(f"{where}: its images cannot be read: {problem}; write or fetch it again") from problem


def _named(where: str, row: int, cell: Cell) -> str:
    return f"{where}: image {row}" + (f" ({cell['path']})" if cell["path"] else "")
