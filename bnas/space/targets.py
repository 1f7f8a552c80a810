"""What each deployment target takes of a network: the rules that spaces and exporters share."""

from typing import Literal, NamedTuple

Groups = Literal["any", "several", "one"]
"""any: depthwise convolutions too; several: groups of two channels or more; one: no groups."""

Pools = Literal["any", "whole"]
"""any: max poolings whose last windows reach over the edge too; whole: those that do not."""


class Target(NamedTuple):
    """What a target takes; a rule is there because its consumer refuses the rest, or computes something else of it.

    Attributes:
        pad_values: that may stand round bits.
        groups: that a convolution may have.
        experts: whether the image may choose filters.
        prelu: whether there may be PReLU, and ReActNet's.
        gates: whether values may be multiplied with each other, as squeeze-excite does.
        picks: whether channels may be repeated or left out, as the `repeat` shortcut does where the width changes.
        clips: whether values may be clipped, as hard-tanh, hard-swish and ReLU6 do.
        dilation: whether the pixels that a kernel meets may lie apart.
        offsets: whether binary weights may be other than -scale and +scale, as `alpha_beta` makes them.
        pools: of which windows the largest value may be taken, after a size that is rounded up.
    """

    pad_values: tuple[int, ...] = (-1, 0, 1)
    groups: Groups = "any"
    experts: bool = True
    prelu: bool = True
    gates: bool = True
    picks: bool = True
    clips: bool = True
    dilation: bool = True
    offsets: bool = True
    pools: Pools = "any"


TARGETS: dict[str, Target] = {
    "c": Target(),
    "finn": Target(pad_values=(-1,), groups="several", experts=False, gates=False, offsets=False, pools="whole"),
    "hls4ml": Target(
        pad_values=(-1,),
        groups="one",
        experts=False,
        prelu=False,
        gates=False,
        picks=False,
        clips=False,
        dilation=False,
        offsets=False,
    ),
    "packed": Target(),
}
