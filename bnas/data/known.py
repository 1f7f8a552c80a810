"""The data sets that have a name of their own."""

import os
from pathlib import Path

import numpy as np
import torch

from bnas.data.dataset import Labelled, Raw
from bnas.data.idx import read_idx
from bnas.data.resize import Shape
from bnas.data.tables import parquet
from bnas.errors import DataError

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
