"""What a binary layer gives beside the real one -> the scale and the shift of each channel that bring it closest."""

import torch
from torch import Tensor


class Fit:
    """Sums over all batches of a layer's real and binary outputs, and the least squares that follow from them.

    y = scale * binary + shift is what the scales and the bias of a binary layer, and a batch norm after it, can do to
    its output: what is lost beyond that are the bits.

    Args:
        channels: the dimension of the channels, from the right.
    """

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._sums = torch.zeros(())

    def add(self, binary: Tensor, real: Tensor) -> None:
        """Take in one batch of both outputs [batch, ...]."""
        x, y = (self._by_channel(values).double() for values in (binary, real))
        count = torch.full_like(x[0], len(x))
        self._sums = self._sums.to(x) + torch.stack((count, x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0)))

    def __call__(self, binary: Tensor) -> Tensor:
        """Return a binary output at the best scale and shift of what was taken in; a channel without spread is flat."""
        count, x, y, xx, xy = self._sums
        spread = count * xx - x * x
        scale = torch.where(spread > 1e-12 * count * xx, (count * xy - x * y) / spread, 0.0)
        shift = (y - scale * x) / count
        return self._spread_out(scale, binary) * binary + self._spread_out(shift, binary)

    def _by_channel(self, values: Tensor) -> Tensor:
        return values.movedim(self._channels, -1).reshape(-1, values.shape[self._channels])

    def _spread_out(self, values: Tensor, like: Tensor) -> Tensor:
        """Return one value a channel in a shape that broadcasts over the output."""
        shape = [1] * like.ndim
        shape[self._channels] = -1
        return values.to(like).view(shape)
