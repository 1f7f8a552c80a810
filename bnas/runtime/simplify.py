"""A `Program` -> one of fewer steps that computes the same: what stands before a threshold moves into it, and what
scales a convolution into its filters.

Arithmetic is in float64; `rounded` makes float32 of the result.
"""

from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

import numpy as np

from bnas.runtime.filters import RealFilters, Reals, SignFilters
from bnas.runtime.program import Program
from bnas.runtime.steps import Affine, Clip, Conv, Pool, PReLU, Step, Threshold, Value

Chain = tuple[Step, ...]  # each reads the one before; the first reads what the first of the two steps read
Rule = Callable[[Any, Any, Value], Chain | None]


def simplified(program: Program) -> Program:
    """Return an equal program with as few steps as the rules give."""
    made = _Rewriting(program)
    for number, step in enumerate(program.steps):
        made.add(number, step)
    return without_unread(Program(program.input, tuple(made.steps)))


def without_unread(program: Program) -> Program:
    """Return the program without the steps whose values nothing reads."""
    wanted = {len(program.steps)}
    for number in range(len(program.steps) - 1, -1, -1):
        if number + 1 in wanted:
            wanted.update(program.steps[number].inputs)
    place = {slot: index for index, slot in enumerate(sorted(wanted | {0}))}
    kept = [step for number, step in enumerate(program.steps) if number + 1 in wanted]
    return Program(
        program.input, tuple(replace(step, inputs=tuple(place[slot] for slot in step.inputs)) for step in kept)
    )


class _Rewriting:
    """Steps made so far, where each old slot went, and how many steps will read it."""

    def __init__(self, program: Program) -> None:
        self.steps: list[Step] = []
        self._values = [program.values[0]]
        self._place = {0: 0}
        self._uses = [len(program.readers[0])]
        self._old = program

    def add(self, number: int, step: Step) -> None:
        """Add an old step, merged with those before it as far as the rules go."""
        uses = len(self._old.readers[number + 1])
        chain: Chain = (replace(step, inputs=tuple(self._place[slot] for slot in step.inputs)),)
        while (merged := self._merged(chain[0])) is not None:
            chain = merged + chain[1:]
        slot = chain[0].inputs[0]
        for index, part in enumerate(chain, 1):
            slot = self._append(replace(part, inputs=(slot, *part.inputs[1:])))
            self._uses[slot] += uses if index == len(chain) else 1
        self._place[number + 1] = slot

    def _merged(self, step: Step) -> Chain | None:
        """Return what stands for a step and the one it reads first, reading what that one reads; None: no rule does."""
        slot = step.inputs[0]
        before = self.steps[slot - 1] if slot else None
        rule = RULES.get((type(before), type(step)))
        if before is None or rule is None or (isinstance(before, Conv) and self._uses[slot] > 1):
            return None
        chain: Chain | None = rule(before, step, self._values[before.inputs[0]])
        if chain is None:
            return None
        if self._uses[slot] > 1:  # the one before stays for its other readers, and goes on reading its own input
            self._uses[slot] -= 1
            self._uses[before.inputs[0]] += 1
        return tuple(
            replace(part, inputs=before.inputs if not index else part.inputs) for index, part in enumerate(chain)
        )

    def _append(self, step: Step) -> int:
        """Add a step and return its slot; a pooling that is there already is not computed again."""
        if isinstance(step, Pool):
            for slot, other in enumerate(self.steps, 1):
                if isinstance(other, Pool) and astuple(other) == astuple(step):
                    return slot
        self.steps.append(step)
        self._values.append(step.value(*(self._values[slot] for slot in step.inputs)))
        self._uses.append(0)
        return len(self.steps)


def _affine_affine(before: Affine, step: Affine, _: Value) -> Chain:
    return (_then(before, *_factors(step)),)


def _conv_affine(before: Conv, step: Affine, _: Value) -> Chain:
    """Scale the filters and the bias."""
    scale, shift = _factors(step)
    bias = shift if before.bias is None else before.bias.astype(np.float64) * scale + shift
    return (replace(before, filters=_scaled(before.filters, scale), bias=bias if bias.any() else None),)


