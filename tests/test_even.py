"""Draws from what fits a budget have the chances that draws made again until they fit have, and end soon."""

import itertools
import math
import statistics
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from packed import MANY, pairs
from reference import chances_within
from scipy.stats import chisquare
from spaces import STEMS, make_space, rich_space, timed

from bnas.cost.budget import QUANTITIES, Budget, Limit
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import BudgetError
from bnas.searcher import even
from bnas.searcher.by_metric import MetricSpace
from bnas.searcher.even import EvenDraws
from bnas.searcher.extremes import cheapest
from bnas.searcher.feasible import cost_of, impossible, sample_within
from bnas.searcher.parts import count, layers
from bnas.select import LayerErrors
from bnas.space.space import Genes, SearchSpace

DRAWS, DRAWS_BY_METRIC = 2000, 300
LEAST_EXPECTED = 5  # draws of a group of networks; with fewer the distribution of chi-square is another
CHANCE = 1e-4  # of a test that fails though all is well; draws are derandomized, so it fails always or never

STAGES: list[dict[str, Any]] = [
    {"depth": [1, 2], "width": [8, 16], "groups": [1, 2], "precision": ["binary", "weight"]},
    {"depth": [2, 1, 3], "width": [16, 24], "kernel": [1, 3], "stride": [1, 2], "precision": ["weight", "binary"]},
]


def metric_space(kind: str) -> MetricSpace:
    places = itertools.product(range(2), range(3))
    errors = {place: LayerErrors(0.1 + 0.05 * number, 0.0, {}) for number, place in enumerate(places)}
    return MetricSpace.of(make_space(stages=STAGES, precision=kind), errors)


SPACES = {
    "one stage": partial(make_space, stage={"depth": [3, 1], "precision": ["real", "binary", "weight"]}),
    "experts": partial(make_space, stem={"width": [8, 16]}, stage={"experts": [1, 2, 4], "groups": [1, 8]}),
    "mixed at times": partial(
        make_space, mix_every=2, stage={"depth": [4, 5], "groups": [2, 4], "precision": ["binary", "real"]}
    ),
    "two stages": partial(make_space, stages=STAGES, shortcut={"kind": "conv"}, squeeze_excite=True),
    "strides": partial(make_space, stem={"width": 8, "stride": [1, 2]}, stages=[{"width": 8, "stride": [1, 2]}] * 3),
    "poolings": partial(
        make_space, stages=[{"width": [8, 16], "stride": [1, 2, 3], "downsample": ["conv", "max_pool"]}] * 2
    ),
    "whole": partial(
        make_space, mix_every=[2, 1], shortcut={"kind": ["repeat", "conv"]},
        stage={"depth": [3, 2], "groups": [2, 1], "precision": ["binary", "real"]},
    ),
    "gates and activations": partial(
        make_space,
        stages=[{"width": 8, "squeeze_excite": [True, False], "activation": ["react", "sign"], "experts": [1, 2]}] * 2,
    ),
    "stages that may not be there": partial(
        make_space, stem={"width": [8, 16]}, mix_every=[1, 2],
        stages=[
            {"depth": [2, 0], "width": [8, 16], "stride": [1, 2], "groups": [1, 2], "precision": ["binary", "weight"]},
            {"depth": [0, 1], "width": [16, 24], "stride": 2},
        ],
    ),
    "kernels and classifiers": partial(
        make_space, classifier=["weight", "binary", "real"], binarizers={"weight": ["sign", "xnor", "alpha_beta"]},
        stage={"kernel": [3, "1x3", "5x1", 1], "depth": [1, 2]}
    ),
    "thermometer": partial(make_space, stem=STEMS["thermometer"], stages=[{"width": 8, "stride": [1, 2]}] * 2),
    "several stems": partial(make_space, stem=STEMS["several"], stages=[{"width": 8, "stride": [1, 2]}] * 2),
    "by metric": partial(metric_space, "by_metric"),
    "first by metric": partial(metric_space, "first_by_metric"),
}  # fmt: skip


