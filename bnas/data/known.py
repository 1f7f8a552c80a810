"""The data sets that have a name of their own, and the IDX files that one of them comes in."""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from bnas.data.dataset import Labelled, Raw
from bnas.data.resize import Shape
from bnas.data.sources import parquet
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


DIGITS = tuple(str(digit) for digit in range(10))


def digits(input_shape: Shape | None) -> Raw:
    """The 1,797 grey 8 x 8 digits that scikit-learn ships, a fifth held out as test; turned a little for training."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # Sixteenths, spread over a byte, so that pooling to a smaller size keeps its precision.
    pixels = (images * 15).astype(np.uint8).reshape(-1, 1, 8, 8)
    train = torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64))
    return Raw(class_names=DIGITS, train=train, augmentation=("affine",))


def mnist(input_shape: Shape | None) -> Raw:
    """60,000 + 10,000 grey 28 x 28 digits, from gzipped IDX files; augmented by small shifts."""
    folder = data_folder("mnist")
    return Raw(
        class_names=DIGITS,
        train=_idx_pair(folder, "train", 60_000),
        read_test=lambda: _idx_pair(folder, "t10k", 10_000),
        augmentation=("shift",),
    )


def cifar10(input_shape: Shape | None) -> Raw:
    """50,000 + 10,000 colour 32 x 32 photographs of ten classes, from Parquet; augmented by flips and padded crops."""
    return parquet(data_folder("cifar10"), input_shape)


def data_folder(name: str) -> Path:
    """Return the folder of a known data set under BNAS_DATA.

    Raises:
        DataError: BNAS_DATA is not set, or has no such folder.
    """
    root = os.environ.get("BNAS_DATA")
    if not root:
        raise DataError(
            f"data set {name!r}: BNAS_DATA is not set; set it to the folder that holds {name}/, or use digits"
        )
    folder = Path(root) / name
    if not folder.is_dir():
        raise DataError(f"data set {name!r}: BNAS_DATA={root} has no folder {name}; put the files there, or use digits")
    return folder


def _idx_pair(folder: Path, part: str, count: int) -> Labelled:
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", dimensions=3)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
    if images.shape != (count, 28, 28) or labels.shape != (count,):
        raise DataError(
            f"{folder}: {part} must hold {count} images of 28 x 28 and as many labels, "
            f"but holds {images.shape} and {labels.shape}; fetch the files again"
        )
    return torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))
