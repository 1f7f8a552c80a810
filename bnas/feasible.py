"""A space and a budget -> genotypes that fit it, found without loops that may never end."""

import itertools
from functools import lru_cache
from random import Random

from bnas.arch import Architecture, BlockSpec, StageSpec, Stem
from bnas.cost import Budget, Cost, cost, show
from bnas.errors import BudgetError
from bnas.plan import Size, plan, plan_block, plan_head, plan_stem
from bnas.space import Genes, SearchSpace, StageChoices

Way = tuple[float, Stem, tuple[StageSpec, ...]]  # price so far and the choices it is made of
Ways = dict[tuple[int, Size], Way]  # the cheapest way to each (channels, size)

_DRAWS = 50  # evenly drawn genotypes tried before one is repaired
_REPAIRS = 20  # starts of the repair before a budget is called impossible
_STEPS = 200  # moves of one repair


def cost_of(space: SearchSpace, genes: Genes) -> Cost:
    """Return what the architecture of a genotype costs."""
    return cost(plan(space.architecture(genes)))


def sample_within(space: SearchSpace, budget: Budget, random: Random) -> Genes:
    """Return a genotype inside the budget: drawn evenly, or the last draw moved inside where few draws fit.

    Raises:
        BudgetError: nothing that fits was found; says what the smallest network needs of each quantity.
    """
    for _ in range(_DRAWS):
        genes = space.sample(random)
        if budget.admits(cost_of(space, genes)):
            return genes
    for _ in range(_REPAIRS):
        repaired = repair(space, genes, budget, random)
        if repaired is not None:
            return repaired
        genes = space.sample(random)
    raise BudgetError(impossible(space, budget))


def repair(space: SearchSpace, genes: Genes, budget: Budget, random: Random) -> Genes | None:
    """Return a genotype inside the budget that single changes lead to, each one coming nearer; None if none does."""
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
            return None
    return None


def impossible(space: SearchSpace, budget: Budget) -> str:
    """Say why nothing fits: for each quantity its limit and what the cheapest network of the space needs."""
    needs = []
    for name, limit in budget.limits:
        least = getattr(cost(plan(cheapest(space, name))), name)
        verdict = "cannot be kept" if least > limit.at_most else "can be kept alone"
        needs.append(f"{name} {limit} {verdict}: the smallest network needs {show(least)} ({least:.10g})")
    return f"budget: no network of the space fits; {'; '.join(needs)}; raise the budget or offer smaller choices"


def cheapest(space: SearchSpace, quantity: str) -> Architecture:
    """Return the architecture of least `quantity` (a field of `Cost`).

    Exact: costs add up over stages that touch only through their channels and size, so the best way to reach each
    (channels, size) is kept from stage to stage.
    """
    ways: Ways = {}
    stem = space.stem
    for width, kernel, stride in itertools.product(stem.width, stem.kernel, stem.stride):
        choice = Stem(kind=stem.kind, width=width, kernel=kernel, stride=stride)
        layers, size = plan_stem(choice, space.input[0], (space.input[1], space.input[2]))
        _keep(ways, (width, size), (getattr(cost(layers), quantity), choice, ()))
    for stage in space.stages:
        after: Ways = {}
        for (channels, size), (so_far, first, stages) in ways.items():
            for spec, price, out in _stage_ways(space, stage, channels, size, quantity):
                _keep(after, (spec.width, out), (so_far + price, first, (*stages, spec)))
        ways = after
    _, first, stages = min(
        ((price + getattr(cost(plan_head(width, space.classes, size)), quantity), first, stages)
         for (width, size), (price, first, stages) in ways.items()),
        key=lambda way: way[0],
    )  # fmt: skip
    return Architecture(
        input=space.input, classes=space.classes, stem=first, stages=stages, shortcut=space.shortcut,
        squeeze_excite=space.squeeze_excite, binarizers=space.binarizers,
    )  # fmt: skip


def _keep(ways: Ways, key: tuple[int, Size], way: Way) -> None:
    if key not in ways or way[0] < ways[key][0]:
        ways[key] = way


def _stage_ways(
    space: SearchSpace, stage: StageChoices, channels: int, size: Size, quantity: str
) -> list[tuple[StageSpec, float, Size]]:
    """Return each way through a stage at its least depth and cheapest precision, with its price and size after."""
    depth, found = min(stage.depth), []
    shapes = itertools.product(stage.width, stage.groups, stage.experts, stage.kernel, stage.stride)
    for width, groups, experts, kernel, stride in shapes:
        precision, total, here, ins, step = [], 0.0, size, channels, stride
        for _ in range(depth):
            prices = {}
            for choice in stage.precision:
                block = BlockSpec(
                    ins, width, kernel, step, groups, experts, choice,
                    space.shortcut, space.squeeze_excite, space.binarizers,
                )  # fmt: skip
                prices[choice], out = _block_price(block, here, quantity)
            best = min(prices, key=lambda choice: prices[choice])
            precision.append(best)
            total, here, ins, step = total + prices[best], out, width, 1
        spec = StageSpec(
            width=width, groups=groups, experts=experts, kernel=kernel, stride=stride, precision=tuple(precision)
        )
        found.append((spec, total, here))
    return found


@lru_cache(maxsize=65536)
def _block_price(block: BlockSpec, size: Size, quantity: str) -> tuple[float, Size]:
    layers, out = plan_block("", block, size)
    return getattr(cost(layers), quantity), out
