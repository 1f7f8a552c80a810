"""Images and labels -> a checksum that tells them from others, without decoding what is not decoded yet.

What is in memory counts with every byte. What lies on a disk counts with the names and sizes of image files, in their
order, and with the bytes of the files that hold many images: all of them up to 256 MiB a file, else the first and last
MiB and 254 others spread evenly between. Of what some program of a user's reads, 64 images count, spread evenly.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from bnas.data.stream import Images, Stream
from bnas.errors import DataError

_WHOLE_BYTES = 2**28
_BLOCK_BYTES = 2**20
_SAMPLE = 64  # images


def of_split(images: Images, labels: Tensor) -> str:
    """Return the checksum of images, in memory or on a disk, and of their labels, in their order."""
    if isinstance(images, Tensor):
        return of_parts(of_tensor(images), of_tensor(labels))
    identity = images.identity() if images.identity else _of_some(images)
    return of_parts(identity, str(images.shape), of_tensor(images.rows), of_tensor(labels))


def _of_some(images: Stream) -> str:
    places = torch.linspace(0, len(images) - 1, min(_SAMPLE, len(images))).long()
    return of_parts(*(of_tensor(batch) for batch in images.batches(places, _SAMPLE, workers=0)))


def of_tensor(tensor: Tensor) -> str:
    """Return the checksum of a tensor's kind, shape and values."""
    values = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{values.dtype} {list(values.shape)}".encode())
    digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def of_parts(*parts: str) -> str:
    """Return one checksum of several texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def of_image_files(root: Path, paths: Iterable[str]) -> str:
    """Return the checksum of the names below a folder, and the sizes, of files with one image each.

    Raises:
        DataError: one is gone.
    """
    begin = len(str(root))
    return of_parts(*(f"{path[begin:]} {_size(path)}" for path in paths))


def of_files(paths: Iterable[Path]) -> str:
    """Return the checksum of the bytes of files with many images each.

    Raises:
        DataError: one cannot be read.
    """
    return of_parts(*map(_of_file, paths))


def _of_file(path: Path) -> str:
    size = _size(path)
    digest = hashlib.sha256(str(size).encode())
    blocks = _WHOLE_BYTES // _BLOCK_BYTES
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
            return digest.hexdigest()
        for number in range(blocks):
            file.seek((size - _BLOCK_BYTES) * number // (blocks - 1))
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError as problem:
        raise DataError(f"{path}: cannot be read any more: {problem.strerror}; put it back") from problem
