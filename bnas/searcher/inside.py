"""A space and budgets -> the networks that shared weights are trained through: inside, spread over ops, and fair."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from random import Random

from bnas.cost.budget import Budget
from bnas.searcher.even import EvenDraws, even_draws
from bnas.searcher.feasible import cheapest, cost_of, dearest, sample_within
from bnas.seeds import derived
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace

BANDS = 4  # of ops, each as many times dearer than the one before
CYCLE = 24  # steps over which the choices are balanced, for each budget
PAIR = 2  # draws of which one is taken
_ENDS = 200  # draws among which the largest and the smallest network are looked for


class InsideDraws:
    """Draws for the steps of a supernet's training, all of them inside one of the budgets of its searches.

    Steps outside would train weights for networks that nobody may choose. Each budget has its turn. In turn a draw is
    even over all that fits, where most networks cost about the same, and even over one of some bands of ops, since the
    best often cost most. Of two draws the one is taken whose choices have come less in this cycle of steps: evenly
    often, as `SearchSpace.fair` deals them, they cannot come where a budget joins them.
    """

    def __init__(self, space: SearchSpace, budgets: Sequence[Budget], *, seed: int) -> None:
        """Count the networks of each budget and band: for a space of usual size some tenths of a second.

        Raises:
            BudgetError: nothing fits a budget.
        """
        self._space, self._budgets, self._seed = space, budgets, seed
        for budget in budgets:
            sample_within(space, budget, Random(seed))
        spread = [list(_spread(space, budget)) for budget in budgets]
        most = math.lcm(*map(len, spread))
        # Each budget in turn, and of each all its draws as often.
        self._draws = [of_one[place % len(of_one)] for place in range(most) for of_one in spread]
        self._cycle = lru_cache(maxsize=2)(self._dealt)

    def __call__(self, number: int) -> Architecture:
        """Return a network; a pure function of the seed and the number."""
        cycle, place = divmod(number, CYCLE * len(self._budgets))
        return self._space.architecture(self._cycle(cycle)[place])

    @cached_property
    def largest(self) -> Architecture:
        """The network of most ops inside a budget, among some hundreds of draws."""
        return self._space.architecture(max(self._ends(dearest), key=self._ops))

    @cached_property
    def smallest(self) -> Architecture:
        """The network of fewest ops inside a budget, among some hundreds of draws."""
        return self._space.architecture(min(self._ends(cheapest), key=self._ops))

    def _dealt(self, cycle: int) -> list[Genes]:
        random = Random(derived(self._seed, "inside", cycle))
        counts = [[0] * len(dimension.choices) for dimension in self._space.dimensions]
        dealt = []
        for step in range(CYCLE * len(self._budgets)):
            draws = self._draws[(cycle * CYCLE * len(self._budgets) + step) % len(self._draws)]
            budget = self._budgets[step % len(self._budgets)]
            pair = [draws.draw(random) or sample_within(self._space, budget, random) for _ in range(PAIR)]
            chosen = min(pair, key=self._commonness(counts))
            for place in self._space.deciding(chosen):
                counts[place][chosen[place]] += 1
            dealt.append(chosen)
        return dealt

    def _ends(self, end: Callable[[SearchSpace, str], Architecture]) -> Iterator[Genes]:
        random = Random(derived(self._seed, "ends"))
        extreme = self._space.canonical(self._space.genes(end(self._space, "ops")))
        if any(budget.admits(cost_of(self._space, extreme)) for budget in self._budgets):
            yield extreme
        for number in range(_ENDS):
            drawn = self._draws[number % len(self._draws)].draw(random)
            if drawn is not None:
                yield drawn
        yield from self._cycle(0)

    def _commonness(self, counts: Sequence[Sequence[int]]) -> Callable[[Genes], int]:
        """Return what says how often the choices of a network have come, beyond an even share of their dimensions.

        What decides nothing in a network, as the width of a stage that is not there, has not come.
        """
        sums = list(map(sum, counts))

        def beyond(genes: Genes) -> int:
            places = self._space.deciding(genes)
            return sum(counts[place][genes[place]] * len(counts[place]) - sums[place] for place in places)

        return beyond

    def _ops(self, genes: Sequence[int]) -> float:
        return cost_of(self._space, tuple(genes)).ops


def _spread(space: SearchSpace, budget: Budget) -> Iterator[EvenDraws]:
    """Yield the draws over all of a budget, and over each band of ops in which something fits."""
    yield even_draws(space, budget)
    limits = dict(budget.limits)
    low, high = (cost_of(space, space.genes(end(space, "ops"))).ops for end in (cheapest, dearest))
    if "ops" in limits:
        low, high = max(low, math.ceil(limits["ops"].at_least)), min(high, math.floor(limits["ops"].at_most))
    edges = [low * (high / low) ** (band / BANDS) for band in range(BANDS)] + [high]
    for at_least, at_most in pairwise(edges):
        band = Budget.parse({"ops": f"{math.floor(at_least)}..{math.ceil(at_most)}"}, over=budget)
        draws = even_draws(space, band)
        if draws.draw(Random(0)) is not None:
            yield draws
