"""Tensors -> what is known of their values: which of them share memory, and how many bits they take."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, UntypedStorage
from torch.utils.weak import WeakIdKeyDictionary

from bnas.cost.trace.operators import Product
from bnas.space.values import Precision

_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_FEWEST = 3  # weights of a filter by which two values are no accident


@dataclass(eq=False)
class Memory:
    """The values behind one or several tensors that share them."""

    values: int
    made: int  # the step that made it; -1 for what was there before the model ran
    used: int = -1  # the last step that read it
    from_input: bool = False  # depends on the model's input; else it can be computed beforehand
    sources: frozenset[str] = frozenset()  # parameters and buffers that it was computed from
    name: str | None = None  # set if it is itself a parameter or buffer


class Memories:
    """All memories that a running model touches.

    Args:
        named: its parameters and buffers.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        self.made: list[Memory] = []  # while the model ran, in order
        self._known = WeakIdKeyDictionary()
        for name, tensor in named:
            memory = Memory(real_values(tensor.numel(), tensor), -1, sources=frozenset({name}), name=name)
            self._known.setdefault(place_of(tensor), memory)

    def of(self, tensor: Tensor, *, step: int) -> Memory:
        """Return the memory behind a tensor; one never met before was made by this step."""
        place = place_of(tensor)
        known: Memory | None = self._known.get(place)
        if known is None:
            values = tensor.numel() if isinstance(place, Tensor) else place.nbytes() // tensor.element_size()
            known = self._known[place] = Memory(real_values(values, tensor), step)
            self.made.append(known)
        return known


def real_values(count: int, tensor: Tensor) -> int:
    """Return how many real numbers so many values of a tensor are: a complex one is two."""
    return 2 * count if tensor.is_complex() else count


def place_of(tensor: Tensor) -> Tensor | UntypedStorage:
    """Return what tensors that share values have in common: their storage; a sparse tensor, which has none, itself."""
    try:
        return tensor.untyped_storage()
    except NotImplementedError:
        return tensor


class Bits(NamedTuple):
    """What one bit a value is enough for, and the values a filter's two are made with."""

    precision: Precision = "real"
    scales: int = 0  # for each filter: a factor, and an offset where the two values are not opposite


def bits_of(product: Product, data: Tensor, weight: Tensor, *, weight_is_left: bool) -> Bits:
    """Return whether each filter has two values only, and the input one magnitude.

    Args:
        data, weight: the sides of a product, one of which does not depend on the model's input.
        weight_is_left: of a matrix product, whose rows are then the filters; else they are its columns.
    """
    if weight.is_meta or weight.dtype not in _REAL or data.dtype not in _REAL:
        return Bits()
    filters = _filters(product, weight, is_left=weight_is_left)
    if filters.shape[1] < _FEWEST or not _two_valued(filters[:1]) or not _two_valued(filters):
        return Bits()
    low, high = filters.aminmax(dim=1)
    if bool((low == high).all()) or bool(((filters != 0).sum(1) <= 1).all()):
        return Bits()  # of one value, or passing one input through: more likely set by hand than made of bits
    scales = 2 if bool((low != -high).any()) else int(bool((high != 1).any()))
    return Bits("binary" if _one_magnitude(data, is_image=product.kind != "matmul") else "weight", scales)


def _filters(product: Product, weight: Tensor, *, is_left: bool) -> Tensor:
    """Return the weights behind each output channel, [out, fan_in]."""
    if product.kind == "matmul":
        return (weight if is_left else weight.transpose(1, 2)).flatten(0, 1)
    if product.kind == "transposed":
        return weight.unflatten(0, (product.groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1)
    return weight.flatten(1)


def _two_valued(filters: Tensor) -> bool:
    low, high = filters.aminmax(dim=1, keepdim=True)
    return bool(((filters == low) | (filters == high)).all())


def _one_magnitude(x: Tensor, *, is_image: bool) -> bool:
    """Say whether all values are as far from zero; but for zeros in all channels of an image, as padding has them."""
    if not x.numel():
        return False
    size = x.abs().amax()
    has_it = x.abs() == size
    if is_image and x.shape[1] > 1:
        has_it |= (x == 0).all(1, keepdim=True)
    return bool(size > 0) and bool(has_it.all())
