import math
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import STEMS, costs_of, every_genotype, line_of, make_space, rich_space, timed

from bnas.amounts import show
from bnas.cost.budget import QUANTITIES, Budget, Limit
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import BudgetError
from bnas.searcher.feasible import _nearest, cheapest, cost_of, dearest, impossible, repair, sample_within

STEM = {"width": [8, 16], "kernel": [1, 3], "stride": [1, 2]}
SMALL_SPACES = {
    "strides": partial(make_space, stem=STEM, stage={"stride": [1, 2, 3], "depth": [2, 1]}),
    "kernels and groups": partial(make_space, stem={"width": [8, 16]}, stage={"kernel": [5, 1], "groups": [1, 2, 8]}),
    "precisions and experts": partial(
        make_space, stage={"precision": ["real", "binary", "weight"], "experts": [4, 1], "depth": [2, 3]}
    ),
    "two stages": partial(
        make_space,
        stem={"width": [8, 16], "stride": [1, 2]},
        stages=[
            {"width": [16, 8], "stride": [1, 2], "groups": [1, 4], "precision": ["real", "weight"]},
            {"width": [8, 16, 32], "depth": [1, 2], "kernel": [1, 3]},
        ],
    ),
    "mixed after two blocks": partial(make_space, mix_every=2, stage={"groups": [1, 2, 8], "depth": [3, 2, 4]}),
    "space to depth": partial(make_space, stem=STEMS["space_to_depth"], stage={"width": [16, 32]}),
    "thermometer": partial(make_space, stem=STEMS["thermometer"], stage={"stride": [1, 2]}),
    "several stems": partial(make_space, stem=STEMS["several"], stage={"stride": [1, 2]}),
    "poolings": partial(
        make_space,
        stem={"width": [8, 16]},
        stages=[
            {"width": 16, "stride": [2, 1, 3], "downsample": ["max_pool", "conv"], "groups": [1, 4]},
            {"width": [8, 16], "stride": [1, 2], "downsample": ["conv", "max_pool"], "depth": [1, 2]},
        ],
    ),
    "whole": lambda **shared: make_space(
        stem={"width": [8, 16]},
        stage={"groups": [2, 1], "depth": [3, 2]},
        **shared | {"mix_every": [2, 1, 3], "shortcut": {"kind": ["repeat", "conv", "bottleneck"]}},
    ),
    "gates and activations": partial(
        make_space,
        stage={"depth": [2, 1], "squeeze_excite": [False, True], "activation": ["react", "sign"], "groups": [1, 4]},
    ),
    "stages that may not be there": partial(
        make_space,
        stem={"width": [8, 16]},
        stages=[
            {"depth": [2, 0], "width": [8, 16], "stride": [1, 2], "groups": [1, 2], "kernel": [3, "1x5"]},
            {"depth": [0, 1], "width": [16, 24], "stride": 2, "precision": ["binary", "real"]},
        ],
    ),
    "branched": partial(
        make_space,
        stem={"kind": "branched", "width": [8, 16], "stride": 4},
        stage={"width": [16, 32], "kernel": [3, 1]},
    ),
}


@pytest.fixture(params=["repeat", "conv", "bottleneck"])
def shared(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"shortcut": {"kind": request.param, "reduction": 2}, "squeeze_excite": request.param == "conv"}


@pytest.mark.parametrize("name", SMALL_SPACES)
def test_the_cheapest_is_the_minimum_of_all_and_the_dearest_the_maximum(name: str, shared: dict[str, Any]) -> None:
    space = timed(SMALL_SPACES[name](**shared))
    costs = [costs_of(space, space.architecture(genes)) for genes in every_genotype(space)]
    for quantity in (*QUANTITIES, "parameters"):
        best = cheapest(space, quantity)
        assert space.contains(best)
        assert getattr(costs_of(space, best), quantity) == min(getattr(made, quantity) for made in costs)
        worst = dearest(space, quantity)
        assert space.contains(worst)
        assert getattr(costs_of(space, worst), quantity) == max(getattr(made, quantity) for made in costs)


