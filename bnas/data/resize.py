"""Images of one size -> images of the size that was asked for."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bnas.errors import DataError

Shape = tuple[int, int, int]  # channels, height, width

_CHUNK_ELEMENTS = 2**24


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images of this size: mean pooled where the new sides divide the old ones, else bilinear with antialiasing.

    Args:
        images: [n, channels, height, width], uint8 (rounded to uint8 again) or float.
        size: the new height and width, in pixels.
    """
    count, channels, height, width = images.shape
    if (height, width) == size:
        return images
    out = images.new_empty((count, channels, *size))
    step = max(1, _CHUNK_ELEMENTS // (channels * height * width))
    for start in range(0, count, step):
        chunk = images[start : start + step].float()
        if height % size[0] == 0 and width % size[1] == 0:
            chunk = F.avg_pool2d(chunk, (height // size[0], width // size[1]))
        else:
            chunk = F.interpolate(chunk, size, mode="bilinear", antialias=True)
        out[start : start + step] = chunk if images.dtype.is_floating_point else chunk.round().clamp(0, 255)
    return out


def check_channels(where: str, have: Shape, wanted: Shape) -> None:
    """Raise a DataError that names both shapes unless the images have the channels that are wanted."""
    if have[0] != wanted[0]:
        raise DataError(
            f"{where}: the images are {text(have)}, but {text(wanted)} was asked for: the channels must agree "
            f"(only height and width are resized); ask for {have[0]} x {wanted[1]} x {wanted[2]}"
        )


def shape_of(sizes: Sequence[int]) -> Shape:
    """Return channels, height and width of [n, channels, height, width]."""
    _, channels, height, width = sizes
    return channels, height, width


def text(shape: Sequence[int]) -> str:
    """Say a shape the way people write it: `3 x 32 x 32`."""
    return " x ".join(str(side) for side in shape)


def moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of images [n, channels, height, width].

    The unit is full scale: uint8 is divided by 255, float is taken as it is. A constant channel gets deviation 1.
    """
    full = 1.0 if images.dtype.is_floating_point else 255.0
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    step = max(1, _CHUNK_ELEMENTS // images[0].numel())
    for chunk in images.split(step):
        values = chunk.double() / full
        total += values.sum(dim=(0, 2, 3))
        squares += values.square().sum(dim=(0, 2, 3))
    pixels = images.numel() / images.shape[1]
    mean = total / pixels
    variance = (squares / pixels - mean.square()).clamp(min=0)
    std = torch.where(variance > 1e-12, variance.sqrt(), torch.ones_like(variance))
    return tuple(mean.tolist()), tuple(std.tolist())
