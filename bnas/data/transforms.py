"""Images -> what a network sees of them: normalised, by a word or by numbers, and in training augmented."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bnas.errors import DataError

Normalisation = str | tuple[Any, Any]  # a word, MEAN/STD as text, or mean and std: one number, or one a channel
Moments = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation, per channel

_COLOUR = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of the photographs of ImageNet, in units of full scale
_GREY = ((0.449,), (0.226,))  # their means over the channels
NORMALISATIONS: dict[str, tuple[float, float] | None] = {
    "imagenet": None,  # by the number of channels
    "unit": (0.0, 1.0),  # from 0 to 1
    "bytes": (0.0, 1 / 255),  # from 0 to 255
}


def normalisation(asked: Normalisation, channels: int) -> Moments:
    """Return mean and standard deviation per channel, in units of full scale: a batch is (image - mean) / std.

    Args:
        asked: `imagenet`; `unit` for images from 0 to 1; `bytes` for 0 to 255; mean and std as text, `0.5/0.5` or
            `0.5,0.4,0.4/0.2,0.2,0.2`; or a pair of numbers or of sequences of them.
        channels: of the images; one number serves all of them.
    Raises:
        DataError: it is none of these, or is for other channels.
    """
    if asked == "imagenet":
        if channels not in (1, 3):
            raise DataError(
                f"normalise: imagenet is for 1 or 3 channels, but the images have {channels}; give MEAN/STD"
            )
        return _COLOUR if channels == 3 else _GREY
    known = NORMALISATIONS.get(asked) if isinstance(asked, str) else None
    return _checked(known or _parts(asked), channels, asked)


def spelled(asked: Normalisation) -> str:
    """Return a normalisation as text that `normalisation` takes."""
    if isinstance(asked, str):
        return asked
    return "/".join(",".join(repr(float(value)) for value in _values(part)) for part in _parts(asked))


def _parts(asked: Normalisation) -> tuple[Any, Any]:
    parts: Sequence[Any] = asked.split("/") if isinstance(asked, str) else asked
    try:
        mean, std = ([float(value) for value in _values(part)] for part in parts)
    except (TypeError, ValueError) as problem:
        raise DataError(
            f"normalise: {asked!r} is none of {', '.join(NORMALISATIONS)}, and not MEAN/STD as 0.5/0.5 or "
            "0.5,0.4,0.4/0.2,0.2,0.2 either; give one of these"
        ) from problem
    return mean, std


def _values(part: Any) -> list[Any]:
    """Return the values of one number, of text with commas, or of a sequence."""
    if isinstance(part, str):
        return part.split(",")
    return [part] if isinstance(part, (int, float)) or getattr(part, "ndim", 1) == 0 else list(part)


def _checked(parts: tuple[Any, Any], channels: int, asked: Normalisation) -> Moments:
    mean, std = (tuple(_values(part)) * (channels if len(_values(part)) == 1 else 1) for part in parts)
    if not len(mean) == len(std) == channels:
        raise DataError(
            f"normalise: {asked!r} has {len(mean)} and {len(std)} values, but the images have {channels} channels; "
            "give one for each, or one for all"
        )
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise DataError(f"normalise: {asked!r} must be finite, and the deviation above 0; give other numbers")
    return mean, std


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return what a network sees of images: (image / full scale - mean) / std, as float32; floats are changed in place.

    One multiplication and one subtraction, with numbers made in float64: computed otherwise it rounds otherwise, and a
    sign that hangs on the last bit turns.

    Args:
        images: [batch, channels, height, width], uint8, whose full scale is 255, or floating point, whose is 1.
        mean, std: per channel, in units of full scale.
    """
    full = 1.0 if images.is_floating_point() else 255.0
    centre, width = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (mean, std))
    scale, offset = (numbers.to(images.device, torch.float32) for numbers in (1 / (full * width), centre / width))
    return images.float().mul_(scale).sub_(offset)


Augment = Callable[[Tensor, torch.Generator], Tensor]


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images [batch, channels, height, width] of which a random half is mirrored left to right."""
    return _half_mirrored(images, generator, dim=3)


def flip_vertical(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images [batch, channels, height, width] of which a random half is mirrored top to bottom."""
    return _half_mirrored(images, generator, dim=2)


def crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random window of each image padded by an eighth of its side (4 pixels of 32) with zeros."""
    return _move(images, generator, parts=8)


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image moved at random by up to a fourteenth of its side (2 pixels of 28), filled with zeros."""
    return _move(images, generator, parts=14)


def affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image turned by up to 10 degrees, stretched by a tenth and moved by a 27th of its side at most."""
    turn, wide, tall, right, down = (2 * torch.rand(5, len(images), generator=generator) - 1).unbind()
    return warped(images, math.radians(10) * turn, (1 + wide / 10, 1 + tall / 10), (right / 27, down / 27))


def turn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image turned at random by up to 10 degrees about its centre, filled with zeros."""
    angle = math.radians(10) * (2 * torch.rand(len(images), generator=generator) - 1)
    still, one = torch.zeros(len(images)), torch.ones(len(images))
    return warped(images, angle, (one, one), (still, still))