@pytest.mark.parametrize("name", SMALL_SPACES)
def test_the_remembered_cost_is_that_of_the_plan(name: str, shared: dict[str, Any]) -> None:
    space = timed(SMALL_SPACES[name](**shared))
    for genes in every_genotype(space):
        assert cost_of(space, genes) == costs_of(space, space.architecture(genes))


class TestSampling:
    """A draw inside the budget, however tight, or one clear error."""

    @settings(max_examples=15)
    @given(st.integers(0, 2**32), st.floats(1.0, 3.0))
    def test_draws_are_inside(self, seed: int, room: float) -> None:
        space = timed(rich_space())
        limits = [(q, Limit(0, room * getattr(costs_of(space, cheapest(space, q)), q))) for q in ("ops", "bytes")]
        budget = Budget(tuple(limits))
        genes = sample_within(space, budget, Random(seed))
        assert budget.admits(costs_of(space, space.architecture(genes)))
        assert space.canonical(genes) == genes

    @pytest.mark.parametrize("quantity", QUANTITIES)
    @pytest.mark.parametrize("name", SMALL_SPACES)
    def test_a_budget_of_the_very_least_is_reached(self, name: str, quantity: str, shared: dict[str, Any]) -> None:
        space = timed(SMALL_SPACES[name](**shared))
        least = getattr(costs_of(space, cheapest(space, quantity)), quantity)
        budget = Budget(((quantity, Limit(0, least or 1)),))  # some need no BOPs; no limit is 0
        assert getattr(cost_of(space, sample_within(space, budget, Random(0))), quantity) == least

    @pytest.mark.parametrize("seed", range(10))
    def test_a_narrow_range_is_reached(self, seed: int) -> None:
        space = timed(rich_space())
        middle = cost_of(space, space.sample(Random(seed))).ops
        budget = Budget.parse([f"ops={0.99 * middle}..{1.01 * middle}"])
        for draw in range(5):
            assert budget.admits(cost_of(space, sample_within(space, budget, Random(draw))))

    def test_several_limits_at_once(self) -> None:
        space = timed(rich_space())
        some = cost_of(space, space.sample(Random(3)))
        budget = Budget.parse({name: getattr(some, name) for name in QUANTITIES})
        assert budget.admits(cost_of(space, sample_within(space, budget, Random(0))))

    def test_a_wide_budget_leaves_the_draw_as_it_was(self) -> None:
        space = timed(rich_space())
        assert sample_within(space, Budget(), Random(5)) == space.sample(Random(5))

    def test_draws_differ(self) -> None:
        space, random = rich_space(), Random(0)
        budget = Budget.parse({"ops": 1.5 * costs_of(space, cheapest(space, "ops")).ops})
        assert len({sample_within(space, budget, random) for _ in range(20)}) > 5

    def test_the_same_seed_draws_the_same(self) -> None:
        space = timed(rich_space())
        budget = Budget.parse({"ops": 1.2 * costs_of(space, cheapest(space, "ops")).ops})
        assert len({sample_within(space, budget, Random(9)) for _ in range(3)}) == 1


