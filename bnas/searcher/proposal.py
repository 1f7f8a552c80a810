"""What is known of images, and a budget -> a space for them, with networks on either side of the budget."""

import math
from collections.abc import Iterator, Sequence
from random import Random
from statistics import median_low
from typing import Any, NamedTuple

from bnas.amounts import show
from bnas.cost.budget import Budget, Limit
from bnas.errors import BudgetError
from bnas.searcher.feasible import cheapest, cost_of, dearest, sample_within
from bnas.space.deploy import deployable
from bnas.space.space import SearchSpace
from bnas.space.values import Size
from bnas.spec import parse

LARGEST_SIDE = 48  # pixels to which larger images are brought
SIDES = (32, 24, 16, 8)  # that are tried in turn where a budget is too small for more
UNITS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # least widths of the first stage that are tried
USUAL = 16  # of them, where there is no budget
FPGA = ("finn", "hls4ml")  # whose flows were tried with shortcuts that pool by the average alone
STRIDED = 24  # pixels a side from which the stem, whose ops are dear, halves them
SMALLEST_MAP = 3  # pixels a side after the last stage, about
FEWEST_STAGES, WIDEST = 3, 3  # stages at least; how often a stage has twice the width of the one before
WIDENING = (2, 3, 4)  # halves of a stage's least width that it offers
ROOM = 1.25  # times a limit that the largest network takes at least, and part of it that the smallest takes at most


class Seen(NamedTuple):
    """What is known of a set of images: channels, height and width that they are brought to, and how many classes."""

    channels: int
    size: Size
    classes: int


class Proposal(NamedTuple):
    """A space as a person writes it, without settings of its search.

    Attributes:
        values: what the YAML says.
        space: the same, as what it is for takes it.
        budget: that was asked, or one that suits.
        ends: the least and the most that a network takes, of each quantity that the budget limits.
    """

    values: dict[str, Any]
    space: SearchSpace
    budget: Budget
    ends: dict[str, tuple[float, float]]


