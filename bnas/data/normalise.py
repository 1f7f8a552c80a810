"""How a model wants its images, by a word or by numbers -> mean and deviation per channel."""

import math
from collections.abc import Sequence
from typing import Any

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