class TestImpossible:
    """A budget nothing fits says what the smallest network needs."""

    def refusal(self, budget: Budget) -> str:
        with pytest.raises(BudgetError) as caught:
            sample_within(timed(rich_space()), budget, Random(0))
        return line_of(caught)

    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_the_least_of_the_quantity_is_named(self, quantity: str) -> None:
        space = timed(rich_space())
        least = getattr(costs_of(space, cheapest(space, quantity)), quantity)
        limit = Limit(0, 0.99 * least)
        assert self.refusal(Budget(((quantity, limit),))) == (
            f"budget: no network of the space fits; {quantity} {limit} cannot be kept: "
            f"the smallest network needs {show(least)} ({least:.10g}); "
            f"the nearest network found costs {quantity} {show(least)} ({least:.10g}); "
            "widen the budget or offer other choices"
        )

    def test_a_lower_limit_over_the_largest_network_cannot_be_kept(self) -> None:
        most = cost(plan(dearest(rich_space(), "bops"))).bops
        line = self.refusal(Budget((("bops", Limit(most + 1, math.inf)),)))
        assert f"cannot be kept: the largest network has {show(most)} ({most})" in line
        assert f"the nearest network found costs bops {show(most)} ({most})" in line

    def test_the_nearest_network_is_one_of_the_space(self) -> None:
        space = SMALL_SPACES["precisions and experts"]()
        costs = [cost_of(space, genes) for genes in every_genotype(space)]
        budget = Budget.parse({"ops": min(c.ops for c in costs) / 2, "bytes": min(c.bytes for c in costs) / 2})
        nearest = min(costs, key=budget.excess)
        ops, size = (f"{show(value)} ({value:.10g})" for value in (nearest.ops, nearest.bytes))
        assert f"the nearest network found costs ops {ops}, bytes {size};" in impossible(space, budget)

    @pytest.mark.parametrize("name", SMALL_SPACES)
    def test_the_nearest_network_is_nearest_of_all(self, name: str, shared: dict[str, Any]) -> None:
        space, random = timed(SMALL_SPACES[name](**shared)), Random(name)
        costs = [cost_of(space, genes) for genes in every_genotype(space)]
        for _ in range(3):
            ops, size = (getattr(random.choice(costs), quantity) for quantity in ("ops", "bytes"))
            budget = Budget.parse({"ops": f"{1.5 * ops}..", "bytes": max(1, 0.5 * size)})
            least = min(map(budget.excess, costs))
            assert budget.excess(cost_of(space, _nearest(space, budget, Random(0)))) == pytest.approx(least)

    def test_each_quantity_has_its_own_smallest_network(self) -> None:
        line = self.refusal(Budget.parse(["ops=1", "bytes=1G"]))
        for quantity, verdict in (("ops", "cannot be kept"), ("bytes", "can be kept alone")):
            least = getattr(cost(plan(cheapest(rich_space(), quantity))), quantity)
            assert f"{verdict}: the smallest network needs {show(least)} ({least:.10g})" in line

    def test_of_limits_that_exclude_each_other_each_is_said_to_be_kept_alone(self) -> None:
        space = timed(rich_space())
        most, least = cost(plan(dearest(space, "ops"))).ops, cost(plan(cheapest(space, "bytes"))).bytes
        line = self.refusal(Budget((("ops", Limit(most, math.inf)), ("bytes", Limit(0, least)))))
        assert line.startswith(f"budget: no network of the space fits; ops >= {show(most)} can be kept alone: ")
        assert line.endswith("; widen the budget or offer other choices")

    def test_every_limit_is_explained(self) -> None:
        budget = Budget.parse([f"{quantity}=0.001" for quantity in QUANTITIES])
        assert impossible(timed(rich_space()), budget).count("cannot be kept") == len(QUANTITIES)


class TestRepair:
    """A genotype outside is moved inside by single changes."""

    def test_what_fits_stays(self) -> None:
        space = timed(rich_space())
        genes = space.genes(space.largest())
        assert repair(space, genes, Budget(), Random(0)) == genes

    def test_the_largest_is_made_small(self) -> None:
        space = timed(rich_space())
        budget = Budget.parse({"bytes": 1.1 * cost(plan(cheapest(space, "bytes"))).bytes})
        repaired = repair(space, space.genes(space.largest()), budget, Random(0))
        assert repaired is not None
        assert budget.admits(cost_of(space, repaired))

    def test_what_cannot_be_reached_is_none(self) -> None:
        space = timed(rich_space())
        assert repair(space, space.genes(space.largest()), Budget.parse(["ops=1"]), Random(0)) is None
