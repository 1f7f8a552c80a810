"""The filters of a convolution -> constants of an ONNX model: as float32, or as bits that standard operators unpack."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from bnas.runtime.filters import RealFilters, SignFilters
from bnas.runtime.steps import Conv
from bnas.ship.onnx_files.graph import Array, Graph

# Returns the tensor that holds `high` where a sign is true and `low` elsewhere.
Weights = Callable[[Graph, NDArray[np.bool_], Array, Array], str]

_SHIFTS = np.arange(7, -1, -1, dtype=np.uint8)  # the first of eight weights is in the highest bit


def as_floats(graph: Graph, signs: NDArray[np.bool_], high: Array, low: Array) -> str:
    """Hold every weight as a float32."""
    return graph.constant(np.where(signs, high, low))


def as_bits(graph: Graph, signs: NDArray[np.bool_], high: Array, low: Array) -> str:
    """Hold eight weights in a byte; readers that fold constants unpack them once, as they load the model."""
    spread = graph.node(
        "BitShift", [graph.constant(np.packbits(signs)[:, None]), graph.constant(_SHIFTS)], direction="RIGHT"
    )
    bits = graph.node("BitwiseAnd", [spread, graph.constant(np.uint8(1))])
    row = graph.node("Reshape", [graph.node("Cast", [bits], to=TensorProto.BOOL), graph.constant([-1])])
    if signs.size % 8:
        row = graph.node("Slice", [row, graph.constant([0]), graph.constant([signs.size])])
    shaped = graph.node("Reshape", [row, graph.constant(signs.shape)])
    return graph.node(
        "Where", [shaped, graph.constant(high.astype(np.float32)), graph.constant(low.astype(np.float32))]
    )


def filters_of(graph: Graph, step: Conv, weights: Weights) -> str:
    """Return the filters of a convolution without experts, [out, in / groups, rows, columns]."""
    filters = step.filters
    if isinstance(filters, RealFilters):
        return graph.constant(filters.values[0])
    high, low = (values.reshape(-1, 1, 1, 1) for values in _two_values(filters))
    return weights(graph, filters.signs(0), high, low)


def banks_of(graph: Graph, step: Conv, weights: Weights) -> list[str]:
    """Return for each row of the kernel the weights of all experts, [experts, groups, out in a group, columns x in]."""
    experts, out, ins, rows, columns = step.filters.shape
    shape = (experts, step.groups, out // step.groups, columns * ins)
    filters = step.filters
    if isinstance(filters, RealFilters):
        return [graph.constant(_row(filters.values, row).reshape(shape)) for row in range(rows)]
    high, low = (
        np.broadcast_to(values, (len(values), out)).reshape(len(values), step.groups, -1, 1)
        for values in _two_values(filters)
    )
    signs = np.stack([filters.signs(expert) for expert in range(experts)])
    return [weights(graph, _row(signs, row).reshape(shape), high, low) for row in range(rows)]


def _row(banks: Array, row: int) -> Array:
    """Return a row of the kernels [experts, out, in / groups, rows, columns], columns before channels."""
    return banks[:, :, :, row].swapaxes(2, 3)


def _two_values(filters: SignFilters) -> tuple[Array, Array]:
    """Return what +1 and -1 stand for, each [experts or 1, out or 1], in float64."""
    scale = filters.scale.astype(np.float64)
    offset = np.zeros((1, 1)) if filters.offset is None else filters.offset.astype(np.float64)
    return scale + offset, offset - scale
