"""Layers with a choice, and limits -> the question that the methods answer: whose inputs stay real, and why?"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from bnas.amounts import percent, show
from bnas.cost.budget import SUMS, Budget
from bnas.cost.totals import Cost, total
from bnas.errors import BudgetError, SpecError
from bnas.select.metrics import LayerScore

NO_LIMIT = Budget()
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)


@dataclass(frozen=True)
class Ratio:
    """How many of a network's layers may keep real inputs.

    P counts the layers with a choice, and of those that a rule decides on the 1x1 convolutions that downsample, and a
    last layer that follows one of its own kind. It leaves out the first layer, a classifier of another kind than what
    comes before it, and whatever stays real as a whole. So AlexNet has 7 (conv2 to conv5, fc6 to fc8) and ResNet-18
    has 19 (16 convolutions of 3x3 and 3 of 1x1), of which the published choices keep 2 (28.6 %) and 7 (36.8 %).

    K counts the layers that are chosen to keep real inputs, not those that a rule keeps so anyway.

    Args:
        limit: R.
        of: P.
    Source: Prabhu et al., Hybrid Binary Networks, 2018 (arXiv:1804.03867), algorithm 1. What P counts is not said
        there; ours is what gives the percentages that are.
    """

    limit: float
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= 1:
            raise SpecError(
                f"ratio: must be between 0 and 1, but got {self.limit}; 0.3 lets three of ten inputs stay real"
            )

    @property
    def most(self) -> int:
        """The largest K."""
        return math.floor(self.limit * self.of + 1e-9)  # 0.7 * 10 is a little less than 7


class Verdict(NamedTuple):
    """The layers that keep real inputs, and for people the reason of each layer that had a choice."""

    kept: frozenset[str]
    why: Mapping[str, str]


def verdict_of(answer: Verdict | Collection[str]) -> Verdict:
    """Return a verdict; the names alone, as a method of one's own may return them, have no reasons."""
    return answer if isinstance(answer, Verdict) else Verdict(frozenset(answer), {})


class Choice(NamedTuple):
    """One layer that may keep its real input."""

    name: str
    score: LayerScore
    kept: Cost  # with a real input and binary weights
    binary: Cost  # with both binary


class Problem:
    """Layers with a choice, what all else costs, and the limits.

    Args:
        choices: the layers.
        rest: the cost of everything that has no choice.
        budget: what the whole network must keep; upper limits only.
        ratio: how many inputs may stay real; None: all.
    Raises:
        BudgetError: even the cheapest choice of each layer costs more; says the floor.
    """

    def __init__(
        self, choices: Iterable[Choice], rest: Cost, *, budget: Budget = NO_LIMIT, ratio: Ratio | None = None
    ) -> None:
        self.choices = tuple(choices)
        self.rest = rest
        self.budget = budget
        self.ratio = ratio
        self.most = len(self.choices) if ratio is None else ratio.most
        for name, limit in budget.limits:
            if self.floor(name) > limit.at_most:
                raise BudgetError(
                    f"budget {name} <= {show(limit.at_most)}: cannot be kept, as even with every input binary that may "
                    f"be, the network needs {name} {show(self.floor(name))} ({self.floor(name):.10g}); allow at least "
                    "that, or let more layers be binary"
                )

    @cached_property
    def names(self) -> frozenset[str]:
        """All layers with a choice."""
        return frozenset(choice.name for choice in self.choices)

    def cost(self, kept: Collection[str]) -> Cost:
        """Return what the network costs when these layers keep real inputs."""
        chosen = (choice.kept if choice.name in kept else choice.binary for choice in self.choices)
        return total([self.rest, *chosen])

    def floor(self, quantity: str) -> float:
        """Return the least that a choice can bring a quantity to."""
        least = sum(min(getattr(choice.kept, quantity), getattr(choice.binary, quantity)) for choice in self.choices)
        return float(getattr(self.rest, quantity) + least)

    def excess(self, kept: Collection[str]) -> float:
        """Return how far a choice lies outside the limits; 0 where it keeps them all."""
        return math.inf if len(kept) > self.most else self.budget.excess(self.cost(kept))

    def admits(self, kept: Collection[str]) -> bool:
        """Say whether a choice keeps every limit."""
        return len(kept) <= self.most and self.budget.admits(self.cost(kept))

    def insist(self, kept: Collection[str]) -> None:
        """Raise unless a choice keeps every limit.

        Raises:
            BudgetError: it does not; says by how much it is over each limit.
        """
        if broken := list(self._broken(kept)):
            raise BudgetError(
                f"{'; '.join(broken)}; with real inputs in {', '.join(sorted(kept)) or 'none'}: "
                "raise the limit, or keep other ones"
            )

    def _broken(self, kept: Collection[str]) -> Iterator[str]:
        cost = self.cost(kept)
        for name, limit in self.budget.limits:
            value = getattr(cost, name)
            if value > limit.at_most:
                yield f"budget {name} <= {show(limit.at_most)}: the choice needs {name} {show(value)} ({value:.10g})"
        if self.ratio and len(kept) > self.most:
            share = len(kept) / self.ratio.of if self.ratio.of else 1.0
            yield f"ratio {self.ratio.limit:g}: {len(kept)} of {self.ratio.of} inputs would stay real, {percent(share)}"


def budget_of(items: Iterable[str] | Mapping[str, str | int | float], real: Cost) -> Budget:
    """Return the budget of `ops=3M` or `ops=25%`, a percentage being of what the real network costs.

    Raises:
        SpecError: as in `Budget.parse`; a percentage of nothing; or a lower limit, which keeping inputs real can
            only miss by being too good.
    """
    items = (items,) if isinstance(items, str) else items
    written = [f"{name}={value}" for name, value in items.items()] if isinstance(items, Mapping) else items
    budget = Budget.parse([_in_amounts(item, real) for item in written])
    for name, limit in budget.limits:
        if name not in SUMS:
            raise SpecError(f"--budget {name}: a selection limits {', '.join(SUMS)}; limit one of these")
        if limit.at_least or math.isinf(limit.at_most):
            raise SpecError(f"--budget {name}: a selection has upper limits only; write {name}=AMOUNT, or {name}=25%")
    return budget


def _in_amounts(item: str, real: Cost) -> str:
    """Return `name=amount`, with a percentage worked out."""
    name, _, text = (part.strip() for part in item.partition("="))
    percent = _PERCENT.fullmatch(text)
    if not percent or name not in SUMS:
        return item
    if not getattr(real, name):
        raise SpecError(f"--budget {name}: the real network has no {name} to take a percentage of; give an amount")
    return f"{name}={float(percent[1]) / 100 * getattr(real, name):.17g}"
