"""Limits on what a network may cost -> whether one keeps them, and by how much it does not."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from bnas.amounts import show
from bnas.cost.totals import Cost
from bnas.errors import SpecError
from bnas.lookup import not_among
from bnas.spec import shown

SUMS = ("ops", "bops", "flops", "bytes")  # over layers, counted
QUANTITIES = (*SUMS, "latency_ms", "activation_bytes")
PEAK = "activation_bytes"  # the most of any layer, where all others add up
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(k|M|G|KiB|MiB|GiB)?", re.ASCII)


class Limit(NamedTuple):
    """The least and the most that a quantity may be."""

    at_least: float
    at_most: float

    def excess(self, value: float) -> float:
        """Return by which share a value lies outside; 0 inside."""
        if value > self.at_most:
            return value / self.at_most - 1 if self.at_most else math.inf
        return 1 - value / self.at_least if value < self.at_least else 0.0

    def written(self) -> str:
        """Return the limit in the form that `Budget.parse` takes, to the last digit."""
        high = "" if self.at_most == math.inf else f"{self.at_most:.17g}"
        return f"{self.at_least:.17g}..{high}" if self.at_least else high

    def __str__(self) -> str:
        low, high = f">= {show(self.at_least)}", f"<= {show(self.at_most)}"
        if self.at_most == math.inf:
            return low
        return f"{low} and {high}" if self.at_least else high


NO_LIMIT = Limit(0.0, math.inf)


class Budget(NamedTuple):
    """Limits by quantity; a network fits if it keeps all of them. An empty budget admits everything."""

    limits: tuple[tuple[str, Limit], ...] = ()

    @classmethod
    def parse(
        cls,
        items: Iterable[str] | Mapping[str, str | int | float],
        *,
        source: str = "--budget",
        over: Self | None = None,
    ) -> Self:
        """Return the budget of `ops=3M`, `bytes=20k` (at most) or `ops=1M..3M` (between).

        Args:
            items: a limit for each quantity; text is one of them.
            source: what errors call them.
            over: a budget whose limits stay for quantities that are not among the items; `ops=none` lifts one of them.
        Raises:
            SpecError: not of this form, an unknown quantity, one given twice, or a lower limit over the upper.
        """
        items = (items,) if isinstance(items, str) else items
        pairs = list(items.items()) if isinstance(items, Mapping) else [_pair(item, source) for item in items]
        limits: dict[str, Limit | None] = {}
        for name, text in pairs:
            if name not in QUANTITIES:
                raise SpecError(f"{source}: {not_among(name, QUANTITIES, what='quantity')}")
            if name in limits:
                raise SpecError(f"{source}: {name} is given twice; give one limit for it")
            limits[name] = None if over is not None and str(text) == "none" else _limit(name, str(text), source)
        whole = dict(over.limits if over is not None else ()) | limits
        return cls(tuple((name, limit) for name in QUANTITIES if (limit := whole.get(name)) is not None))

    def excess(self, cost: Cost) -> float:
        """Return how far a cost lies outside, as shares summed over the limits; 0 if it fits."""
        return sum(limit.excess(getattr(cost, name)) for name, limit in self.limits)

    def admits(self, cost: Cost) -> bool:
        """Say whether a cost keeps every limit."""
        return all(limit.at_least <= getattr(cost, name) <= limit.at_most for name, limit in self.limits)

    def as_dict(self) -> dict[str, str]:
        """Return each quantity's limit in the form that `parse` takes."""
        return {name: limit.written() for name, limit in self.limits}

    def __str__(self) -> str:
        return ", ".join(f"{name} {limit}" for name, limit in self.limits) or "no limit"


def amount(text: str, *, source: str) -> float:
    """Return the number that `3M`, `20k`, `1.5G`, `64KiB` or `1000` writes.

    Raises:
        SpecError: it writes none, or none above zero.
    """
    match = _AMOUNT.fullmatch(text.strip())
    value = float(match[1]) * _FACTORS[match[2] or ""] if match else math.nan
    if not 0 < value < math.inf:
        raise SpecError(
            f"{source}: {shown(text)} is not an amount; write a positive number with k, M, G, KiB or MiB, as in 3M"
        )
    return value


def _pair(item: str, source: str) -> tuple[str, str]:
    name, equals, text = item.partition("=")
    if not equals:
        raise SpecError(f"{source}: {shown(item)} must be QUANTITY=AMOUNT, as in ops=3M")
    return name.strip(), text


def _limit(name: str, text: str, source: str) -> Limit:
    low, dots, high = text.partition("..")
    where = f"{source} {name}"
    if not dots:
        return Limit(0.0, amount(text, source=where))
    limit = Limit(amount(low, source=where), amount(high, source=where) if high.strip() else math.inf)
    if name == PEAK:
        raise SpecError(f"{where}: has an upper limit only; write {name}=AMOUNT, but got {shown(text)}")
    if limit.at_least > limit.at_most:
        raise SpecError(f"{where}: lower <= upper must hold, but got {shown(text)}; swap them")
    return limit
