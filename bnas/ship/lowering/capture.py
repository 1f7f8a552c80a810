"""A trained `nn.Module` -> the graph of torch operators that it runs on an image, our own layers left whole."""

import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from bnas.errors import ExportError
from bnas.layers import BinaryLayer, PReLU, RPReLU, RSign
from bnas.select.conversion import at_rest
from bnas.ship.lowering.geometry import output_size

BATCH = 2  # images in the example: one could be told apart from a dimension of one no more
WHOLE = (BinaryLayer, PReLU, RPReLU, RSign)
NEW = ("add", "batch_norm", "cat", "conv1d", "conv2d", "layer", "linear", "mul", "sub")  # results that share no memory

Shape = tuple[int, ...]


@torch.library.custom_op("bnas::layer", mutates_args=())
def whole_layer(x: Tensor, path: str, shape: list[int]) -> Tensor:
    """Stand for one of our layers in a graph; its path says which."""
    return x.new_empty(shape)


@whole_layer.register_fake
def _(x: Tensor, path: str, shape: list[int]) -> Tensor:
    return x.new_empty(shape)


class Captured(NamedTuple):
    """A graph without in-place operators, and the tensors that it takes beside the image."""

    graph: Graph
    constants: dict[str, Tensor]  # by the name of their node
    image: str  # name of the image's node
    result: Node


def capture(model: nn.Module, input_shape: Shape, *, known: Container[str] = ()) -> Captured:
    """Return what a model does with images of a shape [channels, height, width]; the model stays as it is.

    Args:
        known: names of operators; where there are others, torch makes simpler ones of those that it can.
    Raises:
        ExportError: the model cannot be followed, or gives something other than one tensor.
    """
    around: list[str] = []
    with at_rest(model) as stack, _stand_ins(model):
        for path, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(lambda _m, _a, path=path: around.append(path)).remove)
            stack.callback(module.register_forward_hook(lambda _m, _a, _o: _pop(around)).remove)
        try:
            example = torch.zeros(BATCH, *input_shape, dtype=_dtype(model))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch.export warns of itself
                program = _functional(torch.export.export(model, (example,), strict=False), known)
        except ExportError:
            raise
        except Exception as problem:  # whatever a model or the export runs into
            where = next((path for path in reversed(around) if path), "the model")
            lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
            raise ExportError(
                f"{where}: cannot be lowered: it cannot be followed by torch.export: "
                f"{type(problem).__name__}: {(lines or ['without a message'])[0][:200]}"
            ) from problem
    return _of_program(program)


def _functional(program: ExportedProgram, known: Container[str]) -> ExportedProgram:
    """Return a program without in-place operators.

    Those that write into what nothing else reads get the names of others; torch, which takes three times as long as the
    export itself, rewrites only programs with more of them, or with operators that are not known.
    """
    operators = [node for node in program.graph.nodes if isinstance(node.target, OpOverload)]
    others = [_not_in_place(node) if node.target._schema.is_mutable else node.target for node in operators]
    if any(str(other) not in known for other in others):
        return program.run_decompositions({})
    for node, other in zip(operators, others, strict=True):
        node.target = other
    return program


def _not_in_place(node: Node) -> OpOverload | None:
    """Return the operator that gives what an in-place one writes; None where something else may read that too."""
    written, operator = node.args[0], node.target
    assert isinstance(operator, OpOverload)
    made = written.target if isinstance(written, Node) and len(written.users) == 1 else None
    if not isinstance(made, OpOverload) or _kind(made) not in NEW or not operator._schema.name.endswith("_"):
        return None
    found: OpOverload | None = getattr(getattr(torch.ops.aten, _kind(operator), None), operator._overloadname, None)
    return found


def _kind(operator: OpOverload) -> str:
    """Return the name of an operator, in place or not."""
    return operator._schema.name.partition("::")[2].removesuffix("_")


def _of_program(program: Any) -> Captured:
    signature, state = program.graph_signature, {**program.state_dict, **program.constants}
    names = signature.inputs_to_parameters | signature.inputs_to_buffers | signature.inputs_to_lifted_tensor_constants
    (result,) = (node for node in program.graph.nodes if node.op == "output")
    outputs = [node for node in result.args[0] if not isinstance(node, Node) or node.name in signature.user_outputs]
    if len(outputs) != 1 or not isinstance(outputs[0], Node) or not isinstance(outputs[0].meta.get("val"), Tensor):
        raise ExportError(
            f"the model: cannot be lowered: it gives {len(outputs)} results, but a packed network gives logits alone; "
            "wrap it in a module that returns them"
        )
    if len(signature.user_inputs) != 1:
        raise ExportError("the model: cannot be lowered: it takes more than one image")
    constants = {node: state[name].detach() for node, name in names.items()}
    return Captured(program.graph, constants, signature.user_inputs[0], outputs[0])


def path_of(node: Node) -> str:
    """Return the path of the module in which an operator runs."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return (stack[-1][0] if stack else "") or "the model"


@contextmanager
def _stand_ins(model: nn.Module) -> Iterator[None]:
    """Let our layers put themselves into the graph whole."""
    layers = [(path, module) for path, module in model.named_modules() if isinstance(module, WHOLE)]
    try:
        for path, module in layers:
            vars(module)["forward"] = _stand_in(path, module)
        yield
    finally:
        for _, module in layers:
            del vars(module)["forward"]


def _stand_in(path: str, module: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(input: Tensor) -> Tensor:
        made: Tensor = torch.ops.bnas.layer(input, path, output_size(path, module, input.shape))
        return made

    return forward


def _pop(around: list[str]) -> None:
    around.pop()


def _dtype(model: nn.Module) -> torch.dtype:
    return next((value.dtype for value in model.parameters() if value.is_floating_point()), torch.float32)
