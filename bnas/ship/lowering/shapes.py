"""What torch does with channels and pixels, pooling, joining, taking, another shape -> steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bnas.runtime.filters import RealFilters
from bnas.runtime.steps import Affine, Channels, Concat, Conv, Flatten, Pool
from bnas.ship.lowering.draft import CannotLower, Draft, Lowered, Lowering, value_shape
from bnas.ship.lowering.geometry import pair


def _max_pool(
    draft: Draft, x: Lowered, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,), ceil: bool = False,
) -> int:  # fmt: skip
    if any(gap != 1 for gap in dilation):
        raise CannotLower("a pooling with dilation has no step")
    return _pooled(draft, x, False, kernel, stride, padding, ceil, True)


def _max_pool_with_places(draft: Draft, x: Lowered, *arguments: Any) -> list[int]:
    return [_max_pool(draft, x, *arguments)]


def _mean_pool(
    draft: Draft, x: Lowered, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    ceil: bool = False, count_padding: bool = True, divisor: int | None = None,
) -> int:  # fmt: skip
    if divisor is not None:
        raise CannotLower("a mean with a divisor of its own has no step")
    return _pooled(draft, x, True, kernel, stride, padding, ceil, count_padding)


def _pooled(
    draft: Draft, x: Lowered, mean: bool, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    ceil: bool, count_padding: bool,
) -> int:  # fmt: skip
    rank = len(x.shape)
    taps = pair(kernel, rank, 1)
    steps = pair(stride, rank, 1) if len(stride) else taps
    return draft.add(Pool((x.slot,), mean, taps, steps, pair(padding, rank, 0), ceil, count_padding))


def _adaptive_mean(draft: Draft, x: Lowered, size: Sequence[int | None]) -> int:
    value = draft.values[x.slot]
    sides = (value.height, value.width)
    wanted = pair([side if side is not None else -1 for side in size], len(x.shape), 1)
    taps = tuple(side // max(count, 1) for side, count in zip(sides, wanted, strict=True))
    if any(tap * count != side for tap, side, count in zip(taps, sides, wanted, strict=True)):
        raise CannotLower(f"a mean of {sides} to {wanted} has windows of several sizes")
    return draft.add(Pool((x.slot,), True, (taps[0], taps[1]), (taps[0], taps[1])))


def _over(mean: bool) -> Lowering:
    def lowering(draft: Draft, x: Lowered, dims: Sequence[int] | None = None, keep: bool = False, **_: Any) -> int:
        rank, value = len(x.shape), draft.values[x.slot]
        over = {dim % rank for dim in dims or ()}
        if not over or over & {0, 1}:
            raise CannotLower(f"over dimensions {dims} of {list(x.shape)} it mixes channels or images")
        kernel = (value.height if rank == 4 and 2 in over else 1, value.width if rank - 1 in over else 1)
        return draft.add(Pool((x.slot,), mean, kernel, kernel))

    return lowering


def _cat(draft: Draft, parts: Sequence[Lowered | Tensor], dim: int = 0) -> int:
    if not all(isinstance(part, Lowered) for part in parts):
        raise CannotLower("a constant joined to what depends on the image has no step")
    if dim % len(parts[0].shape) != 1:
        raise CannotLower(f"joining along dimension {dim} has no step; along channels does")
    slots = [part.slot for part in parts if isinstance(part, Lowered)]
    return slots[0] if len(slots) == 1 else draft.add(Concat(tuple(slots)))


def _slice(
    draft: Draft, x: Lowered, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> int:
    size = x.shape[dim]
    first, last, _ = slice(start, end).indices(size)
    if (first, last, step) == (0, size, 1):
        return x.slot
    rank, place = len(x.shape), dim % len(x.shape)
    if place > 1 and (first, last) == (0, size):  # a window of one pixel is that pixel
        return draft.add(Pool((x.slot,), False, (1, 1), (step, 1) if place == rank - 2 else (1, step)))
    if place != 1 or step != 1 or last <= first:
        raise CannotLower(
            f"a slice of dimension {dim} from {first} to {last} in steps of {step} has no step; of channels one by "
            "one, or of all pixels of a side, does"
        )
    return draft.add(Channels((x.slot,), first, last - first))


def _split(draft: Draft, x: Lowered, sizes: int | Sequence[int], dim: int = 0) -> list[int]:
    total = x.shape[dim]
    if isinstance(sizes, int):
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    return [_slice(draft, x, dim, start, start + size) for start, size in zip(starts, sizes, strict=True)]


def _chunk(draft: Draft, x: Lowered, count: int, dim: int = 0) -> list[int]:
    return _split(draft, x, -(-x.shape[dim] // count), dim)


def _repeat(draft: Draft, x: Lowered, times: Sequence[int]) -> int:
    if len(times) != len(x.shape) or any(count != 1 for dim, count in enumerate(times) if dim != 1):
        raise CannotLower(f"repeating {list(times)} times has no step; channels alone does")
    return draft.add(Channels((x.slot,), 0, x.shape[1] * times[1])) if times[1] != 1 else x.slot


def _padded(
    draft: Draft, x: Lowered, padding: Sequence[int], mode: str = "constant", value: float | None = None
) -> int:
    """Add pixels of zeros round an image, and channels of one value before and after."""
    rank, pairs = len(x.shape), list(zip(padding[::2], padding[1::2], strict=True))  # from the last dimension on
    (left, right), (above, below), (before, after) = _sides(pairs, rank)
    border, value = (above, below, left, right), value or 0.0
    wrong = mode != "constant" or min(padding) < 0 or any(map(any, pairs[rank - 1 :])) or (value and any(border))
    if wrong:
        raise CannotLower(f"{mode} padding by {list(padding)} with {value:g} has no step; of pixels with 0 does")
    slot = x.slot
    if any(border):
        slot = draft.add(Conv((slot,), RealFilters(np.eye(x.shape[1])[None, :, :, None, None]), padding=border))
    sides = [
        [draft.add(Affine((draft.add(Channels((slot,), 0, count)),), np.zeros(1), np.full(1, value)))] if count else []
        for count in (before, after)
    ]
    slots = (*sides[0], slot, *sides[1])
    return draft.add(Concat(slots)) if len(slots) > 1 else slot


def _sides(pairs: Sequence[tuple[int, int]], rank: int) -> list[tuple[int, int]]:
    """Return what is padded of columns, of rows and of channels, given from the last dimension on."""
    given = [*pairs, (0, 0), (0, 0), (0, 0)]
    pixels = given[: rank - 2]
    return [*pixels, *[(0, 0)] * (2 - len(pixels)), given[rank - 2]]


def _pixels_to_channels(draft: Draft, x: Lowered, block: int) -> int:
    """Let the pixels of each block become channels of one: filters of which each takes one pixel."""
    made = x.shape[1] * block**2
    return draft.add(
        Conv((x.slot,), RealFilters(np.eye(made).reshape(1, made, x.shape[1], block, block)), (block, block))
    )


def reshaped(draft: Draft, x: Lowered, *_: Any, shape: Sequence[int]) -> int:
    """Add what gives values another shape, and return the slot.

    Args:
        shape: the batch first.
    Raises:
        CannotLower: images do not stay apart, or it is neither a flattening nor a change of ones.
    """
    value, wanted = draft.values[x.slot], value_shape(shape)
    if shape[0] == x.shape[0] and wanted == value[1:]:
        return x.slot
    if shape[0] == x.shape[0] and wanted == (value.channels * value.pixels, 1, 1):
        return draft.add(Flatten((x.slot,)))
    raise CannotLower(f"{list(x.shape)} as {list(shape)} has no step; flattening each image, or adding pixels, does")


def same(draft: Draft, x: Lowered, *_: Any, **__: Any) -> int:
    """Return the slot of an operator that changes nothing at inference."""
    return x.slot


def _dropout(draft: Draft, x: Lowered, share: float, draws: bool) -> int:
    if draws and share > 0:
        raise CannotLower("dropout draws in evaluation too; write F.dropout(x, training=self.training)")
    return x.slot


SHAPES: dict[str, Lowering] = {
    "aten.dropout.default": _dropout,
    "aten.feature_dropout.default": _dropout,
    "aten.max_pool1d.default": _max_pool,
    "aten.max_pool2d.default": _max_pool,
    "aten.max_pool2d_with_indices.default": _max_pool_with_places,
    "aten.avg_pool1d.default": _mean_pool,
    "aten.avg_pool2d.default": _mean_pool,
    "aten.adaptive_avg_pool1d.default": _adaptive_mean,
    "aten.adaptive_avg_pool2d.default": _adaptive_mean,
    "aten._adaptive_avg_pool2d.default": _adaptive_mean,
    "aten.mean.dim": _over(mean=True),
    "aten.amax.default": _over(mean=False),
    "aten.cat.default": _cat,
    "aten.pad.default": _padded,
    "aten.pixel_unshuffle.default": _pixels_to_channels,
    "aten.slice.Tensor": _slice,
    "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split,
    "aten.chunk.default": _chunk,
    "aten.repeat.default": _repeat,
}

RESHAPES = frozenset({
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
    "aten.unflatten.int", "aten.unsqueeze.default", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims",
    "aten.expand.default",
})  # fmt: skip
SAME = frozenset({
    "aten.alias.default", "aten.clone.default", "aten.contiguous.default", "aten.detach.default",
    "aten.lift_fresh_copy.default", "aten._to_copy.default",
    "aten.to.dtype", "aten.identity.default",
})  # fmt: skip
NOTHING = frozenset({"aten._assert_tensor_metadata.default"})  # they check, and give nothing
