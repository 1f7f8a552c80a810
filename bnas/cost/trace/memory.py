"""Tensors -> the memory behind them: which of them share it, what it was computed from, when it was last read."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, UntypedStorage
from torch.utils.weak import WeakIdKeyDictionary


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
            self._known.setdefault(_place(tensor), memory)

    def of(self, tensor: Tensor, *, step: int) -> Memory:
        """Return the memory behind a tensor; one never met before was made by this step."""
        place = _place(tensor)
        known: Memory | None = self._known.get(place)
        if known is None:
            values = tensor.numel() if isinstance(place, Tensor) else place.nbytes() // tensor.element_size()
            known = self._known[place] = Memory(real_values(values, tensor), step)
            self.made.append(known)
        return known


def real_values(count: int, tensor: Tensor) -> int:
    """Return how many real numbers so many values of a tensor are: a complex one is two."""
    return 2 * count if tensor.is_complex() else count


def _place(tensor: Tensor) -> Tensor | UntypedStorage:
    """Return what tensors that share values have in common: their storage; a sparse tensor, which has none, itself."""
    try:
        return tensor.untyped_storage()
    except NotImplementedError:
        return tensor
