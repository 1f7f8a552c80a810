"""A space or a list of costs -> networks to train alone, spread evenly from the cheapest to the dearest."""

import itertools
from collections.abc import Sequence
from random import Random

from bnas.errors import SpecError
from bnas.space.space import Genes, SearchSpace

STRATA = 10
MOST = 100_000  # networks that are worth listing


def every_network(space: SearchSpace) -> list[Genes]:
    """Return the genotypes of all networks of a small space, each once, in the order of their genes.

    Raises:
        SpecError: there are too many to list.
    """
    if space.size > MOST:
        raise SpecError(f"space: {space.size:,} networks are too many to list; offer fewer choices, {MOST:,} at most")
    genes = itertools.product(*(range(len(dimension.choices)) for dimension in space.dimensions))
    return sorted({space.canonical(each) for each in genes})


def dealt(costs: Sequence[float], *, seed: int, strata: int = STRATA) -> list[int]:
    """Return the places of all costs in an order whose every beginning is spread evenly over them.

    Sorted by cost they are cut into strata of like size; each is shuffled, and the strata take turns. So a sample of
    any size is the beginning of a larger one.
    """
    by_cost = sorted(range(len(costs)), key=lambda place: costs[place])
    ends = [round(number * len(by_cost) / strata) for number in range(strata + 1)]
    cut = [by_cost[start:end] for start, end in itertools.pairwise(ends)]
    for number, stratum in enumerate(cut):
        Random(f"{seed}/{number}").shuffle(stratum)
    turns = itertools.zip_longest(*cut)
    return [place for turn in turns for place in turn if place is not None]
