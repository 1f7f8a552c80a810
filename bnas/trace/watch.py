"""A running model -> the products that it computes, where, and which values are still needed meanwhile."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from bnas.trace.operators import PRODUCTS, Product, is_free, name_of


@dataclass(eq=False)
class Memory:
    """The values behind one or several tensors that share them."""

    values: int
    made: int  # the step that made it; -1 for what was there before the model ran
    used: int = -1  # the last step that read it
    from_input: bool = False  # depends on the model's input; else it can be computed beforehand
    sources: frozenset[str] = frozenset()  # parameters and buffers that it was computed from
    name: str | None = None  # set if it is itself a parameter or buffer


class Uncounted(NamedTuple):
    """Something that a trace did not count."""

    path: str  # of the module
    operator: str
    why: str

    def __str__(self) -> str:
        return f"{self.path or 'the model itself'}: {self.operator}: {self.why}"


@dataclass(eq=False)
class Call:
    """One call of a module, from the step before it to its last."""

    path: str
    module: nn.Module
    start: int
    end: int = -1
    shape: tuple[int, ...] = ()  # of its first input
    out_shape: tuple[int, ...] = ()  # of its first output
    reads: tuple[Memory, ...] = ()


class Operand(NamedTuple):
    """One side of a product."""

    memory: Memory
    offset: int  # of its first value in the memory
    values: int  # without those that are there by expansion only


class Done(NamedTuple):
    """One product that ran."""

    call: Call
    step: int
    product: Product
    left: Operand
    right: Operand


class Watch(TorchDispatchMode):
    """A record of every operator that a model runs, and of every module it calls.

    Args:
        model: its modules get hooks, so pass a copy.
        wholes: modules that are counted as a whole; products right inside them are left out of `done`.
    """

    def __init__(self, model: nn.Module, wholes: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.wholes = wholes
        self.step = 0
        self.running = [Call("", model, 0)]
        self.calls: list[Call] = []
        self.done: list[Done] = []
        self.uncounted: dict[Uncounted, None] = {}  # in the order of their first occurrence
        self.memories: list[Memory] = []
        self._known = WeakIdKeyDictionary()
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            memory = Memory(tensor.numel(), -1, sources=frozenset({name}), name=name)
            self._known.setdefault(tensor.untyped_storage(), memory)
        for path, module in model.named_modules():
            self._follow(path, module)

    def given(self, inputs: Iterable[Tensor]) -> None:
        """Note the tensors that the model is called with."""
        for tensor in inputs:
            memory = self.memory(tensor)
            memory.made, memory.from_input = -1, True

    def returned(self, result: Any) -> None:
        """Note what the model returned: it is needed to the end."""
        self.step += 1
        for tensor in _tensors(result):
            self.memory(tensor).used = self.step

    def memory(self, tensor: Tensor) -> Memory:
        """Return the memory behind a tensor; one never met before was made by the last step."""
        storage = tensor.untyped_storage()
        known: Memory | None = self._known.get(storage)
        if known is None:
            known = Memory(storage.nbytes() // tensor.element_size(), self.step)
            self._known[storage] = known
            self.memories.append(known)
        return known

    def _follow(self, path: str, module: nn.Module) -> None:
        """Let a module tell when it starts and ends."""

        def start(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = Call(path, module, self.step)
            tensors = _tensors((args, kwargs))
            call.shape, call.reads = _shape(tensors), tuple(map(self.memory, tensors))
            self.running.append(call)
            self.calls.append(call)

        def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            call = self.running.pop()
            call.end, call.out_shape = self.step, _shape(_tensors(output))

        module.register_forward_pre_hook(start, prepend=True, with_kwargs=True)
        module.register_forward_hook(end, with_kwargs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.step += 1
        read = [self.memory(tensor) for tensor in _tensors((args, kwargs))]
        from_input = any(memory.from_input for memory in read)
        sources = frozenset[str]().union(*(memory.sources for memory in read))
        for memory in read:
            memory.used = self.step
        for tensor in _tensors(out):
            made = self.memory(tensor)
            made.from_input |= from_input
            made.sources |= sources
        self._count(func, args, out, from_input)
        return out

    def _count(self, func: Any, args: Any, out: Any, from_input: bool) -> None:
        name, call = name_of(func), self.running[-1]
        if name not in PRODUCTS:
            if from_input and not is_free(func):
                self._leave_out(call, name, "this operator is not known to the count")
            return
        if isinstance(call.module, self.wholes):
            return
        sides = PRODUCTS[name](args, out)
        if sides is None:
            self._leave_out(call, name, "only convolutions over one or two dimensions are counted")
        elif not from_input:
            self._leave_out(call, name, "does not depend on the input, so it is taken as computed beforehand")
        else:
            (left, right), product = sides
            self.done.append(Done(call, self.step, product, self._operand(left), self._operand(right)))

    def _operand(self, tensor: Tensor) -> Operand:
        distinct = 1
        for side, stride in zip(tensor.shape, tensor.stride(), strict=True):
            distinct *= side if stride else 1
        return Operand(self.memory(tensor), int(tensor.storage_offset()), distinct)

    def _leave_out(self, call: Call, operator: str, why: str) -> None:
        self.uncounted[Uncounted(call.path, operator, why)] = None


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _shape(tensors: list[Tensor]) -> tuple[int, ...]:
    return tuple(tensors[0].shape) if tensors else ()
