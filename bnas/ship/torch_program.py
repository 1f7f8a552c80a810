"""A `Program` -> a torch module of float32 that computes the same: what a packed network is measured against."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.runtime.lanes import dense
from bnas.runtime.program import Program
from bnas.runtime.steps import (
    Add,
    Affine,
    Argmax,
    Channels,
    Clip,
    Concat,
    Conv,
    Flatten,
    Multiply,
    Pool,
    PReLU,
    Sigmoid,
    Step,
    Threshold,
)


class TorchProgram(nn.Module):
    """Images [batch, channels, height, width] -> logits [batch, classes]; bits are -1.0 and +1.0."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.steps = program.steps
        for number, step in enumerate(program.steps):
            for name, values in _constants(step).items():
                self.register_buffer(f"{name}_{number}", torch.from_numpy(values))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        slots = [images]
        for number, step in enumerate(self.steps):
            held = {name: getattr(self, f"{name}_{number}") for name in _NAMES if hasattr(self, f"{name}_{number}")}
            slots.append(_MEANINGS[type(step)](step, held, *(slots[slot] for slot in step.inputs)))
        return slots[-1].flatten(1)


def _constants(step: Step) -> dict[str, Any]:
    """Return the arrays of a step, by one of `_NAMES`."""
    if isinstance(step, Conv):
        experts, out = step.filters.shape[:2]
        bank = np.stack([dense(step, expert) for expert in range(experts)])
        bias = {} if step.bias is None else {"bias": np.broadcast_to(step.bias, out).astype(np.float32)}
        return {"weight": bank if experts > 1 else bank[0]} | bias
    if isinstance(step, Threshold):
        return {"at": _column(step.at), "high": _column(np.where(step.flip, -1.0, 1.0))}
    if isinstance(step, Affine):
        parts = {"scale": step.scale, "shift": step.shift}
        return {name: _column(values) for name, values in parts.items() if values is not None}
    return {"slope": np.array(step.slope, np.float32)} if isinstance(step, PReLU) else {}


_NAMES = ("weight", "bias", "at", "high", "scale", "shift", "slope")


def _column(values: Any) -> Any:
    return np.array(values, np.float32).reshape(1, -1, 1, 1)


def _conv(step: Conv, held: dict[str, Tensor], x: Tensor, choice: Tensor | None = None) -> Tensor:
    above, below, left, right = step.padding
    pads: Any = (above, left)
    if step.pad_value or (above, left) != (below, right):
        x, pads = F.pad(x, (left, right, above, below), value=float(step.pad_value)), 0
    weight, bias = held["weight"], held.get("bias")
    if choice is None:
        return F.conv2d(x, weight, bias, step.stride, pads, step.dilation, step.groups)
    filters = weight.index_select(0, choice.flatten()).flatten(0, 1)  # of each image its own, as groups of one image
    groups = len(x) * step.groups
    y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), filters, None, step.stride, pads, step.dilation, groups)
    y = y.view(len(x), -1, *y.shape[2:])
    return y if bias is None else y + bias.view(1, -1, 1, 1)


def _threshold(step: Threshold, held: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.where(x >= held["at"], held["high"], -held["high"])


def _affine(step: Affine, held: dict[str, Tensor], x: Tensor) -> Tensor:
    scaled = x * held["scale"] if "scale" in held else x
    return scaled + held["shift"] if "shift" in held else scaled


def _prelu(step: PReLU, held: dict[str, Tensor], x: Tensor) -> Tensor:
    return F.prelu(x, held["slope"]) if step.slope.any() else F.relu(x)


def _pool(step: Pool, held: dict[str, Tensor], x: Tensor) -> Tensor:
    if step.mean and step.kernel == x.shape[2:] and not any(step.padding):
        return x.mean((2, 3), keepdim=True)
    if step.mean:
        return F.avg_pool2d(x, step.kernel, step.stride, step.padding, step.ceil, step.count_padding)
    return F.max_pool2d(x, step.kernel, step.stride, step.padding, 1, step.ceil)


def _channels(step: Channels, held: dict[str, Tensor], x: Tensor) -> Tensor:
    times = -(-(step.start + step.count) // x.shape[1])
    return (x.repeat(1, times, 1, 1) if times > 1 else x)[:, step.start : step.start + step.count]


_MEANINGS: dict[type[Step], Callable[..., Tensor]] = {
    Conv: _conv,
    Argmax: lambda step, held, x: x.argmax(1),
    Threshold: _threshold,
    Affine: _affine,
    PReLU: _prelu,
    Clip: lambda step, held, x: x.clamp(step.low, step.high),
    Sigmoid: lambda step, held, x: x.sigmoid(),
    Add: lambda step, held, x, y: x + y,
    Multiply: lambda step, held, x, y: x * y,
    Pool: _pool,
    Channels: _channels,
    Concat: lambda step, held, *parts: torch.cat(parts, 1),
    Flatten: lambda step, held, x: x.flatten(1)[:, :, None, None],
}
