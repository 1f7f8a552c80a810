"""A running model -> the products that it computes, where, and which values are still needed meanwhile."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from bnas.cost.plan import Uncounted
from bnas.cost.trace.operators import PRODUCTS, Product, is_composite, name_of, needs_no_count, product_of
from bnas.cost.trace.plain_model import tensors_in
from bnas.cost.trace.summed_products import SumsOfProducts
from bnas.cost.trace.values import Bits, Memories, Memory, bits_of, real_values
from bnas.torch_inside import OperatorMode


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
    values: int  # real ones, without those that are there by expansion only


class Seen(NamedTuple):
    """One product that ran."""

    call: Call
    step: int
    product: Product
    left: Operand
    right: Operand
    bits: Bits  # of its weights and input, by their values


class RunWatch(OperatorMode):
    """A record of every operator that a model runs, and of every module it calls.

    Args:
        model: its modules get hooks, so pass a copy.
        is_whole: says whether a module is counted as a whole; products right inside it are left out of `done`.
    """

    def __init__(self, model: nn.Module, is_whole: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self._wholes = {module for module in model.modules() if is_whole(module)}
        self.step = 0
        self.running = [Call("", model, 0)]
        self.failed = ""  # the innermost module that raised an error last, while nothing has run since
        self.calls: list[Call] = []
        self.done: list[Seen] = []
        self.uncounted: dict[Uncounted, None] = {}  # in the order of their first occurrence
        self.memories = Memories([*model.named_parameters(), *model.named_buffers()])
        self._sums = SumsOfProducts()
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
        memories = [self.memory(tensor) for tensor in tensors_in(result)]
        for memory in memories:
            memory.used = self.step
        if memories and not any(memory.from_input for memory in memories):
            self._leave_out(self.running[-1], "output", "no operator of torch leads to it from the input")

    def memory(self, tensor: Tensor) -> Memory:
        """Return the memory behind a tensor; one never met before was made by the last step."""
        return self.memories.of(tensor, step=self.step)

    def _follow(self, path: str, module: nn.Module) -> None:
        """Let a module tell when it starts and ends."""

        def start(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = Call(path, module, self.step)
            tensors = tensors_in((args, kwargs))
            call.shape, call.reads = _shape(tensors), tuple(map(self.memory, tensors))
            self.running.append(call)
            self.failed = ""
            self.calls.append(call)

        def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            call = self.running.pop()
            call.end, call.out_shape = self.step, _shape(tensors_in(output))
            if output is None:  # it failed, which the model may catch
                self.calls.remove(call)
            self.failed = (self.failed or path) if output is None else ""

        module.register_forward_pre_hook(start, prepend=True, with_kwargs=True)
        module.register_forward_hook(end, with_kwargs=True, always_call=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        self.step += 1
        read = [self.memory(tensor) for tensor in tensors_in((args, kwargs))]
        from_input = any(memory.from_input for memory in read)
        sources = frozenset[str]().union(*(memory.sources for memory in read))
        for memory in read:
            memory.used = self.step
        for tensor in tensors_in(out):
            made = self.memory(tensor)
            made.from_input |= from_input
            made.sources |= sources
        name = name_of(func)
        if name in PRODUCTS:
            self._count(name, args, out, from_input)
        elif not from_input or self._in_a_whole():
            self._sums.sees(func, name, args, kwargs, out)
        elif not needs_no_count(func):
            self._leave_out(self.running[-1], name, "this operator is not known to the count")
        elif self._sums.sees(func, name, args, kwargs, out):
            self._leave_out(self.running[-1], name, "it adds up products of single values, which are not counted")
        return out

    def _in_a_whole(self) -> bool:
        return self.running[-1].module in self._wholes

    def _count(self, name: str, args: Any, out: Any, from_input: bool) -> None:
        if self._in_a_whole():
            return
        call, sides = self.running[-1], product_of(name, args, out)
        if sides is None:
            self._leave_out(call, name, "only dense products are counted")
        elif not from_input:
            self._leave_out(call, name, "does not depend on the input, so it is taken as computed beforehand")
        else:
            (left, right), product = sides
            operands = self._operand(left), self._operand(right)
            self.done.append(Seen(call, self.step, product, *operands, self._bits(product, left, right)))

    def _bits(self, product: Product, left: Tensor, right: Tensor) -> Bits:
        """Return how many bits a product's values take; two that both come from the input are no weights."""
        if not self.memory(right).from_input:
            return bits_of(product, left, right, weight_is_left=False)
        return Bits() if self.memory(left).from_input else bits_of(product, right, left, weight_is_left=True)

    def _operand(self, tensor: Tensor) -> Operand:
        distinct = real_values(1, tensor)
        for side, stride in zip(tensor.shape, tensor.stride(), strict=True):
            distinct *= side if stride else 1
        return Operand(self.memory(tensor), int(tensor.storage_offset()), distinct)

    def _leave_out(self, call: Call, operator: str, why: str) -> None:
        self.uncounted[Uncounted(call.path, operator, why)] = None


def _shape(tensors: list[Tensor]) -> tuple[int, ...]:
    return tuple(tensors[0].shape) if tensors else ()
