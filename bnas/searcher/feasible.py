"""A space and a budget -> genotypes that fit it, found without loops that may never end."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from random import Random

from bnas.cost.budget import Budget, show
from bnas.cost.plan import Size, plan, plan_block, plan_head, plan_stem
from bnas.cost.totals import Cost, cost, total
from bnas.errors import BudgetError
from bnas.space.arch import Architecture, BlockSpec, StageSpec, Stem
from bnas.space.choices import StageChoices
from bnas.space.space import Genes, SearchSpace

Price = Callable[[Cost], float]
Way = tuple[float, Stem, tuple[StageSpec, ...]]  # price so far and the choices it is made of
Ways = dict[tuple[int, Size], Way]  # the cheapest way to each (channels, size)
_DRAWS = 50  # evenly drawn genotypes tried before one is repaired
_REPAIRS = 20  # draws that are repaired, before the ends of the space are
_STEPS = 200  # moves of one repair


def cost_of(space: SearchSpace, genes: Genes) -> Cost:
    """Return what the architecture of a genotype costs: `cost(plan(...))`, with the sum of each part remembered."""
    arch = space.architecture(genes)
    part, size = stem_cost(arch.stem, arch.input[0], arch.input[1:])
    parts = [part]
    for blocks in arch.blocks():
        for block in blocks:
            part, size = block_cost(block, size)
            parts.append(part)
    parts.append(_head_cost(arch.stages[-1].width, arch.classes, size))
    return total(parts)


def sample_within(space: SearchSpace, budget: Budget, random: Random) -> Genes:
    """Return a genotype inside the budget: drawn evenly, or the last draw moved inside where few draws fit.

    Raises:
        BudgetError: nothing that fits was found; says which limits fail, and what the nearest network found costs.
    """
    for _ in range(_DRAWS):
        genes = space.sample(random)
        if budget.admits(cost_of(space, genes)):
            return genes
    for start in itertools.chain([genes], _starts(space, budget, random)):
        repaired = repair(space, start, budget, random)
        if repaired is not None:
            return repaired
    raise BudgetError(impossible(space, budget))


def repair(space: SearchSpace, genes: Genes, budget: Budget, random: Random) -> Genes | None:
    """Return a genotype inside the budget that single changes lead to, each one coming nearer; None if none does."""
    reached = _approach(space, genes, budget, random)
    return reached if budget.excess(cost_of(space, reached)) == 0 else None


def _approach(space: SearchSpace, genes: Genes, budget: Budget, random: Random) -> Genes:
    """Return the genotype that single changes end at, each one coming nearer to the budget."""
    here, excess = genes, budget.excess(cost_of(space, genes))
    for _ in range(_STEPS):
        if excess == 0:
            return here
        moves = [(index, gene) for index, d in enumerate(space.dimensions) for gene in range(len(d.choices))]
        random.shuffle(moves)
        for index, gene in moves:
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
    needs, proved = [], False
    for name, limit in budget.limits:
        least, most = (getattr(cost(plan(end(space, name))), name) for end in (cheapest, dearest))
        too_low, too_high = limit.at_most < least, limit.at_least > most
        verdict = "cannot be kept" if too_low or too_high else "can be kept alone"
        end = f"largest network has {_exactly(most)}" if too_high else f"smallest network needs {_exactly(least)}"
        needs.append(f"{name} {limit} {verdict}: the {end}")
        proved = proved or too_low or too_high
    near = cost_of(space, _nearest(space, budget))
    costs = ", ".join(f"{name} {_exactly(getattr(near, name))}" for name, _ in budget.limits)
    found = "fits" if proved else "was found to fit"
    return (
        f"budget: no network of the space {found}; {'; '.join(needs)}; the nearest network found costs {costs}; "
        "widen the budget or offer other choices"
    )


def _nearest(space: SearchSpace, budget: Budget) -> Genes:
    """Return the genotype of least excess that single changes lead to."""
    random = Random(0)
    reached = [_approach(space, start, budget, random) for start in _starts(space, budget, random)]
    return min(reached, key=lambda genes: budget.excess(cost_of(space, genes)))


def _starts(space: SearchSpace, budget: Budget, random: Random) -> Iterator[Genes]:
    """Yield genotypes to repair: some draws, then the ends of the space."""
    yield from (space.sample(random) for _ in range(_REPAIRS))
    yield from (space.canonical(space.genes(arch)) for arch in _ends(space, budget))


def _ends(space: SearchSpace, budget: Budget) -> Iterator[Architecture]:
    """Return the cheapest networks, and where a limit is a lower one the dearest, for each limited quantity."""
    for name, limit in budget.limits:
        yield cheapest(space, name)
        if limit.at_least:
            yield dearest(space, name)


def _exactly(value: float) -> str:
    return f"{show(value)} ({value:.10g})"


def cheapest(space: SearchSpace, quantity: str) -> Architecture:
    """Return the architecture of least `quantity` (a field of `Cost` that adds up over layers).

    Exact: costs add up over stages that touch only through their channels and size, so the best way to reach each
    (channels, size) is kept from stage to stage.
    """
    return _least(space, lambda part: getattr(part, quantity), min)


def dearest(space: SearchSpace, quantity: str) -> Architecture:
    """Return the architecture of most `quantity`, found as the cheapest is."""
    return _least(space, lambda part: -getattr(part, quantity), max)


def _least(space: SearchSpace, price: Price, depth: Callable[[Iterable[int]], int]) -> Architecture:
    """Return the architecture of least price, whose stages are all as deep as `depth` chooses."""
    ways: Ways = {}
    stem = space.stem
    for width, kernel, stride in itertools.product(stem.width, stem.kernel, stem.stride):
        choice = Stem(kind=stem.kind, width=width, kernel=kernel, stride=stride)
        part, size = stem_cost(choice, space.input[0], space.input[1:])
        _keep(ways, (width, size), (price(part), choice, ()))
    for stage in space.stages:
        after: Ways = {}
        for (channels, size), (so_far, first, stages) in ways.items():
            for spec, more, out in _stage_ways(space, stage, depth(stage.depth), channels, size, price):
                _keep(after, (spec.width, out), (so_far + more, first, (*stages, spec)))
        ways = after
    _, first, stages = min(
        ((so_far + price(_head_cost(width, space.classes, size)), first, stages)
         for (width, size), (so_far, first, stages) in ways.items()),
        key=lambda way: way[0],
    )  # fmt: skip
    return Architecture(
        input=space.input, classes=space.classes, stem=first, stages=stages, shortcut=space.shortcut,
        squeeze_excite=space.squeeze_excite, mix_every=space.mix_every, binarizers=space.binarizers,
    )  # fmt: skip


def _keep(ways: Ways, key: tuple[int, Size], way: Way) -> None:
    if key not in ways or way[0] < ways[key][0]:
        ways[key] = way


def _stage_ways(
    space: SearchSpace, stage: StageChoices, depth: int, channels: int, size: Size, price: Price
) -> list[tuple[StageSpec, float, Size]]:
    """Return each way through a stage at its best precision, with its price and the size after it."""
    found = []
    shapes = itertools.product(stage.width, stage.groups, stage.experts, stage.kernel, stage.stride)
    for width, groups, experts, kernel, stride in shapes:
        precision, total, here, ins, step = [], 0.0, size, channels, stride
        for index in range(depth):
            prices = {}
            for choice in stage.precision:
                block = BlockSpec(
                    ins, width, kernel, step, groups, experts, choice,
                    space.shortcut, space.squeeze_excite, space.binarizers,
                    groups == 1 or (index + 1) % space.mix_every == 0,
                )  # fmt: skip
                part, out = block_cost(block, here)
                prices[choice] = price(part)
            best = min(prices, key=lambda choice: prices[choice])
            precision.append(best)
            total, here, ins, step = total + prices[best], out, width, 1
        spec = StageSpec(
            width=width, groups=groups, experts=experts, kernel=kernel, stride=stride, precision=tuple(precision)
        )
        found.append((spec, total, here))
    return found


@lru_cache(maxsize=4096)
def stem_cost(stem: Stem, channels: int, size: Size) -> tuple[Cost, Size]:
    """Return what a stem costs on images of a size, and the size after it; remembered."""
    layers, out = plan_stem(stem, channels, size)
    return cost(layers), out


@lru_cache(maxsize=65536)
def block_cost(block: BlockSpec, size: Size) -> tuple[Cost, Size]:
    """Return what a block costs on maps of a size, and the size after it; remembered."""
    layers, out = plan_block("", block, size)
    return cost(layers), out


@lru_cache(maxsize=4096)
def _head_cost(width: int, classes: int, size: Size) -> Cost:
    return cost(plan_head(width, classes, size))
