"""A layer of ours, a convolution or a linear layer, trained -> the steps that it is at inference."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnas.layers import Binarized, BinaryLayer, ExpertConv, RPReLU, RSign
from bnas.runtime.filters import Filters, RealFilters, SignFilters
from bnas.runtime.steps import Affine, Argmax, Conv, PReLU, Threshold
from bnas.ship.lowering.draft import CannotLower, Draft, Lowered, Lowering, array
from bnas.ship.lowering.geometry import geometry, padding_of, pair


def lower_whole(draft: Draft, slot: int, path: str, layer: nn.Module) -> int:
    """Add the steps of one of our layers and return the slot of its output.

    Raises:
        CannotLower: it is not in its final form, or its binarizer is none.
        ExportError: its filters lie on the image as no packed filters can.
    """
    if isinstance(layer, BinaryLayer):
        return _lower_binary(draft, slot, path, layer)
    if isinstance(layer, RSign):
        _check_sign(layer.binarize_input, layer.activations)
        return _signs(draft, draft.add(Affine((slot,), None, -array(layer.threshold))))
    if isinstance(layer, RPReLU):
        bent = draft.add(PReLU((draft.add(Affine((slot,), None, -array(layer.before))),), array(layer.slope)))
        return draft.add(Affine((bent,), None, array(layer.after)))
    return draft.add(PReLU((slot,), array(layer.get_parameter("weight"))))


def norm_step(slot: int, norm: nn.Module) -> Affine:
    """Return a batch norm in evaluation as one affine step.

    Raises:
        CannotLower: it has no statistics.
    """
    mean, variance, eps = norm.running_mean, norm.running_var, norm.eps
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        raise CannotLower("a batch norm without statistics of its own depends on the other images of a batch")
    return norm_affine(slot, norm.weight, norm.bias, mean, variance, float(eps))  # type: ignore[arg-type]


def norm_affine(
    slot: int, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, eps: float
) -> Affine:
    """Return weight (x - mean) / sqrt(variance + eps) + bias as one affine step, in float64.

    Args:
        weight, bias, mean, variance: [channels]; without weight it is 1, without bias 0.
    Raises:
        CannotLower: a variance is negative, or 0 and nothing is added to it.
    """
    spread = array(variance) + eps
    if not (spread > 0).all():
        raise CannotLower(f"a batch norm divides by the root of {spread.min():g}, its variance and its eps of {eps:g}")
    scale = 1 / np.sqrt(spread)
    scale = scale if weight is None else array(weight) * scale
    shift = -array(mean) * scale
    return Affine((slot,), scale, shift if bias is None else array(bias) + shift)


def _lower_binary(draft: Draft, slot: int, path: str, layer: BinaryLayer) -> int:
    for name in ("real_weights", "real_inputs"):
        if getattr(layer, name):
            raise CannotLower(f"it computes with real values, as for a stage of training; set {name} = False")
    norm = layer.norm if isinstance(layer, Binarized) else None
    choice = _choice(draft, slot, layer) if isinstance(layer, ExpertConv) and layer.experts > 1 else ()
    if layer.precision == "binary":
        slot = slot if norm is None else draft.add(norm_step(slot, norm))
        _check_sign(layer.binarize_input, layer.activations)
        slot = _signs(draft, slot)
    bias = getattr(layer, "bias", None)
    found = geometry(path, layer)
    return draft.add(
        Conv(
            (slot, *choice), _filters(layer, found.kernel), found.stride, found.padding, found.dilation, found.groups,
            pad_value=int(getattr(layer, "pad_value", 0)), bias=None if bias is None else array(bias),
        )
    )  # fmt: skip


def _signs(draft: Draft, slot: int) -> int:
    if draft.values[slot].kind == "bits":
        return slot  # each is its own sign
    return draft.add(Threshold((slot,), np.zeros(1), np.zeros(1, np.bool_)))


def _choice(draft: Draft, slot: int, layer: ExpertConv) -> tuple[int]:
    """Add the gate, and the argmax of what it gives."""
    weight, bias = array(layer.gate.weight), array(layer.gate.bias)
    gate = Conv((draft.mean(slot),), RealFilters(weight[None, :, :, None, None]), bias=bias)
    return (draft.add(Argmax((draft.add(gate),))),)


def _filters(layer: BinaryLayer, kernel: tuple[int, int]) -> Filters:
    """Return the filters of all experts."""
    latent = layer.as_filters(layer.weight.detach())
    banks = latent if isinstance(layer, ExpertConv) else latent[None]
    shape = (*banks.shape[:3], *kernel)
    if layer.alpha is None:
        return RealFilters(array(banks).reshape(shape))
    with torch.no_grad():
        binary = layer.binarize_weight(banks).times(layer.alpha.view(-1, 1, 1, 1))
    if not bool(((binary.sign == 1) | (binary.sign == -1)).all()):
        raise CannotLower(f"weight binarizer {layer.weights!r} gives signs other than -1 and +1 in evaluation")
    offset = None if binary.offset is None else _two(binary.offset, banks, layer.weights)
    scale = _two(binary.scale, banks, layer.weights)
    return SignFilters.of((binary.sign > 0).cpu().numpy().reshape(shape), scale, offset)


def _two(values: Tensor, banks: Tensor, name: str) -> Any:
    """Return what broadcasts over filters [experts, out, in, kh, kw] as [experts, out]; one row where all are alike."""
    one_each = (*banks.shape[:2], 1, 1, 1)
    if np.broadcast_shapes(values.shape, one_each) != one_each:
        raise CannotLower(
            f"weight binarizer {name!r} gives values {list(values.shape)} for filters {list(banks.shape)}, where one a "
            "filter is needed"
        )
    rows = array(values.broadcast_to(one_each)).reshape(one_each[:2])
    return rows[:1] if (rows == rows[:1]).all() else rows


def _check_sign(binarize: Callable[[Tensor], Tensor], name: str) -> None:
    """Raise CannotLower unless an activation binarizer is the sign, with that of 0 being +1."""
    probe = torch.tensor([-3.0, -1.0, -0.3, -1e-30, 0.0, 1e-30, 0.4, 1.0, 7.0])
    with torch.no_grad():
        found = binarize(probe.view(1, -1, 1, 1)).flatten()
    if not torch.equal(found, torch.where(probe >= 0, 1.0, -1.0)):
        raise CannotLower(f"activation binarizer {name!r} is not the sign with sign(0) = +1")


def _conv(
    draft: Draft,
    x: Lowered,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: str | Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> int:
    if not isinstance(weight, Tensor):
        raise CannotLower("the weights of a convolution are computed from the image")
    values = array(weight)
    values = values[:, :, None] if values.ndim == 3 else values
    rank = len(x.shape)
    kernel, gaps = (values.shape[2], values.shape[3]), pair(dilation, rank, 1)
    return draft.add(
        Conv(
            (x.slot,), RealFilters(values[None]), pair(stride, rank, 1),
            padding_of(padding, kernel, gaps, rank), gaps, groups, bias=None if bias is None else array(bias),
        )
    )  # fmt: skip


def _linear(draft: Draft, x: Lowered, weight: Tensor, bias: Tensor | None = None) -> int:
    if not isinstance(weight, Tensor):
        raise CannotLower("the weights of a linear layer are computed from the image")
    filters = RealFilters(array(weight)[None, :, :, None, None])
    return draft.add(Conv((flat(x),), filters, bias=None if bias is None else array(bias)))


def flat(x: Lowered) -> int:
    """Return the slot of a vector for each image.

    Raises:
        CannotLower: it is no vector.
    """
    if len(x.shape) != 2:
        raise CannotLower(f"a linear layer over [batch, features] has steps, but this one gets {list(x.shape)}")
    return x.slot


def _norm(
    draft: Draft, x: Lowered, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor,
    of_batch: bool, _: float, eps: float, *__: bool,
) -> int:  # fmt: skip
    if of_batch:
        raise CannotLower("a batch norm without statistics of its own has no step in a packed network")
    return draft.add(norm_affine(x.slot, weight, bias, mean, variance, eps))


def _norm_at_rest(draft: Draft, x: Lowered, *values: Any) -> list[int]:
    weight, bias, mean, variance, _, eps = values
    return [draft.add(norm_affine(x.slot, weight, bias, mean, variance, eps))]


PRODUCTS: dict[str, Lowering] = {
    "aten.conv1d.default": _conv,
    "aten.conv1d.padding": _conv,
    "aten.conv2d.default": _conv,
    "aten.conv2d.padding": _conv,
    "aten.linear.default": _linear,
    "aten.batch_norm.default": _norm,
    "aten._native_batch_norm_legit_no_training.default": _norm_at_rest,
}
