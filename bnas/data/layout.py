"""Arrays and pictures in any order of axes -> images [channels, height, width]; the rule for which axis is which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bnas.data.resize import text
from bnas.errors import DataError

CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency
LARGEST_FLOAT = 16  # images that are normalised are well below it, those that go from 0 to 255 above
GREY, COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")  # modes of PIL with 8 bits


def is_channels_last(sides: Sequence[int], where: str) -> bool:
    """Say whether the three sides of an image are height, width, channels; else they are channels, height, width.

    They are channels first where the first of them is 1, 3 or 4, and else channels last where the last of them is.
    Where that holds for both or for neither, they are channels first too, unless that makes them no square and channels
    last would, or the last of them is the smallest of three: such images are refused. Those of one row are signals,
    channels first, as no image is one pixel wide.

    Raises:
        DataError: they could be either.
    """
    first, middle, last = sides
    is_open = (first in CHANNELS) == (last in CHANNELS)
    if is_open and (first == middle != last or (first not in CHANNELS and last < min(first, middle) and middle != 1)):
        raise DataError(
            f"{where}: images of {text(sides)} may have their channels first or last; give them as [n, channels, "
            "height, width]: images.transpose(0, 3, 1, 2) where they are last, with a margin at one side where not"
        )
    return first not in CHANNELS and last in CHANNELS and middle != 1


def as_images(values: Any, where: str) -> Tensor:
    """Return many images of one size as a tensor [n, channels, height, width], uint8 or float32.

    Args:
        values: a numpy array or tensor of uint8, or floating point in units of full scale, [n, channels, height,
            width], [n, height, width, channels] (see `is_channels_last`), or [n, height, width] for grey ones.
    Raises:
        DataError: other shapes or kinds, or values that are not finite, or that go to 255 as floating point.
    """
    pixels = _tensor(values, where)
    kind = str(pixels.dtype).removeprefix("torch.")
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(1)
    if pixels.ndim != 4 or not (pixels.dtype == torch.uint8 or pixels.dtype.is_floating_point):
        raise DataError(
            f"{where}: images must be uint8 or floating point [n, channels, height, width], [n, height, width, "
            f"channels] or [n, height, width], but are {kind} {list(pixels.shape)}; convert them, as with "
            "images.astype(np.uint8) where they go from 0 to 255"
        )
    if not pixels.numel():
        raise DataError(f"{where}: there are no images; look at where it is read from")
    if is_channels_last(pixels.shape[1:], where):
        pixels = pixels.permute(0, 3, 1, 2)
    return _in_units(pixels.contiguous(), f"{where}: images hold values")


def as_image(value: Any, where: str) -> Tensor:
    """Return one image as a tensor [channels, height, width], uint8 or float32.

    Args:
        value: a picture of PIL, or an array or tensor of [height, width] or of three axes, as `as_images` takes many.
    Raises:
        DataError: it is something else.
    """
    if isinstance(value, Image.Image):
        return of_picture(value, "L" if value.mode in GREY else "RGB", where)
    pixels = _tensor(value, where)
    if pixels.ndim == 2:
        pixels = pixels.unsqueeze(0)
    if pixels.ndim != 3 or not (pixels.dtype == torch.uint8 or pixels.dtype.is_floating_point):
        kind = str(pixels.dtype).removeprefix("torch.")
        raise DataError(
            f"{where}: an image must be a picture of PIL, or uint8 or floating point of two or three axes, but is "
            f"{kind} {list(pixels.shape)}; convert it"
        )
    if is_channels_last(pixels.shape, where):
        pixels = pixels.permute(2, 0, 1)
    return _in_units(pixels.contiguous(), f"{where}: holds values")


def of_picture(picture: Image.Image, mode: str, where: str) -> Tensor:
    """Return a picture of 8 bits as uint8 [channels, height, width].

    Args:
        mode: "L" or "RGB", what to convert it to.
    Raises:
        DataError: it has more than 8 bits.
    """
    if picture.mode not in GREY + COLOUR:
        raise DataError(f"{where} has pixels of kind {picture.mode}; convert it to 8-bit grey or RGB")
    picture = picture if picture.mode == mode else picture.convert(mode)
    pixels = torch.from_numpy(np.array(picture)).view(picture.height, picture.width, -1)
    return pixels.permute(2, 0, 1).contiguous()


def _tensor(values: Any, where: str) -> Tensor:
    """Return an array or a tensor as a dense tensor on the CPU."""
    try:
        if isinstance(values, Tensor):
            if values.is_nested or values.is_meta or values.layout != torch.strided or values.is_quantized:
                raise TypeError("it is not dense, or has no values")
            return values.detach().cpu()
        array = np.asarray(values)
        kind = np.dtype(np.float64) if array.dtype.kind == "f" and array.itemsize > 8 else array.dtype.newbyteorder("=")
        return torch.from_numpy(np.require(array, dtype=kind, requirements=("C", "W")))
    except Exception as problem:  # whatever numpy and torch raise of what is no array of numbers
        raise DataError(
            f"{where}: images must be dense arrays or tensors of numbers, but are of type {type(values).__name__}"
            f"{f' of {values.dtype}' if isinstance(values, np.ndarray) else ''}"
        ) from problem


def _in_units(pixels: Tensor, what: str) -> Tensor:
    """Return bytes as they are, and floating point as float32; in units of full scale, or normalised already."""
    if not pixels.dtype.is_floating_point:
        return pixels
    pixels = pixels.float()
    if not pixels.isfinite().all():
        raise DataError(f"{what} that are not finite; remove or replace these images")
    low, high = (float(value) for value in pixels.aminmax())
    if low >= 0 and high > LARGEST_FLOAT:
        raise DataError(
            f"{what} from {low:.3g} to {high:.3g}, but floating point goes from 0 to 1; divide them by what stands for "
            "full scale, or give bytes, as images.astype(np.uint8)"
        )
    return pixels
