"""A `Program` and a deployment target -> which layer the target does not take, and by what rule."""

from collections.abc import Iterator, Sequence

from bnas.errors import LookupFailed
from bnas.lookup import not_among
from bnas.runtime.filters import SignFilters
from bnas.runtime.program import Program
from bnas.runtime.steps import Argmax, Channels, Clip, Conv, Multiply, Pool, PReLU, Sigmoid, Step
from bnas.space.targets import TARGETS, Target


def refusal(program: Program, target: str, *, layers: Sequence[str] = ()) -> str | None:
    """Return which step the target does not take first, and the rule; None where it takes them all.

    Args:
        target: an entry of `TARGETS`.
        layers: names of the convolutions and linear layers in their order, to say where a step stands.
    Raises:
        LookupFailed: there is no such target.
    """
    if target not in TARGETS:
        raise LookupFailed(not_among(target, TARGETS, what="deployment target"))
    for number, step in enumerate(program.steps):
        for rule in _broken(program, step, TARGETS[target]):
            return f"{_where(program, number, layers)}: {target} {rule}"
    return None


def _broken(program: Program, step: Step, takes: Target) -> Iterator[str]:
    """Yield the rules that a step breaks."""
    if isinstance(step, Argmax) and not takes.experts:
        yield "takes no experts; give experts: 1"
    if isinstance(step, PReLU) and step.slope.any() and not takes.prelu:
        yield "takes no PReLU"
    if isinstance(step, Sigmoid | Multiply) and not takes.gates:
        yield "takes no squeeze-excite; give squeeze_excite: false"
    if isinstance(step, Channels) and not takes.picks:
        yield "repeats and leaves out no channels; give shortcut: {kind: conv}, or one width"
    if isinstance(step, Clip) and not takes.clips:
        yield "clips no values"
    if isinstance(step, Pool) and step.ceil and not step.mean and takes.pools != "any":
        yield from _broken_by_cut_windows(program, step)
    if isinstance(step, Conv):
        yield from _broken_by_conv(program, step, takes)


def _broken_by_cut_windows(program: Program, step: Pool) -> Iterator[str]:
    x = program.values[step.inputs[0]]
    sides = zip((x.height, x.width), step.kernel, step.stride, step.padding, strict=True)
    if any((side + 2 * pad - taps) % stride for side, taps, stride, pad in sides):
        yield "takes no max pooling whose windows reach over the edge; give downsample: conv, or a size that it divides"


def _broken_by_conv(program: Program, step: Conv, takes: Target) -> Iterator[str]:
    x = program.values[step.inputs[0]]
    if x.kind == "bits" and any(step.padding) and step.pad_value not in takes.pad_values:
        only = takes.pad_values[0]
        yield f"pads bits with {only}, not with {step.pad_value}; give pad_value: {only}, and train again"
    if step.dilation != (1, 1) and not takes.dilation:
        yield "takes no dilation"
    if isinstance(step.filters, SignFilters) and step.filters.offset is not None and not takes.offsets:
        yield "takes binary weights of -scale and +scale alone; give a weight binarizer that has no offset, as xnor"
    if step.groups > 1 and takes.groups == "one":
        yield f"takes no groups, but here are {step.groups}; give groups: 1"
    if step.groups == x.channels > 1 and takes.groups == "several":
        yield f"takes no depthwise convolution, but here are {step.groups} groups of one channel; give fewer groups"


def _where(program: Program, number: int, layers: Sequence[str]) -> str:
    """Return the place of a step, by the layer that it is or stands behind, where the layers are known."""
    kind = type(program.steps[number]).__name__
    convs = [index for index, step in enumerate(program.steps) if isinstance(step, Conv)]
    before = [name for index, name in zip(convs, layers, strict=False) if index <= number]
    if not before or len(layers) != len(convs):
        return f"step {number} ({kind})"
    return before[-1] if number in convs else f"{kind} behind {before[-1]}"
