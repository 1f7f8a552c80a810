"""Averages as convolutions, for hls4ml: it reads no average pool, and takes the mean of all pixels along wrong axes."""

from dataclasses import replace

import numpy as np

from bnas.runtime.filters import RealFilters
from bnas.runtime.naive import MEANINGS
from bnas.runtime.program import Program
from bnas.runtime.simplify import without_unread
from bnas.runtime.steps import Conv, Pool, Value
from bnas.ship.onnx_files.graph import Array


def without_means(program: Program) -> Program:
    """Return a program whose real 1x1 convolutions average what they read themselves, where all windows are whole."""
    steps = list(program.steps)
    for number, step in enumerate(steps):
        slot = step.inputs[0]
        pool = program.steps[slot - 1] if slot else None
        if isinstance(step, Conv) and isinstance(pool, Pool) and pool.mean and _takes_pixels_one_by_one(step):
            x = program.values[pool.inputs[0]]
            if (corrections(pool, x) == 1).all():
                steps[number] = _averaging(pool, x, step)
    return without_unread(Program(program.input, tuple(steps)))


def mean_as_conv(pool: Pool, x: Value) -> Conv:
    """Return the convolution that sums up each window of each channel and divides by its size, cut or not."""
    channels = np.eye(x.channels)[None, :, :, None, None]
    return _averaging(pool, x, Conv(pool.inputs, RealFilters(channels)))


def corrections(pool: Pool, x: Value) -> Array:
    """Return what the results of `mean_as_conv` are to be multiplied with, [height, width]: 1 where nothing is cut."""
    one = x._replace(channels=1)
    ones = np.ones((1, 1, x.height, x.width))
    mean, summed = MEANINGS[Pool](pool, ones), MEANINGS[Conv](mean_as_conv(pool, one), ones)
    pixels = np.rint(summed[0, 0] * np.prod(pool.kernel))
    return np.asarray(mean[0, 0] * (np.prod(pool.kernel) / pixels))


def _averaging(pool: Pool, x: Value, step: Conv) -> Conv:
    """Return a 1x1 convolution of the means of windows as one of what is in them."""
    filters = step.filters
    assert isinstance(filters, RealFilters)
    repeated = np.broadcast_to(filters.values / np.prod(pool.kernel), (*filters.shape[:3], *pool.kernel))
    made = pool.value(x)
    sizes = zip(made[2:], pool.stride, pool.kernel, x[2:], pool.padding, strict=True)
    ends = [max(0, (count - 1) * stride + taps - side - before) for count, stride, taps, side, before in sizes]
    padding = (pool.padding[0], ends[0], pool.padding[1], ends[1])
    return replace(step, inputs=pool.inputs, filters=RealFilters(repeated), stride=pool.stride, padding=padding)


def _takes_pixels_one_by_one(step: Conv) -> bool:
    filters = step.filters
    is_real = isinstance(filters, RealFilters) and filters.shape[0] == 1 and filters.shape[3:] == (1, 1)
    return is_real and step.stride == (1, 1) and step.groups == 1 and not any(step.padding) and len(step.inputs) == 1
