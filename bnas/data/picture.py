"""An encoded picture, in a file or in the cell of a table -> upright pixels of the kind and size that are asked for."""

import io
import os
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from torch import Tensor

from bnas.data.layout import COLOUR, of_picture
from bnas.data.resize import Shape, resize
from bnas.errors import DataError

Cell = dict[str, Any]  # `bytes`, or where these are None the `path` of a file


def open_image(cell: Cell, named: str) -> Image.Image:
    """Return the upright picture of a table cell.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        picture = Image.open(content_of(cell))
        picture.load()
        if "exif" in picture.info:
            ImageOps.exif_transpose(picture, in_place=True)
    except Exception as problem:  # a damaged file makes PIL raise whatever its decoder ran into
        raise DataError(f"{named} cannot be decoded: {problem}; replace it") from problem
    return picture


def read_image(path: Path, shape: Shape) -> Tensor:
    """Return the image of a file as uint8 [channels, height, width], resized as training images are.

    Raises:
        DataError: it cannot be decoded, or is in colour where grey is wanted.
    """
    picture = open_image({"bytes": None, "path": str(path)}, str(path))
    if shape[0] == 1 and picture.mode in COLOUR:
        raise DataError(f"{path} is in colour, but the network was trained on grey images; convert it to grey")
    return resize(of_picture(picture, "L" if shape[0] == 1 else "RGB", str(path)).unsqueeze(0), shape[1:])[0]


def content_of(cell: Cell) -> Any:
    """Return the bytes of an image as a file, or the path of one; what is no file any more would never end."""
    if cell["bytes"] is not None:
        return io.BytesIO(cell["bytes"])
    if not cell["path"]:
        raise FileNotFoundError("the table has none there")
    if not os.path.isfile(cell["path"]):
        raise FileNotFoundError("it is not there, or is no file")
    return cell["path"]
