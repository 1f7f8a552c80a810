"""What torch does value by value -> steps."""

import numpy as np
from torch import Tensor

from bnas.runtime.filters import Reals
from bnas.runtime.steps import Add, Affine, Clip, Multiply, PReLU, Sigmoid
from bnas.ship.lowering.draft import CannotLower, Draft, Factor, Lowered, Lowering, array


def _relu(draft: Draft, x: Lowered) -> int:
    return draft.add(PReLU((x.slot,), np.zeros(1)))


def _leaky(draft: Draft, x: Lowered, slope: float = 0.01) -> int:
    return draft.add(PReLU((x.slot,), np.full(1, float(slope))))


def _prelu(draft: Draft, x: Lowered, slope: Tensor) -> int:
    return draft.add(PReLU((x.slot,), array(slope).reshape(-1)))


def _clip(draft: Draft, x: Lowered, low: float | None = None, high: float | None = None) -> int:
    limits = (-np.inf if low is None else float(low), np.inf if high is None else float(high))
    return draft.add(Clip((x.slot,), *limits))


def _hardtanh(draft: Draft, x: Lowered, low: float = -1, high: float = 1) -> int:
    return _clip(draft, x, low, high)


def _relu6(draft: Draft, x: Lowered) -> int:
    return _clip(draft, x, 0, 6)


def _sigmoid(draft: Draft, x: Lowered) -> int:
    return draft.add(Sigmoid((x.slot,)))


def _tanh(draft: Draft, x: Lowered) -> int:
    return draft.affine(draft.add(Sigmoid((draft.affine(x.slot, 2),))), 2, -1)


def _silu(draft: Draft, x: Lowered) -> int:
    return draft.add(Multiply((x.slot, _sigmoid(draft, x))))


def _hardsigmoid(draft: Draft, x: Lowered) -> int:
    return draft.add(Clip((draft.affine(x.slot, 1 / 6, 1 / 2),), 0, 1))


def _hardswish(draft: Draft, x: Lowered) -> int:
    return draft.add(Multiply((x.slot, _hardsigmoid(draft, x))))


def _add(draft: Draft, x: Lowered | Factor, y: Lowered | Factor, *, alpha: float = 1) -> int:
    if not isinstance(x, Lowered):
        assert isinstance(y, Lowered)
        return draft.add(Affine((y.slot,), np.full(1, float(alpha)), _constant(x, y)))
    if not isinstance(y, Lowered):
        return draft.add(Affine((x.slot,), None, alpha * _constant(y, x)))
    scaled = y if alpha == 1 else y._replace(slot=draft.affine(y.slot, alpha))
    return draft.add(Add(_broadcast(draft, x, scaled)))


def _sub(draft: Draft, x: Lowered | Factor, y: Lowered | Factor, *, alpha: float = 1) -> int:
    return _add(draft, x, y, alpha=-alpha)


def _reversed_sub(draft: Draft, x: Lowered, y: Lowered | Factor, alpha: float = 1) -> int:
    return _sub(draft, y, x, alpha=alpha)


def _multiply(draft: Draft, x: Lowered | Factor, y: Lowered | Factor) -> int:
    if not isinstance(x, Lowered):
        x, y = y, x
    assert isinstance(x, Lowered)
    if not isinstance(y, Lowered):
        return draft.add(Affine((x.slot,), _constant(y, x)))
    return draft.add(Multiply(_broadcast(draft, x, y)))


def _divide(draft: Draft, x: Lowered, y: Factor) -> int:
    if isinstance(y, Lowered) or not isinstance(x, Lowered):
        raise CannotLower("a division by a value that depends on the image has no step")
    return draft.add(Affine((x.slot,), 1 / _constant(y, x)))


def _negate(draft: Draft, x: Lowered) -> int:
    return draft.affine(x.slot, -1)


def _constant(factor: Factor, beside: Lowered) -> Reals:
    """Return a constant operand as one value, or one a channel."""
    values = array(factor) if isinstance(factor, Tensor) else np.full((), float(factor))
    if values.size == 1:
        return values.reshape(1)
    aligned = values.reshape((1,) * (len(beside.shape) - values.ndim) + values.shape)
    if aligned.ndim != len(beside.shape) or aligned.size != aligned.shape[1]:
        raise CannotLower(f"a constant of {list(values.shape)} beside {list(beside.shape)} is not one value a channel")
    return aligned.reshape(-1)


def _broadcast(draft: Draft, x: Lowered, y: Lowered) -> tuple[int, int]:
    """Return the slots of two operands, that of one pixel second."""
    if len(x.shape) != len(y.shape):
        raise CannotLower(f"{list(x.shape)} beside {list(y.shape)} would mix images of a batch")
    a, b = draft.values[x.slot], draft.values[y.slot]
    if a.channels != b.channels or (a.pixels != b.pixels and 1 not in (a.pixels, b.pixels)):
        raise CannotLower(f"{list(x.shape)} beside {list(y.shape)} has no step; one pixel a channel, or all, do")
    return (y.slot, x.slot) if a.pixels < b.pixels else (x.slot, y.slot)


POINTWISE: dict[str, Lowering] = {
    "aten.relu.default": _relu,
    "aten.leaky_relu.default": _leaky,
    "aten.prelu.default": _prelu,
    "aten._prelu_kernel.default": _prelu,
    "aten.hardtanh.default": _hardtanh,
    "aten.relu6.default": _relu6,
    "aten.clamp.default": _clip,
    "aten.clamp_min.default": _clip,
    "aten.sigmoid.default": _sigmoid,
    "aten.tanh.default": _tanh,
    "aten.silu.default": _silu,
    "aten.hardsigmoid.default": _hardsigmoid,
    "aten.hardswish.default": _hardswish,
    "aten.add.Tensor": _add,
    "aten.add.Scalar": _add,
    "aten.sub.Tensor": _sub,
    "aten.sub.Scalar": _sub,
    "aten.rsub.Scalar": _reversed_sub,
    "aten.rsub.Tensor": _reversed_sub,
    "aten.mul.Tensor": _multiply,
    "aten.mul.Scalar": _multiply,
    "aten.div.Tensor": _divide,
    "aten.div.Scalar": _divide,
    "aten.neg.default": _negate,
}