def sensible_size(sizes: Sequence[Size]) -> Size:
    """Return the height and width to bring images to: their own where all are alike and small enough.

    Else the middle of their sides, divided by a whole number so that neither is above `LARGEST_SIDE`, in multiples of 8
    unless that number divides them.

    Args:
        sizes: height and width of some of the images.
    """
    height, width = (median_low(sides) for sides in zip(*sizes, strict=True))
    parts = -(-max(height, width) // LARGEST_SIDE)
    if parts == 1 and len(set(sizes)) == 1:
        return height, width
    is_exact = len(set(sizes)) == 1 and not (height % parts or width % parts)
    one, other = (
        side // parts if is_exact else max(8, 8 * math.floor(side / parts / 8 + 0.5)) for side in (height, width)
    )
    return one, other


def proposed(seen: Seen, budget: Budget, *, deploy: str | None = None, sides: Sequence[int] = SIDES) -> Proposal:
    """Return a space whose smallest network is well below a budget, and whose largest is above it.

    Args:
        budget: what a network may take; one without limits takes what suits the images.
        deploy: what the networks are for.
        sides: that images are made smaller to, in turn, while nothing fits.
    Raises:
        BudgetError: nothing fits; says what the smallest network takes.
        SpecError: it is for nothing that is known.
    """
    if not budget.limits:
        return _usual(seen, deploy)
    for size in _sizes(seen.size, sides):
        fitting = [made for unit in UNITS if (made := _made(seen._replace(size=size), unit, budget, deploy))]
        if fitting:
            return min(fitting, key=_distance)
    raise BudgetError(_impossible(seen._replace(size=size), budget, deploy))


def _usual(seen: Seen, deploy: str | None) -> Proposal:
    """Return the space of usual width, with the budget in the middle of what its networks take."""
    values = _values(seen, USUAL, deploy)
    space = _space(values)
    low, high = _ends(space, "ops")
    amount = show(float(f"{math.sqrt(low * high):.2g}"))
    return Proposal(values, space, Budget.parse({"ops": amount}), {"ops": (low, high)})


def _made(seen: Seen, unit: int, budget: Budget, deploy: str | None) -> Proposal | None:
    """Return the space of a width, if a network of it fits."""
    values = _values(seen, unit, deploy)
    space = _space(values)
    ends = {name: _ends(space, name) for name, _ in budget.limits}
    if any(ends[name][0] > limit.at_most or ends[name][1] < limit.at_least for name, limit in budget.limits):
        return None
    try:
        sample_within(space, budget, Random(0))
    except BudgetError:
        return None
    return Proposal(values, space, budget, ends)


def _distance(made: Proposal) -> tuple[int, float]:
    """Return what is less the better a budget lies in a space: limits without room, then how far from the middle."""
    aims = [(_aim(limit), *made.ends[name]) for name, limit in made.budget.limits]
    tight = sum(low * ROOM > aim or high < aim * ROOM for aim, low, high in aims)
    return tight, sum(abs(math.log(aim / math.sqrt(low * high))) for aim, low, high in aims)


def _aim(limit: Limit) -> float:
    return limit.at_least if limit.at_most == math.inf else limit.at_most


def _ends(space: SearchSpace, quantity: str) -> tuple[float, float]:
    low, high = (getattr(cost_of(space, space.genes(end(space, quantity))), quantity) for end in (cheapest, dearest))
    return low, high


def _sizes(size: Size, sides: Sequence[int]) -> Iterator[Size]:
    """Yield a size, and smaller ones of about its proportions."""
    yield size
    longer = max(size)
    for side in sides:
        if side < longer:
            height, width = (max(1, round(each * side / longer)) for each in size)
            yield height, width


def _impossible(seen: Seen, budget: Budget, deploy: str | None) -> str:
    space = _space(_values(seen, UNITS[0], deploy))
    least = ", ".join(f"{name} {show(_ends(space, name)[0])}" for name, _ in budget.limits)
    return (
        f"budget {budget}: no space that would be written has a network that fits; the smallest tried, for images of "
        f"{seen.size[0]} x {seen.size[1]}, needs {least}; widen the budget"
    )


def _space(values: dict[str, Any]) -> SearchSpace:
    return deployable(parse(SearchSpace, values, source="space")).space


def _values(seen: Seen, unit: int, deploy: str | None) -> dict[str, Any]:
    """Return the space whose first stage has this least width."""
    stem: dict[str, Any] = {"width": [unit, 2 * unit]}
    longer = max(seen.size)
    if longer >= STRIDED:
        stem["stride"] = 2
        longer = -(-longer // 2)
    halvings = max(2, round(math.log2(longer / SMALLEST_MAP)))
    strides = [1] * (FEWEST_STAGES - halvings) + [2] * halvings
    stages = [_stage(unit * 2 ** min(number, WIDEST), stride) for number, stride in enumerate(strides)]
    values: dict[str, Any] = {
        "input": [seen.channels, *seen.size],
        "classes": seen.classes,
        "stem": stem,
        "stages": stages,
        "binarizers": {"weight": "xnor", "activation": "sign"},
    }
    if deploy not in FPGA:
        values["shortcut"] = {"pool": "max"}
    return values if deploy is None else _for(deploy, values)


def _for(deploy: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return a space for a target, whose convolutions take those strides that it lets no max pooling take."""
    both = [stage | {"downsample": ["max_pool", "conv"]} if "stride" in stage else stage for stage in values["stages"]]
    taken = _space(values | {"deploy": deploy, "stages": both}).stages
    stages = [
        stage | ({"downsample": found.downsample[0]} if "stride" in stage else {})
        for stage, found in zip(values["stages"], taken, strict=True)
    ]
    return values | {"deploy": deploy, "stages": stages}


def _stage(width: int, stride: int) -> dict[str, Any]:
    """Return what is offered for a stage of this least width."""
    choices = {"depth": [1, 2], "width": [width * part // 2 for part in WIDENING]}
    return choices if stride == 1 else choices | {"stride": stride, "downsample": "max_pool"}
