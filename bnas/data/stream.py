"""Images that are decoded when they are asked for -> batches, or a tensor where they are few enough for memory."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bnas.data.resize import Shape, resize
from bnas.errors import DataError

IN_MEMORY_BYTES = 2 * 2**30  # decoded images beyond this stay on disk

_MOST_WORKERS = 8
_ALONE = 4_096  # up to so many images, starting workers takes longer than decoding here
_LOADED_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Stream(Dataset[Tensor]):
    """Images on disk; stands where a tensor [n, channels, height, width] would.

    Args:
        read: row numbers, int64 [batch] -> images [batch, channels, height, width]; must survive pickling.
        rows: the row numbers that belong here, int64 [n].
        image_shape: channels, height, width.
        dtype: of the images: uint8, or float32 in units of full scale.
        identity: text that tells all the images that can be read from others, made without decoding any.
    """

    read: Callable[[Tensor], Tensor]
    rows: Tensor
    image_shape: Shape
    dtype: torch.dtype = torch.uint8
    identity: Callable[[], str] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.rows), *self.image_shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> Tensor | DataError:
        """Return one batch; the loader calls this in its workers."""
        # A worker's exception would come back wrapped in its traceback, so the error travels in place of the batch.
        try:
            return self.read(self.rows[indices])
        except DataError as problem:
            return problem

    def select(self, indices: Tensor) -> "Stream":
        """Return the images at these places, in this order."""
        return replace(self, rows=self.rows[indices])

    def resized(self, size: tuple[int, int]) -> "Stream":
        """Return the images in this height and width, each resized when it is read."""
        read = partial(_read_resized, self.read, size)
        return replace(self, read=read, image_shape=(self.image_shape[0], *size))

    def batches(self, order: Tensor, batch_size: int, *, workers: int = -1, pinned: bool = False) -> Iterator[Tensor]:
        """Yield batches of images.

        Args:
            order: places, int64 [m], in the order they are wanted.
            batch_size: images a batch; the last may be short.
            workers: processes that decode; 0 decodes here, -1 takes one for each core, up to eight.
            pinned: put the batches where the copy to a GPU is faster.
        Raises:
            DataError: an image cannot be read.
        """
        loader = DataLoader(
            self,
            batch_size=batch_size,
            sampler=order.tolist(),
            num_workers=min(_MOST_WORKERS, _cores()) if workers < 0 else workers,
            collate_fn=_as_it_is,
            pin_memory=pinned,
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch

    def in_memory(self) -> "Images":
        """Return the decoded images [n, channels, height, width], or the stream itself where they would be too many.

        Raises:
            DataError: an image cannot be read.
        """
        channels, height, width = self.image_shape
        if len(self) * channels * height * width * self.dtype.itemsize > IN_MEMORY_BYTES:
            return self
        images = torch.empty(self.shape, dtype=self.dtype)
        workers = 0 if len(self) <= _ALONE else -1
        parts = images.split(_LOADED_AT_ONCE)
        loaded = self.batches(torch.arange(len(self)), _LOADED_AT_ONCE, workers=workers)
        for part, batch in zip(parts, loaded, strict=True):
            part.copy_(batch)
        return images


Images = Tensor | Stream  # [n, channels, height, width]


def pick(images: Images, indices: Tensor) -> Images:
    """Return the images at these places (int64 [m]), in this order."""
    return images.select(indices) if isinstance(images, Stream) else images.index_select(0, indices)


def joined(first: Images, second: Images) -> Images:
    """Return the images of both, those of the second behind the others; what lies on a disk stays there."""
    dtype = first.dtype if first.dtype == second.dtype else torch.float32
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat((_in_dtype(first, dtype), _in_dtype(second, dtype)))
    _, channels, height, width = first.shape
    rows = torch.arange(len(first) + len(second))
    return Stream(partial(_read_either, first, second, dtype), rows, (channels, height, width), dtype)


def _read_either(first: Images, second: Images, dtype: torch.dtype, rows: Tensor) -> Tensor:
    images = torch.empty(len(rows), *first.shape[1:], dtype=dtype)
    behind = rows >= len(first)
    for part, places, own in ((first, ~behind, rows), (second, behind, rows - len(first))):
        if places.any():
            found = part.read(part.rows[own[places]]) if isinstance(part, Stream) else part[own[places]]
            images[places] = _in_dtype(found, dtype)
    return images


def _in_dtype(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return images in this dtype; uint8 becomes floating point in units of full scale."""
    return images if images.dtype == dtype else images.to(dtype) / (255 if images.dtype == torch.uint8 else 1)


def _read_resized(read: Callable[[Tensor], Tensor], size: tuple[int, int], rows: Tensor) -> Tensor:
    return resize(read(rows), size)


def _cores() -> int:
    """Return how many cores this process may use; a pinned one may not use all that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _as_it_is(batch: Any) -> Any:
    return batch