def _affine_conv(before: Affine, step: Conv, x: Value) -> Chain | None:
    """Scale the filters by input channel; what is shifted is a bias, if nothing is padded."""
    if not isinstance(step.filters, RealFilters) or any(step.padding) or step.filters.shape[0] > 1:
        return None
    values = step.filters.values.astype(np.float64)
    out, ins = values.shape[1:3]
    scale, shift = (
        np.repeat(np.broadcast_to(part, x.channels).reshape(step.groups, ins), out // step.groups, 0)
        for part in _factors(before)
    )
    bias = (values[0].sum((2, 3)) * shift).sum(1) + (0 if step.bias is None else step.bias.astype(np.float64))
    scaled = RealFilters(values * scale[None, :, :, None, None])
    return (replace(step, filters=scaled, bias=bias if bias.any() else None),)


def _conv_conv(before: Conv, step: Conv, x: Value) -> Chain | None:
    """Filters that only move pixels go into those that read them: each weight stays as it is."""
    read = step.filters
    if not isinstance(read, RealFilters) or len(read.values) > 1 or step.groups > 1 or step.dilation != (1, 1):
        return None
    if not _moves_pixels(before, x):
        return None
    assert isinstance(before.filters, RealFilters)
    moved, weight = before.filters.values[0].astype(np.float64), read.values[0].astype(np.float64)
    (_, ins, rows, columns), (out, _, height, width) = moved.shape, weight.shape
    joined = np.einsum("omij,mcab->ociajb", weight, moved).reshape(1, out, ins, height * rows, width * columns)
    blocks = (rows, rows, columns, columns)
    above, below, left, right = (
        pixels * side + more for pixels, side, more in zip(step.padding, blocks, before.padding, strict=True)
    )
    stride = (step.stride[0] * rows, step.stride[1] * columns)
    return (replace(step, filters=RealFilters(joined), stride=stride, padding=(above, below, left, right)),)


def _moves_pixels(conv: Conv, x: Value) -> bool:
    """Return whether every filter takes one pixel of its block, and the blocks make up the whole padded image."""
    values, (above, below, left, right) = conv.filters, conv.padding
    if not isinstance(values, RealFilters) or len(values.values) > 1 or conv.groups > 1 or conv.bias is not None:
        return False
    block = values.shape[3:]
    if conv.stride != block or conv.dilation != (1, 1):
        return False
    if (x.height + above + below) % block[0] or (x.width + left + right) % block[1]:
        return False
    return bool(((values.values == 0) | (values.values == 1)).all() and (values.values.sum((2, 3, 4)) == 1).all())


def _affine_threshold(before: Affine, step: Threshold, _: Value) -> Chain:
    """s x + b >= at is x >= (at - b) / s where s > 0, x <= that where s < 0, and b >= at where s = 0."""
    scale, shift = _factors(before)
    scale, shift, at, flip = np.broadcast_arrays(scale, shift, step.at.astype(np.float64), step.flip)
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = (at - shift) / scale
    # x <= cut is the opposite of x >= the next number after cut.
    moved = np.where(scale < 0, np.nextafter(cut, np.inf), cut)
    constant = np.where(shift >= at, -np.inf, np.inf)
    return (Threshold((), np.where(scale == 0, constant, moved), flip ^ (scale < 0)),)


def _prelu_threshold(before: PReLU, step: Threshold, _: Value) -> Chain | None:
    """A slope that is not negative keeps the order of values, so that the threshold moves below it."""
    slope, at, flip = np.broadcast_arrays(before.slope.astype(np.float64), step.at.astype(np.float64), step.flip)
    if (slope < 0).any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(slope > 0, at / slope, -np.inf)
    return (Threshold((), np.where(at > 0, at, below), flip),)


def _clip_threshold(before: Clip, step: Threshold, _: Value) -> Chain:
    at = np.where(step.at > before.high, np.inf, np.where(step.at <= before.low, -np.inf, step.at))
    return (Threshold((), at, step.flip),)


def _conv_threshold(before: Conv, step: Threshold, x: Value) -> Chain | None:
    """Between bits and bits stands a whole number, the same scale for all experts given: compare that one."""
    filters = before.filters
    if x.kind != "bits" or not isinstance(filters, SignFilters) or filters.offset is not None:
        return None
    if len(filters.scale) > 1 or (before.bias is None and (filters.scale == 1).all()):
        return None
    (moved,) = _affine_threshold(Affine((), filters.scale[0], before.bias), step, x)
    assert isinstance(moved, Threshold)
    whole = replace(before, filters=replace(filters, scale=np.ones((1, 1))), bias=None)
    return whole, replace(moved, at=np.ceil(moved.at))


def _affine_pool(before: Affine, step: Pool, x: Value) -> Chain | None:
    """The mean of all pixels, scaled, costs less than all pixels scaled."""
    if not step.mean or step.kernel != (x.height, x.width) or step.padding != (0, 0):
        return None
    return step, before


RULES: dict[tuple[type[Step] | type[None], type[Step]], Rule] = {
    (Affine, Affine): _affine_affine,
    (Affine, Conv): _affine_conv,
    (Conv, Conv): _conv_conv,
    (Conv, Affine): _conv_affine,
    (Affine, Threshold): _affine_threshold,
    (PReLU, Threshold): _prelu_threshold,
    (Clip, Threshold): _clip_threshold,
    (Conv, Threshold): _conv_threshold,
    (Affine, Pool): _affine_pool,
}


def _factors(step: Affine) -> tuple[Reals, Reals]:
    """Return scale and shift in float64."""
    scale = np.ones(1) if step.scale is None else step.scale.astype(np.float64)
    return scale, np.zeros(1) if step.shift is None else step.shift.astype(np.float64)


def _then(before: Affine, scale: Reals, shift: Reals) -> Affine:
    """Return one affine step for two."""
    first, second = _factors(before)
    return Affine((), first * scale, second * scale + shift)


def _scaled(filters: RealFilters | SignFilters, scale: Reals) -> RealFilters | SignFilters:
    """Return filters times a factor for each output channel, [out or 1]."""
    if isinstance(filters, RealFilters):
        return RealFilters(filters.values.astype(np.float64) * scale.reshape(1, -1, 1, 1, 1))
    offset = None if filters.offset is None else filters.offset.astype(np.float64) * scale
    return replace(filters, scale=filters.scale.astype(np.float64) * scale, offset=offset)
