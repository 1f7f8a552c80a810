"""Nodes and constants, one after the other -> an ONNX model, checked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnas.runtime.program import Program
from bnas.runtime.steps import Step

Array = NDArray[Any]
# Writes a step's nodes, given the tensors that it reads, and returns the one that holds what it computes.
Writer = Callable[["Graph", Any, list[str]], str]

INPUT, OUTPUT = "images", "logits"
BATCH = "batch"  # the name of the open dimension
IR_VERSION = {13: 7, 18: 8}  # by opset: what came with it, so that a reader of one can read the other
_KINDS = {"b": np.bool_, "f": np.float32, "i": np.int64}


class Graph:
    """A model in the making.

    Attributes:
        names: of the tensors that the slots of the program are, as far as it is written.
    """

    def __init__(self, program: Program, *, batch: int | str = BATCH) -> None:
        self.program = program
        self.names = [INPUT]
        self.batch = batch
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def write(self, writers: Mapping[type[Step], Writer]) -> None:
        """Write every step."""
        for step in self.program.steps:
            self.names.append(writers[type(step)](self, step, [self.names[slot] for slot in step.inputs]))

    def constant(self, values: Any) -> str:
        """Return the name of a new constant: float32, int64, bool or uint8, as its values are.

        No two nodes read the same one, for there are readers that change what a node reads in its place.
        """
        array = np.asarray(values)
        array = np.ascontiguousarray(array, _KINDS.get(array.dtype.kind, array.dtype)).reshape(array.shape)
        self._constants.append(numpy_helper.from_array(array, f"c{len(self._constants)}"))
        return str(self._constants[-1].name)

    def column(self, values: Array) -> str:
        """Return a constant of one value a channel."""
        return self.constant(values.astype(np.float32).reshape(1, -1, 1, 1))

    def node(self, kind: str, inputs: Sequence[str], *, outputs: int = 1, **attributes: Any) -> str:
        """Add a node and return the name of what it writes; of several outputs the first, as in `NAME`, `NAME_1`.

        The node has the same name, by which hls4ml looks for what a Reshape writes.
        """
        name = f"{kind}_{len(self._nodes)}"
        made = [name, *(f"{name}_{number}" for number in range(1, outputs))]
        self._nodes.append(helper.make_node(kind, inputs, made, name=name, **attributes))
        return made[0]

    def result(self, name: str) -> None:
        """Call what a node writes the logits."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [OUTPUT if other == name else other for other in names]

    def model(self, *, opset: int, metadata: Mapping[str, str], domains: Sequence[str] = ()) -> onnx.ModelProto:
        """Return what was written, with its metadata.

        Args:
            domains: of operators that are not standard.
        """
        shapes = {INPUT: self.program.input, OUTPUT: (self.program.classes,)}
        images, logits = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch, *shape])
            for name, shape in shapes.items()
        )
        graph = helper.make_graph(self._nodes, "network", [images], [logits], self._constants)
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)],
            ir_version=IR_VERSION[opset], producer_name="bnas",
        )  # fmt: skip
        helper.set_model_props(made, dict(metadata))
        onnx.checker.check_model(made, full_check=not domains)
        return made
