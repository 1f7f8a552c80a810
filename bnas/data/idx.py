"""A gzipped IDX file -> the array it holds."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from bnas.errors import DataError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """Return the unsigned bytes of an IDX file: two zero bytes, type, number of dimensions, their sizes, data.

    Args:
        path: a gzipped file.
        dimensions: how many the array must have (3 for images, 1 for labels).
    Raises:
        DataError: the file is missing, is cut short, or is not IDX of unsigned bytes with these dimensions.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; put the gzipped IDX file there") from None
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"{path} cannot be unpacked: {problem}; fetch the file again") from problem
    expected = bytes((0, 0, _UNSIGNED_BYTE, dimensions))
    if content[:4] != expected:
        raise DataError(
            f"{path} must start with the magic {expected.hex()}, but has {content[:4].hex()}; fetch it again"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path} ends within its header of {start} bytes, after {len(content)}; fetch it again")
    sizes = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(sizes):
        shown = " x ".join(map(str, sizes))
        raise DataError(f"{path} announces {shown} bytes, but holds {len(content) - start}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)
