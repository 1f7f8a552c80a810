"""The filters of a convolution -> constants and their BipolarQuant: whole, by group, or turned by input channel."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bnas.runtime.filters import Filters, RealFilters, SignFilters
from bnas.runtime.lanes import dense
from bnas.runtime.steps import Conv
from bnas.ship.onnx_files.graph import Array, Graph

DOMAIN = "qonnx.custom_op.general"


def bits_of(step: Conv) -> SignFilters | None:
    """Return filters that are nothing but signs and a scale."""
    filters = step.filters
    return filters if isinstance(filters, SignFilters) and filters.offset is None else None


def bipolar(graph: Graph, x: str) -> str:
    """Write the signs of what is 0 or more as +1, of the rest as -1."""
    return graph.node("BipolarQuant", [x, graph.constant(1.0)], domain=DOMAIN)


def weights_of(graph: Graph, step: Conv, *, is_matrix: bool = False) -> str:
    """Write filters without their scale, or [in, out] of a linear layer; with an offset they are real numbers."""
    bits = bits_of(step)
    values = dense(step, 0) if bits is None else np.where(bits.signs(0), 1.0, -1.0)
    held = graph.constant(values[:, :, 0, 0].T if is_matrix else values)
    return held if bits is None else bipolar(graph, held)


def turned(filters: SignFilters, flip: Array, groups: int) -> SignFilters:
    """Return filters with the weights of some input channels turned round."""
    experts, out, ins = filters.shape[:3]
    each = flip.reshape(groups, ins).repeat(out // groups, 0)[:, :, None, None]
    signs = np.stack([filters.signs(expert) ^ each for expert in range(experts)])
    return SignFilters.of(signs, filters.scale, filters.offset)


def groups_of(step: Conv) -> Iterator[Conv]:
    """Yield each group of a convolution without experts as a convolution of its own."""
    filters, out = step.filters, step.filters.shape[1] // step.groups
    for first in range(0, step.filters.shape[1], out):
        if isinstance(filters, RealFilters):
            part: Filters = RealFilters(filters.values[:, first : first + out])
        else:
            scale, offset = (_some(values, first, out) for values in (filters.scale, filters.offset))
            part = SignFilters.of(filters.signs(0)[None, first : first + out], scale, offset)
        yield replace(step, groups=1, filters=part)


def _some(values: Array | None, first: int, count: int) -> Any:
    return values if values is None or values.shape[1] == 1 else values[:, first : first + count]