def limits(space: SearchSpace, kind: str) -> Budget:
    """Return a budget that some networks keep, by the costs of those that are drawn."""
    drawn = [cost_of(space, space.sample(Random(seed))) for seed in range(60)]

    def at(name: str, share: float) -> float:
        return sorted(getattr(one, name) for one in drawn)[int(share * (len(drawn) - 1))]

    return {
        "ops": Budget.parse({"ops": at("ops", 0.4)}),
        "ops and bytes": Budget.parse({"ops": at("ops", 0.5), "bytes": at("bytes", 0.5)}),
        "a range": Budget.parse({"ops": f"{at('ops', 0.4)}..{at('ops', 0.7)}"}),
        "a narrow range": Budget.parse({"ops": f"{0.98 * at('ops', 0.5)}..{1.02 * at('ops', 0.5)}"}),
        "at least": Budget.parse({"ops": f"{at('ops', 0.6)}.."}),
        "two ranges": Budget.parse({"ops": f"{at('ops', 0.2)}..{at('ops', 0.8)}", "bytes": f"{at('bytes', 0.1)}.."}),
        "latency": Budget.parse({"latency_ms": at("latency_ms", 0.4)}),
        "peak": Budget.parse({"activation_bytes": at("activation_bytes", 0.4)}),
        "peak and a range": Budget.parse(
            {
                "activation_bytes": at("activation_bytes", 0.5),
                "ops": f"{at('ops', 0.2)}..{at('ops', 0.8)}",
            }
        ),
        "everything": Budget.parse({name: at(name, 0.7) for name in QUANTITIES}),
        "the least": Budget.parse({"ops": cost(plan(cheapest(space, "ops"))).ops}),
    }[kind]


BUDGETS = [
    "ops", "ops and bytes", "a range", "a narrow range", "at least", "two ranges", "latency", "peak",
    "peak and a range", "everything", "the least",
]  # fmt: skip


def assert_drawn_with(chances: dict[Genes, float], drawn: list[Genes]) -> None:
    """Compare how often networks were drawn with how often they are to be, rare ones together."""
    counts = Counter(drawn)
    assert counts.keys() <= chances.keys()
    groups, seen, due = list[tuple[int, float]](), 0, 0.0
    for genes in sorted(chances, key=lambda genes: chances[genes]):
        seen, due = seen + counts[genes], due + chances[genes] * len(drawn)
        if due >= LEAST_EXPECTED:
            groups.append((seen, due))
            seen, due = 0, 0.0
    if groups:
        groups[-1] = groups[-1][0] + seen, groups[-1][1] + due
    observed, expected = zip(*(groups or [(seen, due)]), strict=True)
    assert math.isclose(sum(expected), len(drawn))
    assert len(groups) < 2 or chisquare(observed, expected, sum_check=False).pvalue > CHANCE


# Where a metric decides which inputs are real, draws take longer, and most beside a narrow range are in vain.
OFTEN = ("ops and bytes", "two ranges", "peak and a range", "everything")
BY_METRIC = [name for name in SPACES if "metric" in name]


@pytest.mark.parametrize(
    ("name", "kind"),
    pairs([name for name in SPACES if name not in BY_METRIC], BUDGETS, each=2) + pairs(BY_METRIC, OFTEN),
)
def test_every_network_that_fits_has_the_chance_that_it_has_in_a_draw_made_again_until_it_fits(
    name: str, kind: str
) -> None:
    space = timed(SPACES[name]())
    budget = limits(space, kind)
    chances = chances_within(space, budget)
    random, draws = Random(0), DRAWS_BY_METRIC if isinstance(space, MetricSpace) else DRAWS
    for draw in (EvenDraws(space, budget).draw, partial(sample_within, space, budget)):
        drawn = [draw(random) for _ in range(draws)]
        assert None not in drawn
        assert_drawn_with(chances, drawn)


def test_the_chances_do_not_depend_on_the_cells(monkeypatch) -> None:
    space = timed(SPACES["two stages"]())
    budget = limits(space, "ops and bytes")
    chances = chances_within(space, budget)
    for cells in (4, 64, 2**16):
        monkeypatch.setattr(even, "_MOST_CELLS", cells)
        draws, random = EvenDraws(space, budget), Random(0)
        assert_drawn_with(chances, [draws.draw(random) for _ in range(DRAWS)])


def test_the_count_of_parts_is_never_too_low() -> None:
    for make in (*SPACES.values(), rich_space):
        space = make()
        decided = isinstance(space, MetricSpace)
        parts = sum(len(ways) for layer in layers(space, ["ops"], decided=decided) for ways in layer.values())
        assert parts <= count(space, decided=decided) <= 8 * parts


def test_the_chances_of_the_parts_of_a_layer_are_those_of_a_draw() -> None:
    for layer in layers(rich_space(), ["ops"], decided=False):
        for ways in layer.values():
            assert sum(part.chance for part in ways) == pytest.approx(1.0)


