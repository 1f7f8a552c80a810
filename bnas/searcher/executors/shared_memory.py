"""Tensors by name <-> one block of memory, which processes share and of which each takes views."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes; vector instructions read aligned memory faster


class _Place(NamedTuple):
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def end(self) -> int:
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


Layout = dict[str, _Place]


def pack(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Layout]:
    """Return the bytes of all tensors in one uint8 tensor [bytes], and where each of them lies."""
    layout: Layout = {}
    end = 0
    for name, tensor in tensors.items():
        layout[name] = _Place(-(-end // _ALIGNMENT) * _ALIGNMENT, tuple(tensor.shape), tensor.dtype)
        end = layout[name].end
    block = torch.zeros(end, dtype=torch.uint8)
    for name, view in unpack(block, layout).items():
        view.copy_(tensors[name].detach())
    return block, layout


def unpack(block: Tensor, layout: Layout) -> dict[str, Tensor]:
    """Return the tensors that lie in a block, as views of it."""
    return {name: block[place.offset : place.end].view(place.dtype).view(place.shape) for name, place in layout.items()}
