"""Layers with a choice, and limits -> the question that the methods answer: whose inputs stay real?"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

from bnas.cost import QUANTITIES, Budget, Cost, show, total
from bnas.errors import BudgetError, SpecError
from bnas.selection.metrics import Score

NO_LIMIT = Budget()

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)


class Choice(NamedTuple):
    """One layer that may keep its real input."""

    name: str
    score: Score
    kept: Cost  # with a real input and binary weights
    binary: Cost  # with both binary


class Problem:
    """Layers with a choice, what all else costs, and the limits.

    Args:
        choices: the layers.
        rest: the cost of everything that has no choice.
        budget: what the whole network must keep; upper limits only.
        most: how many inputs may stay real.
    Raises:
        BudgetError: even the cheapest choice of each layer costs more; says the floor.
    """

    def __init__(self, choices: Iterable[Choice], rest: Cost, *, budget: Budget = NO_LIMIT, most: int | None = None):
        self.choices = tuple(choices)
        self.rest = rest
        self.budget = budget
        self.most = len(self.choices) if most is None else most
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


def budget_of(items: Iterable[str] | Mapping[str, str | int | float], real: Cost) -> Budget:
    """Return the budget of `ops=3M` or `ops=25%`, a percentage being of what the real network costs.

    Raises:
        SpecError: as in `Budget.parse`; a percentage of nothing; or a lower limit, which keeping inputs real can
            only miss by being too good.
    """
    written = [f"{name}={value}" for name, value in items.items()] if isinstance(items, Mapping) else items
    budget = Budget.parse([_in_amounts(item, real) for item in written])
    for name, limit in budget.limits:
        if limit.at_least or math.isinf(limit.at_most):
            raise SpecError(f"--budget {name}: a selection has upper limits only; write {name}=AMOUNT, or {name}=25%")
    return budget


def _in_amounts(item: str, real: Cost) -> str:
    """Return `name=amount`, with a percentage worked out."""
    name, _, text = (part.strip() for part in item.partition("="))
    percent = _PERCENT.fullmatch(text)
    if not percent or name not in QUANTITIES:
        return item
    if not getattr(real, name):
        raise SpecError(f"--budget {name}: the real network has no {name} to take a percentage of; give an amount")
    return f"{name}={float(percent[1]) / 100 * getattr(real, name):.17g}"
