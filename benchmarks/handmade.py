"""A budget -> the networks that people write down without a search, each as wide as the budget lets it be."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from bnas.amounts import show
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import BudgetError
from bnas.space.arch import Architecture, Binarizers, StageSpec
from bnas.space.stem import Stem

STEP = 2  # channels by which a width grows
MOST_CHANNELS = 4096
GROWTHS = (2.0, 1.5, 1.0)  # how many times as wide as the one before a stage is
NEARLY_ALL = 0.9  # of the ops: then no stage has to grow by less


class Task(NamedTuple):
    """What all networks of a comparison share: images, classes, and how the sides of the images shrink."""

    input: tuple[int, int, int]
    classes: int
    strides: tuple[int, ...]  # of the stem and of each stage

    @classmethod
    def of(cls, arch: Architecture) -> Self:
        """Return the task of a network; a stage that it leaves out shrinks nothing."""
        return cls(
            arch.input, arch.classes, (arch.stem.stride, *(stage.stride for stage in arch.stages if stage.depth))
        )


class Family(NamedTuple):
    """Networks that differ only in their widths: a stem, then stages of which all is binary.

    blocks: 3x3 blocks in each stage. pointwise: behind each stands a 1x1 block, and only these widen the network.
    levels: of a thermometer in place of a real stem, which then has nothing real. blocks_of_pixels: whether a real stem
    is one pixel wide, of pixels that the stride brought together. excite: whether all blocks squeeze and excite.
    """

    blocks: int
    pointwise: bool = False
    activation: str = "sign"
    levels: int | None = None
    blocks_of_pixels: bool = False
    excite: bool = False

    def network(self, task: Task, widths: Sequence[int]) -> Architecture:
        """Return the network of some widths, one a stage; the stem is as wide as the first."""
        stages, before = list[StageSpec](), widths[0]
        for width, stride in zip(widths, task.strides[1:], strict=True):
            stages += self._stage(before, width, stride)
            before = width
        return Architecture(
            input=task.input, classes=task.classes, stem=self._stem(widths[0], task.strides[0]),
            stages=tuple(stages), binarizers=Binarizers(activation=self.activation), squeeze_excite=self.excite,
        )  # fmt: skip

    def _stem(self, width: int, stride: int) -> Stem:
        if self.levels:
            return Stem(kind="thermometer", width=width, stride=stride, levels=self.levels)
        if self.blocks_of_pixels:
            return Stem(kind="space_to_depth", width=width, stride=stride, kernel=1)
        return Stem(width=width, stride=stride)

    def _stage(self, before: int, width: int, stride: int) -> list[StageSpec]:
        if not self.pointwise:
            return [StageSpec(width=width, stride=stride, precision=("binary",) * self.blocks)]
        stages = []
        for _ in range(self.blocks):
            stages.append(StageSpec(width=before, stride=stride, precision=("binary",)))
            stages.append(StageSpec(width=width, kernel=1, precision=("binary",)))
            before, stride = width, 1
        return stages


FAMILIES = {
    "plain": Family(blocks=2),  # the binary ResNet of the papers, with a shortcut round every convolution
    "react": Family(blocks=2, pointwise=True, activation="react"),  # as ReActNet: 3x3 and 1x1 in turn, shifted signs
    "shallow": Family(blocks=1),  # wide and shallow
    "pixels": Family(blocks=2, blocks_of_pixels=True),  # the same behind a real 1x1 of pixels brought together
    "thermometer": Family(blocks=2, levels=8),  # as FracBNN: bits from the image on
}


def fitted(name: str, task: Task, budget: Budget, family: Family | None = None) -> Architecture:
    """Return the network of a family that uses the most of a budget; left out, the family is ours of that name.

    Each stage is about twice as wide as the one before: by steps of two channels, the one that lacks most to this is
    widened. Near the limit it is the one of these that still fits, but none beyond the stage behind it. Where bytes are
    spent long before the ops are, as late stages take most of them, stages grow by less: whichever of `GROWTHS` leaves
    least of the ops.

    Raises:
        BudgetError: not even two channels fit.
    """
    family = family or FAMILIES[name]
    limits = dict(budget.limits)

    def fits(widths: Sequence[int]) -> bool:
        price = cost(plan(family.network(task, widths)))
        return widths[-1] <= MOST_CHANNELS and all(
            getattr(price, key) <= limit.at_most for key, limit in limits.items()
        )

    made = dict[Architecture, float]()  # and the ops of each
    for growth in GROWTHS:
        widths = [STEP * round(growth**stage) for stage in range(len(task.strides) - 1)]
        if not fits(widths):
            continue
        while (grown := _grown(widths, growth, fits)) != widths:
            widths = grown
        arch = family.network(task, widths)
        made[arch] = cost(plan(arch)).ops
        if "ops" not in limits or made[arch] >= NEARLY_ALL * limits["ops"].at_most:
            break
    if not made:
        least = cost(plan(family.network(task, [STEP] * (len(task.strides) - 1))))
        takes = ", ".join(f"{key} {show(getattr(least, key))}" for key in limits)
        raise BudgetError(f"{name}: with {STEP} channels it takes {takes}, but the budget is {budget}")
    return max(made, key=lambda arch: made[arch])


def _grown(widths: list[int], growth: float, fits: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return widths with one stage a step wider, the first that can be of those that lack most; else the same."""
    for stage in sorted(range(len(widths)), key=lambda stage: widths[stage] / growth**stage):
        wider = [width + STEP * (stage == place) for place, width in enumerate(widths)]
        if wider == sorted(wider) and fits(wider):
            return wider
    return widths