def cutout(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images in each of which a square, half as wide as the shorter side, has the mean colour of the image.

    Its centre may be anywhere, so that often a part of it is outside.
    Source: DeVries, Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017
        (arXiv:1708.04552), with the mean in place of zero.
    """
    count, _, height, width = images.shape
    side = max(1, min(height, width) // 2)
    inside = [
        (torch.arange(length) - torch.randint(length, (count, 1), generator=generator) + side // 2)
        for length in (height, width)
    ]
    rows, columns = (((places >= 0) & (places < side)).to(images.device) for places in inside)
    mean = images.float().mean((2, 3), keepdim=True)
    mean = mean.round().to(images.dtype) if not images.is_floating_point() else mean.to(images.dtype)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], mean, images)


AUGMENTATIONS: dict[str, Augment] = {
    "affine": affine, "crop": crop, "cutout": cutout, "flip": flip, "flip_vertical": flip_vertical, "shift": shift,
    "turn": turn,
}  # fmt: skip
NO_AUGMENTATION = "none"


def augmentations(asked: str | Sequence[str]) -> tuple[str, ...]:
    """Return names from `none`, names with commas between, or a sequence of them; `Split` says which are not known.

    Raises:
        DataError: `none` stands beside others.
    """
    names = tuple(name.strip() for name in (asked.split(",") if isinstance(asked, str) else asked))
    if NO_AUGMENTATION in names and len(names) > 1:
        raise DataError(f"augment: {', '.join(names)} is both none and some; give one of the two")
    return () if names == (NO_AUGMENTATION,) else names


def _half_mirrored(images: Tensor, generator: torch.Generator, *, dim: int) -> Tensor:
    count = len(images)
    mirrored = torch.rand(count, generator=generator) < 0.5
    chosen = torch.arange(count) + count * mirrored
    return torch.cat((images, images.flip(dim))).index_select(0, chosen.to(images.device))


def _move(images: Tensor, generator: torch.Generator, *, parts: int) -> Tensor:
    count, _, height, width = images.shape
    # A signal is an image of one row, which nothing could move into.
    down, right = (max(1, round(side / parts)) if side > 1 else 0 for side in (height, width))
    rows = torch.randint(0, 2 * down + 1, (count,), generator=generator)
    columns = torch.randint(0, 2 * right + 1, (count,), generator=generator)
    return windows(F.pad(images, (right, right, down, down)), rows, columns, size=(height, width))


def windows(images: Tensor, rows: Tensor, columns: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Return the window of each image whose upper left corner is given.

    Args:
        images: [batch, channels, height, width].
        rows, columns: the corners, int64 [batch], in pixels, on the CPU.
        size: height and width of the windows, in pixels.
    """
    height, width = size
    every = images.unfold(2, height, 1).unfold(3, width, 1)  # a view: [batch, channels, rows, columns, height, width]
    each = torch.arange(len(images))
    if images.device.type == "cpu":
        # The same gather through numpy's view of the same memory copies runs, not elements: about four times faster.
        return torch.from_numpy(every.numpy()[each.numpy(), :, rows.numpy(), columns.numpy()])
    device = images.device
    return every[each.to(device), :, rows.to(device), columns.to(device)]


def warped(images: Tensor, angle: Tensor, scale: tuple[Tensor, Tensor], move: tuple[Tensor, Tensor]) -> Tensor:
    """Return each image as it is seen through a window that is turned, scaled and moved, with zeros around it.

    A pixel of the result that lies (x, y) pixels from the centre takes its value, between four pixels, from
    R(angle) (scale_x x, scale_y y) + (move_x width, move_y height) pixels from the centre of the image.

    Args:
        images: [batch, channels, height, width]; integers are rounded.
        angle: in radians, clockwise where y points down [batch].
        scale, move: along x and y; a scale above 1 shrinks what is seen, a move is in sides of the image [batch].
            Along a side of one pixel, as signals have, images stay as they are, and they are not turned.
    """
    height, width = images.shape[2:]
    still = torch.zeros_like(angle)
    if height == 1:
        angle, scale, move = still, (scale[0], still + 1), (move[0], still)
    if width == 1:
        angle, scale, move = still, (still + 1, scale[1]), (still, move[1])
    cos, sin = angle.cos(), angle.sin()
    # In the coordinates of affine_grid a side is 2 long, whatever its pixels.
    x_row = (cos * scale[0], -sin * scale[1] * height / width, 2 * move[0])
    y_row = (sin * scale[0] * width / height, cos * scale[1], 2 * move[1])
    window = torch.stack((*x_row, *y_row), 1).view(-1, 2, 3).to(images.device)
    seen = F.grid_sample(
        images.float(), F.affine_grid(window, list(images.shape), align_corners=False), align_corners=False
    )
    return seen.to(images.dtype) if images.is_floating_point() else seen.round().to(images.dtype)
