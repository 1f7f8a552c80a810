"""A layer with binary weights -> how its filters lie on the image, the same words for every kind of layer."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from bnas.errors import ExportError
from bnas.layers import BinaryConv, ExpertConv
from bnas.layers.binary_conv import both, same_padding
from bnas.runtime.steps import Pair
from bnas.torch_inside import AnyConv, AnyTransposedConv


class Geometry(NamedTuple):
    """Rows and columns; an image of one dimension is one row."""

    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # above, below, left, right
    dilation: Pair = (1, 1)
    groups: int = 1

    def size(self, height: int, width: int) -> Pair:
        """Return height and width of the output."""
        above, below, left, right = self.padding
        padded = (height + above + below, width + left + right)
        parts = zip(padded, self.kernel, self.stride, self.dilation, strict=True)
        rows, columns = ((side - (taps - 1) * gap - 1) // step + 1 for side, taps, step, gap in parts)
        return rows, columns


def geometry(path: str, layer: nn.Module) -> Geometry:
    """Return how a layer's filters lie on the image; a linear layer's is one pixel.

    Raises:
        ExportError: the layer is transposed, or pads with something other than one value.
    """
    if isinstance(layer, BinaryConv | ExpertConv):
        rows, columns = layer.padding if isinstance(layer, BinaryConv) else same_padding(layer.kernel)
        padding = (rows, rows, columns, columns)
        return Geometry(layer.out_channels, both(layer.kernel), (layer.stride,) * 2, padding, groups=layer.groups)
    if isinstance(layer, AnyTransposedConv):
        raise ExportError(f"{path}: cannot be lowered: a packed network has no transposed convolution")
    if isinstance(layer, AnyConv):
        if layer.padding_mode != "zeros":
            raise ExportError(
                f"{path}: cannot be lowered: it pads by {layer.padding_mode}, but a packed network pads with one value"
            )
        rank = layer.weight.ndim
        kernel, stride, dilation = (pair(sizes, rank, 1) for sizes in (layer.kernel_size, layer.stride, layer.dilation))
        padding = padding_of(layer.padding, kernel, dilation, rank)
        return Geometry(layer.out_channels, kernel, stride, padding, dilation, layer.groups)
    return Geometry(int(layer.get_parameter("weight").shape[0]), (1, 1))


def output_size(path: str, layer: nn.Module, shape: Sequence[int]) -> list[int]:
    """Return the shape of a layer's output for an input [batch, ...]; one without filters keeps it."""
    weight = layer._parameters.get("weight")
    if weight is None or weight.ndim < 2:
        return list(shape)
    found = geometry(path, layer)
    if weight.ndim == 2:
        return [*shape[:-1], found.out_channels]
    rows, columns = found.size(*pair(shape[2:], len(shape), 1))
    return [shape[0], found.out_channels, *((rows, columns) if len(shape) == 4 else (columns,))]


def padding_of(padding: str | Sequence[int], kernel: Pair, dilation: Pair, rank: int) -> tuple[int, int, int, int]:
    """Return rows above and below, columns left and right, from what torch is told for images [batch, ...]."""
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":  # the odd one, if any, below and at the right
        rows, columns = ((taps - 1) * gap for taps, gap in zip(kernel, dilation, strict=True))
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2
    assert not isinstance(padding, str)
    rows, columns = pair(padding, rank, 0)
    return rows, rows, columns, columns


def pair(sizes: Sequence[int], rank: int, rows: int) -> Pair:
    """Return sizes by rows and columns; for images of one dimension, [batch, channels, width], the rows are given."""
    if len(sizes) == 1:
        return (rows if rank == 3 else int(sizes[0]), int(sizes[0]))
    return int(sizes[0]), int(sizes[1])
