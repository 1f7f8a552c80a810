"""Images of one size -> images of the size that was asked for."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bnas.errors import DataError

Shape = tuple[int, int, int]  # channels, height, width

_CHUNK_ELEMENTS = 2**24
METHOD = "mean pooling where the new sides divide the old ones, else bilinear with antialiasing; rounded to uint8"


class MixedSizes(DataError):
    """Images have several sizes, and none was asked for; `first` is the shape of the first."""

    def __init__(self, message: str, first: Shape) -> None:
        super().__init__(message)
        self.first = first

    def __reduce__(self) -> tuple[type, tuple[str, Shape]]:
        return type(self), (str(self), self.first)


def mixed_sizes(which: str, have: Sequence[int], first: Sequence[int]) -> MixedSizes:
    """Return what to raise where an image has another size than the first."""
    return MixedSizes(
        f"{which} is {text(have)}, but the first is {text(first)}; all must have one size: give input_shape to resize "
        f"them, on the command line --input {'x'.join(map(str, first))}",
        shape_of(first),
    )


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images of this size as `METHOD` says.

    Args:
        images: [n, channels, height, width], uint8 (rounded to uint8 again) or float.
        size: the new height and width, in pixels.
    """
    count, channels, height, width = images.shape
    if (height, width) == size:
        return images
    out = images.new_empty((count, channels, *size))
    step = _chunk(images)
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
        of_signals = wanted[1] == 1 < have[1]
        do = (
            f"signals of {wanted[0]} channels are images of one row, arrays [n, {wanted[0]}, 1, {wanted[2]}]"
            if of_signals
            else f"ask for {have[0]} x {wanted[1]} x {wanted[2]}"
        )
        raise DataError(
            f"{where}: the images are {text(have)}, but {text(wanted)} was asked for: the channels must agree "
            f"(only height and width are resized); {do}"
        )


def shape_of(sizes: Sequence[int]) -> Shape:
    """Return channels, height and width of [n, channels, height, width], or of one image."""
    *_, channels, height, width = sizes
    return channels, height, width


def text(shape: Sequence[int]) -> str:
    """Say a shape the way people write it: `3 x 32 x 32`."""
    return " x ".join(str(side) for side in shape)


def moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of images [n, channels, height, width].

    The unit is full scale: uint8 is divided by 255, float is taken as it is. A constant channel gets deviation 1. The
    same images give the same bits whatever the number of threads: bytes are summed as integers, floats by numpy.
    """
    whole = images.dtype == torch.uint8
    sums = [_sums_of_bytes(chunk) if whole else _sums(chunk) for chunk in images.split(_chunk(images))]
    full = 255.0 if whole else 1.0
    pixels = images.numel() / images.shape[1]
    total, squares = np.sum(sums, axis=0)
    mean = total / full / pixels
    variance = (squares / full**2 / pixels - np.square(mean)).clip(min=0)
    std = np.where(variance > 1e-12, np.sqrt(variance), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _chunk(images: Tensor) -> int:
    return max(1, _CHUNK_ELEMENTS // images[0].numel())


def _sums_of_bytes(images: Tensor) -> np.ndarray:
    """Return the sums of values and of squares per channel, exact."""
    sums = [values.sum(dim=(0, 2, 3), dtype=torch.int64) for values in (images, images.int().square())]
    return torch.stack(sums).cpu().numpy()


def _sums(images: Tensor) -> np.ndarray:
    values = images.cpu().double().numpy().swapaxes(0, 1).reshape(images.shape[1], -1)
    return np.stack([values.sum(1), np.square(values).sum(1)])
