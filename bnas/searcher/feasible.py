"""A space and a budget -> genotypes that fit it, found in bounded time whatever the space."""

import math
from collections.abc import Iterator
from random import Random

from bnas.amounts import show
from bnas.cost.budget import Budget, Limit
from bnas.cost.totals import Cost
from bnas.errors import BudgetError
from bnas.searcher.extremes import cheapest as cheapest
from bnas.searcher.extremes import dearest as dearest
from bnas.searcher.ways import ways_of
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace

_DRAWS = 4  # draws from the whole space, before one is drawn from what fits
_REPAIRS = 20  # draws that are moved inside, before the ends of the space are
_LOOKS = 200_000  # costs that all of this looks at, divided by the dimensions: more of them take longer to look at


def cost_of(space: SearchSpace, genes: Genes) -> Cost:
    """Return what the architecture of a genotype costs: `cost(plan(...))`, with the sum of each part remembered."""
    return ways_of(space).cost(genes)


def sample_within(space: SearchSpace, budget: Budget, random: Random) -> Genes:
    """Return a genotype inside the budget, drawn as `space.sample` draws: those that do not fit are left out.

    So are exact even draws from what fits, by counting, unless the space is too large to count: see `EvenDraws`.

    Raises:
        BudgetError: nothing that fits was found; says which limits fail, and what the nearest network found costs.
    """
    for _ in range(_DRAWS):
        genes = space.sample(random)
        if budget.admits(cost_of(space, genes)):
            return genes
    from bnas.searcher.even import even_draws  # needs numpy, which counting alone does without

    drawn = even_draws(space, budget).draw(random)
    if drawn is not None:
        return drawn
    near = _nearest(space, budget, random)
    if budget.excess(cost_of(space, near)) == 0:
        return near
    raise BudgetError(impossible(space, budget))


def repair(space: SearchSpace, genes: Genes, budget: Budget, random: Random) -> Genes | None:
    """Return a genotype inside the budget that single changes lead to, each one coming nearer; None if none does."""
    reached = _approach(space, genes, budget, random, looks=_LOOKS // len(space.dimensions))
    return reached if budget.excess(cost_of(space, reached)) == 0 else None


def _approach(space: SearchSpace, genes: Genes, budget: Budget, random: Random, *, looks: int) -> Genes:
    """Return the genotype that single changes end at, each one coming nearer to the budget."""
    here, excess = genes, budget.excess(cost_of(space, genes))
    while excess:
        moves = [(index, gene) for index, d in enumerate(space.dimensions) for gene in range(len(d.choices))]
        random.shuffle(moves)
        for index, gene in moves[:looks]:
            looks -= 1
            there = space.canonical((*here[:index], gene, *here[index + 1 :]))
            nearer = budget.excess(cost_of(space, there))
            if nearer < excess:
                here, excess = there, nearer
                break
        else:
            return here
    return here


def impossible(space: SearchSpace, budget: Budget) -> str:
    """Say why nothing fits: which limits no network keeps, and what the nearest network found costs."""
    from bnas.searcher.even import even_draws

    verdicts = [_verdict(space, name, limit) for name, limit in budget.limits]
    is_proved = not all(kept for kept, _ in verdicts) or even_draws(space, budget).is_empty
    near = cost_of(space, _nearest(space, budget, Random(0)))
    costs = ", ".join(f"{name} {_exactly(getattr(near, name))}" for name, _ in budget.limits)
    return (
        f"budget: no network of the space {'fits' if is_proved else 'was found to fit'}; "
        f"{'; '.join(said for _, said in verdicts)}; the nearest network found costs {costs}; "
        "widen the budget or offer other choices"
    )


def _verdict(space: SearchSpace, name: str, limit: Limit) -> tuple[bool, str]:
    """Return whether a limit can be kept alone, and say so."""
    most = getattr(cost_of(space, space.genes(dearest(space, name))), name) if limit.at_least else math.inf
    if limit.at_least > most:
        return False, f"{name} {limit} cannot be kept: the largest network has {_exactly(most)}"
    least = getattr(cost_of(space, space.genes(cheapest(space, name))), name)
    is_kept = limit.at_most >= least
    verdict = "can be kept alone" if is_kept else "cannot be kept"
    return is_kept, f"{name} {limit} {verdict}: the smallest network needs {_exactly(least)}"


def _nearest(space: SearchSpace, budget: Budget, random: Random) -> Genes:
    """Return the genotype of least excess that single changes lead to, from some draws and the ends of the space."""
    starts = [space.sample(random) for _ in range(_REPAIRS)]
    starts += [space.canonical(space.genes(arch)) for arch in _ends(space, budget)]
    looks = _LOOKS // len(space.dimensions) // len(starts)
    reached = [_approach(space, start, budget, random, looks=looks) for start in starts]
    return min(reached, key=lambda genes: budget.excess(cost_of(space, genes)))


def _ends(space: SearchSpace, budget: Budget) -> Iterator[Architecture]:
    """Return the cheapest networks, and where a limit is a lower one the dearest, for each limited quantity."""
    for name, limit in budget.limits:
        yield cheapest(space, name)
        if limit.at_least:
            yield dearest(space, name)


def _exactly(value: float) -> str:
    return f"{show(value)} ({value:.10g})"
