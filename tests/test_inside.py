"""The networks that shared weights are trained through lie inside the budgets, are spread over ops, and are fair."""

from collections import Counter
from pathlib import Path

import pytest
from spaces import make_space

from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import BudgetError
from bnas.searcher.inside import BANDS, CYCLE, InsideDraws
from bnas.space.space import SearchSpace

SHIPPED = sorted(Path("search_spaces").glob("*.yaml"))
STEPS = 200


def drawn(space: SearchSpace, *budgets: Budget, seed: int = 0, steps: int = STEPS) -> list:
    draws = InsideDraws(space, budgets, seed=seed)
    return [draws(step) for step in range(steps)]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_step_of_a_shipped_space_lies_inside_its_budget(path: Path) -> None:
    space = SearchSpace.read(path)
    budget = Budget.parse(space.search.budget)
    assert all(budget.admits(cost(plan(arch))) for arch in drawn(space, budget))


def test_the_steps_of_two_budgets_are_shared_out_between_them() -> None:
    space = SearchSpace.read("search_spaces/digits.yaml")
    small, large = Budget.parse(["ops=10k"]), Budget.parse(["ops=30k..60k"])
    archs = drawn(space, small, large)
    assert [small.admits(cost(plan(arch))) for arch in archs] == [True, False] * (STEPS // 2)
    assert [large.admits(cost(plan(arch))) for arch in archs] == [False, True] * (STEPS // 2)


def test_they_are_spread_over_ops_where_even_draws_cost_about_the_same() -> None:
    space = SearchSpace.read("search_spaces/digits.yaml")
    budget = Budget.parse(space.search.budget)
    dear = sum(cost(plan(arch)).ops > 20_000 for arch in drawn(space, budget))
    assert dear > STEPS // (BANDS + 1)  # of even draws not one in twenty


def test_in_a_budget_that_all_keep_every_choice_comes_about_as_often() -> None:
    space = make_space(stage={"width": [8, 16, 24, 32], "experts": [1, 2, 4], "kernel": [1, 3], "groups": [1, 2, 4]})
    counts = Counter((place, gene) for arch in drawn(space, Budget()) for place, gene in enumerate(space.genes(arch)))
    for (place, _), count in counts.items():
        share = STEPS / len(space.dimensions[place].choices)
        assert 0.6 * share < count < 1.5 * share
    assert len(counts) == sum(len(dimension.choices) for dimension in space.dimensions)


def test_choices_come_as_often_where_what_they_are_of_is_there() -> None:
    stages = [
        {"depth": [0, 1, 2, 3], "width": [8, 16, 32], "precision": ["binary", "weight"]},
        {"depth": [0, 1], "width": [16, 32, 64], "stride": 2, "downsample": ["conv", "max_pool"]},
    ]
    space, counts = make_space(stages=stages), Counter[tuple[int, int]]()
    for arch in drawn(space, Budget(), steps=2 * STEPS):
        genes = space.genes(arch)
        counts.update((place, genes[place]) for place in space.deciding(genes))
    for place, dimension in enumerate(space.dimensions):
        each = [counts[place, gene] for gene in range(len(dimension.choices))]
        assert min(each) > 0.5 * max(each), dimension.name


def test_a_step_is_the_same_whenever_it_is_asked_for_and_another_for_another_seed() -> None:
    space = SearchSpace.read("search_spaces/digits.yaml")
    budget = Budget.parse(space.search.budget)
    steps = drawn(space, budget)
    late = InsideDraws(space, [budget], seed=0)
    assert [late(step) for step in reversed(range(STEPS))] == steps[::-1]
    assert drawn(space, budget, seed=1) != steps
    assert steps[:CYCLE] != steps[CYCLE : 2 * CYCLE]


def test_the_ends_of_a_sandwich_lie_inside_too() -> None:
    space = SearchSpace.read("search_spaces/digits.yaml")
    budget = Budget.parse(space.search.budget)
    draws = InsideDraws(space, [budget], seed=0)
    smallest, largest = (cost(plan(arch)) for arch in (draws.smallest, draws.largest))
    assert budget.admits(smallest)
    assert budget.admits(largest)
    assert smallest.ops < 9_000
    assert largest.ops > 30_000


def test_a_budget_that_nothing_fits_is_said_before_anything_is_trained() -> None:
    with pytest.raises(BudgetError, match="no network of the space fits"):
        InsideDraws(make_space(), [Budget.parse(["ops=10"])], seed=0)
