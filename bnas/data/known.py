"""The data sets that have a name of their own, and the IDX files that one of them comes in."""

import gzip
import math
import os
import struct
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnas.data.arrays import held
from bnas.data.fingerprint import of_files
from bnas.data.found import Found, Part, resized
from bnas.data.labels import Labels
from bnas.data.parquet import parquet
from bnas.data.resize import Shape
from bnas.errors import DataError

_UNSIGNED_BYTE = 0x08
DIGITS = tuple(str(digit) for digit in range(10))
_MNIST_SHAPE = (1, 28, 28)


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """Return the unsigned bytes of an IDX file: two zero bytes, type, number of dimensions, their sizes, data.

    Args:
        path: a gzipped file.
        dimensions: how many the array must have (3 for images, 1 for labels).
    Raises:
        DataError: the file is missing, is cut short, or is not IDX of unsigned bytes with these dimensions.
    """
    if not path.is_file():
        raise DataError(f"{path} {'is no file' if path.exists() else 'does not exist'}; put the gzipped IDX file there")
    try:
        with gzip.open(path) as file:
            content = file.read()
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


def digits() -> Found:
    """1,797 grey 8 x 8 digits that come with this package, a fifth held out as test; turned a little for training.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49, its test part, as scikit-learn ships it too; CC BY 4.0.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        sixteenths, labels = file["images"], file["labels"]
    pixels = (sixteenths * 15)[:, None]  # spread over a byte, so that pooling to a smaller size keeps its precision
    train = held("digits", torch.from_numpy(pixels), Labels(labels.astype(np.int64)))
    return Found("bnas, embedded", {"train": train}, class_names=DIGITS, augmentation=("affine",))


def mnist() -> Found:
    """60,000 + 10,000 grey 28 x 28 digits, from gzipped IDX files; augmented by small shifts."""
    folder = data_folder("mnist", "train-images-idx3-ubyte.gz, and so on")
    parts = {"train": _idx(folder, "train", 60_000), "test": _idx(folder, "t10k", 10_000)}
    return Found(str(folder), parts, class_names=DIGITS, augmentation=("shift",))


def cifar10() -> Found:
    """50,000 + 10,000 colour 32 x 32 photographs of ten classes, from Parquet; augmented by flips and padded crops."""
    return replace(parquet(data_folder("cifar10", "train.parquet and test.parquet")), augmentation=("flip", "crop"))


def sketches() -> Found:
    """27,599 + 6,900 grey 28 x 28 sketches of 345 classes (Quick, Draw! by Google, CC BY 4.0), from Parquet.

    Augmented by flips, shifts and small rotations.
    """
    found = parquet(data_folder("sketches", "train.parquet and test.parquet"))
    return replace(found, augmentation=("flip", "shift", "turn"))


def data_folder(name: str, files: str) -> Path:
    """Return the folder of a known data set under BNAS_DATA.

    Args:
        files: that it must hold, for the error.
    Raises:
        DataError: BNAS_DATA is not set, or has no such folder.
    """
    root = os.environ.get("BNAS_DATA")
    if not root:
        raise DataError(
            f"data set {name!r}: BNAS_DATA is not set; set it to the folder that holds {name}/ with {files}, or use "
            "digits, which need no files"
        )
    folder = Path(root).expanduser() / name
    if not folder.is_dir():
        has = ", ".join(sorted(path.name for path in folder.parent.glob("*/"))) or "no folder"
        raise DataError(
            f"data set {name!r}: BNAS_DATA={root} has no folder {name}, but {has}; put {files} there, or use digits"
        )
    return folder


def _idx(folder: Path, part: str, count: int) -> Part:
    """Return a split whose labels are read now and whose images are read when they are asked for."""
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
    images = folder / f"{part}-images-idx3-ubyte.gz"
    if labels.shape != (count,):
        raise DataError(f"{folder}: {part} must have {count} labels, but has {len(labels)}; fetch the files again")
    read = partial(_read_images, images, count)
    return Part(f"mnist: {part}", Labels(labels.astype(np.int64)), _MNIST_SHAPE, read, partial(of_files, [images]))


def _read_images(path: Path, count: int, size: Shape | None) -> Tensor:
    images = read_idx(path, dimensions=3)
    if images.shape != (count, *_MNIST_SHAPE[1:]):
        raise DataError(f"{path} must hold {count} images of 28 x 28, but holds {images.shape}; fetch the files again")
    return resized(torch.from_numpy(images.copy()).unsqueeze(1), "data set mnist", size)