def test_that_nothing_fits_is_proved_where_limits_exclude_each_other() -> None:
    space = rich_space()
    most, least = cost(plan(space.largest())).ops, cost(plan(cheapest(space, "bytes"))).bytes
    budget = Budget((("ops", Limit(0.9 * most, math.inf)), ("bytes", Limit(0, 1.1 * least))))
    assert EvenDraws(space, budget).is_empty
    assert impossible(space, budget).startswith("budget: no network of the space fits; ops >= ")
    with pytest.raises(BudgetError, match="no network of the space fits"):
        sample_within(space, budget, Random(0))


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "bench"])
def test_few_draws_from_the_spaces_that_we_ship_are_in_vain(name: str) -> None:
    space = SearchSpace.read(Path(__file__).parents[1] / "search_spaces" / f"{name}.yaml")
    budget, random = Budget.parse(space.search.budget), Random(0)
    draws = EvenDraws(space, budget)
    tried = [draws._counted[0].draw(random) for _ in range(1000)]
    assert sum(genes is not None and budget.admits(cost_of(space, genes)) for genes in tried) > 900


def huge(*, stages: int = 32, depth: int = 64, values: int = 64, **changes: Any) -> SearchSpace:
    """Return a space about as large as one may be."""
    width = [16 * n for n in range(1, values + 1)]
    groups = [1, 2, 4, 8, 16]
    stage = {
        "depth": list(range(1, depth + 1)), "width": width, "groups": groups, "experts": list(range(1, values + 1)),
        "kernel": [1, 3, 5, 7, 9, 11], "stride": [1, 2, 3], "precision": ["binary", "weight", "real"],
    }  # fmt: skip
    return make_space(input=[3, 512, 512], stem={"width": width}, stages=[stage | changes] * stages)


HUGE = {
    "long": partial(huge, stages=32, depth=4, values=3, kernel=3, stride=1),
    "long and wide": partial(huge, stages=32, depth=2, values=4),
    "deep": partial(huge, stages=8, depth=64, values=8),
    "as large as can be": huge,
}
ROOMS: list[dict[str, tuple[float, float]]] = [
    {"ops": (0, 2.0)},
    {"ops": (0, 2.0), "bytes": (0, 3.0)},
    {"ops": (2.0, 2.5)},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "room"),
    [*(("long", room) for room in ROOMS), *list(zip(list(HUGE)[1:], ROOMS, strict=True))[: 3 if MANY else 2]],
)
def test_a_network_is_drawn_by_bounded_work_whatever_the_space(name: str, room: dict[str, tuple[float, float]]) -> None:
    space = HUGE[name]()
    least = {name: getattr(cost(plan(cheapest(space, name))), name) for name in room}
    budget = Budget(tuple((name, Limit(low * least[name], high * least[name])) for name, (low, high) in room.items()))
    draws = EvenDraws(space, budget)
    drawn = draws.draw(Random(0))
    assert drawn
    assert budget.admits(cost_of(space, drawn))
    for counted in draws._counted.values():
        parts = sum(len(ways.parts) for layer in counted._ways for ways in layer.values())
        assert parts <= even._MOST_PARTS
        assert parts * math.prod(cells.number for cells in counted._cells) <= even._WORK


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE if MANY else ["long", "deep"])
def test_that_nothing_fits_is_said_whatever_the_space(name: str) -> None:
    with pytest.raises(BudgetError, match="cannot be kept: the smallest network needs"):
        sample_within(HUGE[name](), Budget.parse(["ops=1k"]), Random(0))


def test_a_space_that_is_too_large_to_count_is_drawn_from_by_parts_of_it() -> None:
    space = huge(stages=8, depth=4, values=8)
    budget = Budget.parse({"ops": 3 * cost(plan(cheapest(space, "ops"))).ops})
    draws = EvenDraws(space, budget)
    assert not draws.is_exact
    drawn = [draws.draw(Random(seed)) for seed in range(12)]
    assert all(genes is not None and budget.admits(cost_of(space, genes)) for genes in drawn)
    assert len(set(drawn)) == len(drawn)
    seen = [len({genes[place] for genes in drawn if genes}) for place in range(len(space.dimensions))]
    assert statistics.mean(seen) > 1.5
    again = EvenDraws(space, budget)
    assert drawn[:2] == [again.draw(Random(seed)) for seed in range(2)]
