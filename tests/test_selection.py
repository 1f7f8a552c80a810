"""Which layers keep real inputs: decided by hand, and by the code."""

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layerfacts import facts, network
from reference import best_subset, least_spread_clusters
from spaces import line_of

from bnas.cost.budget import Budget
from bnas.cost.totals import Cost, total
from bnas.errors import BnasError, BudgetError, LookupFailed, SpecError
from bnas.select import (
    METHODS,
    METRICS,
    Choice,
    Decisions,
    Evidence,
    LayerErrors,
    LayerFacts,
    LayerScore,
    LossChanges,
    NotMeasured,
    Problem,
    Ratio,
    Rules,
    Selection,
    Verdict,
    budget_of,
    decide,
)
from bnas.select.methods import top_cluster_sizes
from bnas.select.rules import match
from bnas.spec import dump, parse, parse_yaml

NOTHING = Cost(0, 0, 0, 0)


def problem(
    metrics: Sequence[float], *, ops: list[int] | None = None, budget: Budget | None = None, ratio: float | None = None
) -> Problem:
    """Return a problem of layers 0, 1, ..., whose value is their metric."""
    costs = ops or [1] * len(metrics)
    choices = [
        Choice(str(index), LayerScore(metric, metric), Cost(0, 64 * cost, 8, 0), Cost(64 * cost, 0, 16, 0))
        for index, (metric, cost) in enumerate(zip(metrics, costs, strict=True))
    ]
    limit = None if ratio is None else Ratio(ratio, len(choices))
    return Problem(choices, NOTHING, budget=budget or Budget(), ratio=limit)


def kept_by(method: str, made: Problem) -> frozenset[str]:
    """Return the layers that a method keeps real inputs in."""
    answer = METHODS[method](made)
    assert isinstance(answer, Verdict)
    assert answer.why.keys() == made.names
    return answer.kept


class TestPartition:
    """Algorithm 1 of the paper, worked by hand."""

    # N = 2: {0, 1, 5} and {20, 26}, of squared error 14 + 18; N = 3: {0, 1, 5}, {20}, {26}, of 14 against 18.5.
    metrics = (5, 26, 0, 20, 1)

    @pytest.mark.parametrize(
        ("ratio", "kept"), [(1.0, {"1", "3"}), (0.4, {"1", "3"}), (0.3, {"1"}), (0.2, {"1"}), (0.1, set())]
    )
    def test_fewest_clusters_within_the_ratio(self, ratio: float, kept: set[str]) -> None:
        assert kept_by("partition", problem(self.metrics, ratio=ratio)) == kept

    def test_a_budget_stands_in_for_the_ratio(self) -> None:
        only_one = Budget.parse(["ops=130"])  # five layers of 1 op, and 63 more for each real input: room for one
        assert kept_by("partition", problem(self.metrics, budget=only_one)) == {"1"}

    def test_the_top_cluster_need_not_shrink_by_one(self) -> None:
        assert list(top_cluster_sizes([0, 10, 11, 12, 13])) == [4, 2, 1, 1]

    def test_a_single_layer_is_a_cluster_of_its_own(self) -> None:
        assert kept_by("partition", problem([])) == set()
        assert kept_by("partition", problem([1.0])) == {"0"}
        assert kept_by("partition", problem([1.0], ratio=0.5)) == set()

    @given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=9, unique=True))
    def test_clusters_are_the_best_of_all_cuts(self, values: list[int]) -> None:
        values.sort()
        for clusters, size in enumerate(top_cluster_sizes(values), 2):
            assert size in {len(parts[-1]) for parts in least_spread_clusters(values, clusters)}


class TestKnapsack:
    """Exact, also where greed is not."""

    def test_beats_greed_where_the_densest_layer_leaves_a_gap(self) -> None:
        # A real input costs 63 more ops a unit. There is room for 10 units: greed takes the 6, and no 5 fits beside.
        room = Budget.parse([f"ops={6 + 5 + 5 + 63 * 10}"])
        made = problem([60, 50, 50], ops=[6, 5, 5], budget=room)
        assert kept_by("greedy", made) == {"0"}
        assert kept_by("knapsack", made) == {"1", "2"}

    def test_what_is_worth_nothing_is_not_kept(self) -> None:
        for method in ("knapsack", "greedy"):
            assert kept_by(method, problem([-1.0, 2.0])) == {"1"}

    def test_a_limit_just_below_what_many_choices_cost_is_no_trap(self) -> None:
        # 24 layers of one cost: 2,704,156 choices of twelve cost the same, all a rounding error too much.
        values = [Random(0).random() + index / 1000 for index in range(24)]
        twelve = problem(values, ops=[10**6] * 24).cost([str(index) for index in range(12)]).ops
        made = problem(values, ops=[10**6] * 24, budget=Budget.parse({"ops": math.nextafter(twelve, 0)}))
        assert kept_by("knapsack", made) == {str(index) for index in range(13, 24)}
        made = problem(values, ops=[10**6] * 24, budget=Budget.parse({"ops": twelve}))
        assert kept_by("knapsack", made) == {str(index) for index in range(12, 24)}

    @given(st.integers(0, 2**32), st.integers(1, 9), st.floats(0, 1), st.booleans())
    def test_is_the_best_of_all_subsets(self, seed: int, count: int, room: float, two: bool) -> None:
        random = Random(seed)
        made = problem([random.random() for _ in range(count)], ops=[random.randint(1, 50) for _ in range(count)])
        least, most = (made.cost(kept).ops for kept in ((), made.names))
        limits = {"ops": least + room * (most - least)} | ({"bops": made.cost(()).bops * 0.9} if two else {})
        tight = Problem(made.choices, NOTHING, budget=Budget.parse(limits), ratio=Ratio(2 / 3, count))
        best = best_subset(tight)
        if best is None:
            with pytest.raises(BudgetError):
                kept_by("knapsack", tight)
            return
        kept = kept_by("knapsack", tight)
        assert tight.admits(kept)
        worth = sum(choice.score.value for choice in tight.choices if choice.name in kept)
        assert worth == pytest.approx(best, abs=2e-6)  # the solver's gap is 1e-6 of the largest value


@pytest.mark.parametrize("name", METHODS)
class TestMethods:
    """What every method promises."""

    @given(st.integers(0, 2**32), st.integers(0, 12), st.floats(0, 1))
    def test_keeps_the_limits(self, name: str, seed: int, count: int, room: float) -> None:
        random = Random(seed)
        made = problem([random.random() for _ in range(count)], ops=[random.randint(1, 99) for _ in range(count)])
        least, most = (made.cost(kept).ops for kept in ((), made.names))
        if not most:
            return
        tight = Problem(made.choices, NOTHING, budget=Budget.parse({"ops": least + room * (most - least)}))
        kept = kept_by(name, tight)
        assert kept <= tight.names
        assert tight.admits(kept)

    def test_no_layers_no_choice(self, name: str) -> None:
        assert kept_by(name, problem([])) == set()

    def test_the_floor_is_said(self, name: str) -> None:
        with pytest.raises(BudgetError) as caught:
            kept_by(name, problem([1.0] * 3, budget=Budget.parse(["ops=2"])))
        assert line_of(caught).startswith("budget ops <= 2: cannot be kept, as even with every input binary")
        assert "the network needs ops 3 (3)" in line_of(caught)


class TestMetrics:
    """The formulas."""

    seen = Evidence(LayerErrors(0.4, 0.3, {}, LossChanges(0.25, 0.05)), ops_saved=200.0, share=0.1, gamma=0.02)

    def test_product_is_the_error_for_each_million_ops(self) -> None:
        assert METRICS["product"](self.seen) == LayerScore(0.4, 1e6 * 0.4 / 200)

    def test_hybrid_adds_gamma_over_the_share_of_macs(self) -> None:
        assert METRICS["hybrid"](self.seen) == LayerScore(0.4 + 0.02 / 0.1, 0.4 + 0.02 / 0.1)

    def test_sensitivity_is_the_loss_of_the_binary_input_for_each_million_ops(self) -> None:
        assert METRICS["sensitivity"](self.seen) == LayerScore(0.05, 1e6 * 0.05 / 200)

    def test_an_unmeasured_loss_is_said(self) -> None:
        unmeasured = self.seen._replace(errors=self.seen.errors._replace(losses=None))
        with pytest.raises(NotMeasured, match=r"^metric: it reads how the loss changes, which was not measured"):
            METRICS["sensitivity"](unmeasured)


class TestReasons:
    """What a method says of each layer."""

    room = Budget.parse([f"ops={6 + 5 + 5 + 63 * 10}"])  # for the 6, or for both the 5

    def test_the_knapsack_explains_a_set_not_a_rank(self) -> None:
        why = METHODS["knapsack"](problem([60, 50, 50], ops=[6, 5, 5], budget=self.room)).why  # type: ignore[union-attr]
        assert why["0"] == "not in the best set: worth 60, but sets with it that fit are worth no more than 100"
        assert why["1"] == why["2"] == "in the best set: worth 50 of its 100"

    def test_greedy_explains_the_order(self) -> None:
        why = METHODS["greedy"](problem([60, 50, -1], ops=[6, 5, 1], budget=self.room)).why  # type: ignore[union-attr]
        assert why == {
            "0": "rank 1 of 3, taken",
            "1": "rank 2 of 3, does not fit beside those before",
            "2": "rank 3 of 3, worth nothing (-1)",
        }

    def test_partition_explains_the_clusters(self) -> None:
        why = METHODS["partition"](problem([5, 26, 0, 20, 1], ratio=0.2)).why  # type: ignore[union-attr]
        assert (why["1"], why["3"]) == ("in the highest of 3 clusters", "below the highest of 3 clusters")

    def test_what_a_persons_own_method_leaves_out_is_its_rank(self) -> None:
        layers = network(facts("a", error=0.4), facts("b", error=0.3))
        made = decide(layers, NOTHING, ratio=1, method=lambda made: {"b"})
        assert made.decisions.layers["b"].why == "product, <lambda>: rank 2 of 2"


class TestRatio:
    """K of P, as the paper counts them."""

    chain = network(facts("a"), facts("down", kernel=1, stride=2), facts("b"))

    def most(self, layers: Sequence[LayerFacts], ratio: float, **rules: object) -> int:
        return len(decide(layers, NOTHING, ratio=ratio, rules=Rules(**rules)).kept)  # type: ignore[arg-type]

    def test_counts_what_rules_decide_but_not_the_first(self) -> None:
        # P = 4: a, b; down, whose input a rule keeps real; last, of the kind of what comes before it.
        assert [self.most(self.chain, ratio) for ratio in (0.24, 0.25, 0.49, 0.5)] == [0, 1, 1, 2]

    def test_a_classifier_of_another_kind_does_not_count(self) -> None:
        layers = [*self.chain[:-1], facts("fc", kind="linear", gives_output=True)]
        assert [self.most(layers, ratio) for ratio in (0.33, 0.34, 0.66, 0.67)] == [0, 1, 1, 2]

    def test_what_stays_real_as_a_whole_does_not_count(self) -> None:
        assert [self.most(self.chain, ratio, exclude=("b",)) for ratio in (0.33, 0.34)] == [0, 1]
        odd = [*self.chain[:-1], facts("odd", obstacle="is strange"), self.chain[-1]]
        assert [self.most(odd, ratio) for ratio in (0.24, 0.25)] == [0, 1]


class TestRules:
    """What is decided by place and by name."""

    layers = network(
        facts("block.conv"),
        facts("block.downsample.0", kernel=1),
        facts("half", kernel=1, stride=2),
        facts("point", kernel=1),
        facts("product", obstacle="multiplies two activations"),
    )

    def precisions(self, **changes: object) -> dict[str, str]:
        made = decide(self.layers, NOTHING, keep=(), rules=Rules(**changes))  # type: ignore[arg-type]
        return {name: decision.precision for name, decision in made.decisions.layers.items()}

    def test_defaults(self) -> None:
        assert self.precisions() == {
            "first": "real",
            "block.conv": "binary",
            "block.downsample.0": "weight",
            "half": "weight",
            "point": "binary",
            "product": "real",
            "last": "weight",
        }

    def test_places_can_have_other_precisions(self) -> None:
        made = self.precisions(first="weight", last="real", downsample="free")
        assert (made["first"], made["last"], made["half"]) == ("weight", "real", "binary")

    def test_excluded_layers_stay_real_and_included_ones_get_a_choice(self) -> None:
        made = self.precisions(exclude=("block",), include=("la?t",))
        assert (made["block.conv"], made["block.downsample.0"], made["last"]) == ("real", "real", "binary")

    def test_the_first_to_run_is_no_first_layer_unless_it_sees_the_input(self) -> None:
        layers = [facts("lstm", obstacle="is not counted"), facts("a"), facts("last")]
        why = {name: made.why for name, made in decide(layers, NOTHING, keep=()).decisions.layers.items()}
        assert why == {"lstm": "is not counted", "a": "not kept", "last": "last layer"}
        assert decide(layers[1:], NOTHING, keep=()).decisions.layers["a"].why == "not kept"

    def test_every_layer_at_an_end_is_an_end(self) -> None:
        ends = [
            facts("left", sees_input=True),
            facts("right", sees_input=True),
            facts("mid"),
            facts("a", gives_output=True),
        ]
        made = decide([*ends, facts("b", gives_output=True)], NOTHING, keep=()).decisions.layers
        assert [decision.why for decision in made.values()] == [
            "first layer", "first layer", "not kept", "last layer", "last layer"
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"exclude": ("blok",)}, "pattern 'blok' matches no layer; the nearest names are block"),
            ({"include": ("zzz*",)}, "pattern 'zzz*' matches no layer; the nearest names are "),
            ({"include": ("half",), "exclude": ("h*",)}, "layer 'half': is both included and excluded"),
            (
                {"include": ("product",)},
                "include: layer 'product' cannot be binarized: multiplies two activations; leave it out",
            ),
        ],
    )
    def test_bad_patterns_are_one_line(self, changes: dict[str, object], expected: str) -> None:
        with pytest.raises(BnasError) as caught:
            self.precisions(**changes)
        assert line_of(caught).startswith(expected)

    def test_a_path_matches_what_is_in_it(self) -> None:
        assert match("fc6", ["fc6.linear", "fc66.linear"]) == ["fc6.linear"]


class TestBudget:
    """Shares of the real network."""

    real = Cost(0, 1000, 4000, 0)

    def test_a_percentage_is_of_the_real_network(self) -> None:
        assert budget_of(["ops=25%", "bytes=1k"], self.real) == Budget.parse(["ops=250", "bytes=1000"])
        assert budget_of({"ops": "2.5 %"}, self.real) == Budget.parse(["ops=25"])

    @pytest.mark.parametrize(
        ("items", "expected"),
        [
            (["bops=10%"], "--budget bops: the real network has no bops to take a percentage of"),
            (["ops=1..2"], "--budget ops: a selection has upper limits only"),
            (["ops=0%"], "--budget ops: '0' is not an amount"),
            (["ops"], "--budget: 'ops' must be QUANTITY=AMOUNT"),
            (["macs=10%"], "--budget: quantity 'macs' is not known"),
        ],
    )
    def test_bad_budgets_are_one_line(self, items: list[str], expected: str) -> None:
        with pytest.raises(SpecError) as caught:
            budget_of(items, self.real)
        assert line_of(caught).startswith(expected)


class TestDecide:
    """From facts to a selection."""

    layers = network(facts("a", macs=64000, error=0.4), facts("b", macs=640, error=0.3), facts("c", error=0.5))
    rest = Cost(0, 0, 32, 8)

    def test_cost_is_the_sum_of_what_was_chosen(self) -> None:
        made = decide(self.layers, self.rest, keep=("b",))
        flops = 6400 + 640 + 6400  # first, b, last
        assert (made.cost.flops, made.cost.bops) == (flops, 64000 + 6400)
        assert made.cost.bytes == 32 + 400 + 13 + 13 + 2 * (13 + 16)
        assert made.kept == ("b",)

    def test_the_cheap_layer_is_kept_by_product(self) -> None:
        made = decide(self.layers, self.rest, budget=["ops=15k"], metric="product")
        assert made.kept == ("b",)
        assert made.decisions.layers["b"].why == "product, knapsack: in the best set: worth 0.3 of its 0.3"
        assert made.cost.ops <= 15_000

    def test_what_is_kept_by_hand_keeps_the_limits(self) -> None:
        with pytest.raises(BudgetError) as caught:
            decide(self.layers, self.rest, keep=("a",), budget=["ops=20k"], ratio=0.2)
        ops = 2 * 6400 + 64000 + (640 + 6400) / 64  # first, last, a; b and c in one bit
        assert line_of(caught) == (
            f"budget ops <= 20k: the choice needs ops 76.9k ({ops:g}); "
            "ratio 0.2: 1 of 4 inputs would stay real, 25.00 %; "
            "with real inputs in a: raise the limit, or keep other ones"
        )
        assert decide(self.layers, self.rest, keep=("b",), budget=["ops=20k"], ratio=0.25).kept == ("b",)

    def test_a_method_of_ones_own_keeps_the_limits(self) -> None:
        with pytest.raises(BudgetError, match=r"^budget ops <= 20k: the choice needs ops 76\.9k"):
            decide(self.layers, self.rest, budget=["ops=20k"], method=lambda made: {"a"})

    def test_a_name_may_hold_brackets(self) -> None:
        names = ["d.s[0]", "d.s[1]", "d.s1", "d.s[1].weight"]
        assert match("d.s[1]", names) == ["d.s[1]", "d.s[1].weight"]
        assert match("d.s[?]", names) == ["d.s[0]", "d.s[1]", "d.s[1].weight"]

    def test_one_pattern_and_one_limit_need_no_list(self) -> None:
        assert decide(self.layers, self.rest, keep="b", budget="ops=20k") == decide(
            self.layers, self.rest, keep=["b"], budget=["ops=20k"]
        )

    def test_a_pattern_passes_over_what_a_rule_makes_binary(self) -> None:
        assert decide(self.layers, self.rest, keep=["*"], rules=Rules(last="binary")).kept == ("a", "b", "c")

    def test_networks_to_compare_with(self) -> None:
        made = decide(self.layers, self.rest, keep=("b",))
        assert made.at("real").cost == made.real_cost == total([self.rest, *(x.costs["real"] for x in self.layers)])
        assert made.at("weight").cost.bops == 0
        assert made.at("weight").cost.weight_saving == pytest.approx(32 * 5 / (32 + 4))
        assert made.at("binary").cost.bops == 64000 + 640 + 6400

    def test_a_metric_and_a_method_of_ones_own(self) -> None:
        made = decide(
            self.layers, self.rest, ratio=1.0, metric=lambda seen: LayerScore(seen.share, seen.share),
            method=lambda made: frozenset([max(made.choices, key=lambda choice: choice.score.value).name]),
        )  # fmt: skip
        assert made.kept == ("a",)

    def test_a_pattern_keeps_no_layer_that_is_binary_by_a_rule(self) -> None:
        made = decide(self.layers, self.rest, keep=["*"], rules=Rules(last="binary"))
        assert set(made.kept) == {"a", "b", "c"}
        assert decide(self.layers, self.rest, keep=["*"], rules=Rules(last="binary"), ratio=0.75).kept == made.kept

    def test_selections_are_read_back(self) -> None:
        made = decide(self.layers, self.rest, keep=("b",))
        again = parse(Decisions, parse_yaml(dump(made.decisions), source="f"), source="f")
        assert Selection(made.layers, made.rest, again).cost == made.cost

    def test_rows_have_one_shape(self) -> None:
        rows = decide([*self.layers, facts("x", obstacle="is strange")], self.rest, ratio=0.5).rows()
        assert len({tuple(row) for row in rows}) == 1
        assert sum(row["share"] for row in rows) == pytest.approx(1)

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, "selection: needs a limit; give a budget as ops=25%, a ratio as 0.3, or the layers to keep"),
            ({"ratio": 1.5}, "ratio: must be between 0 and 1, but got 1.5"),
            ({"ratio": 0.5, "metric": "prodct"}, "metric 'prodct' is not known; did you mean 'product'?"),
            ({"ratio": 0.5, "method": "x"}, "method 'x' is not known; choose from greedy, knapsack, partition"),
            ({"ratio": 0.5, "metric": "sensitivity"}, "metric: it reads how the loss changes, which was not"),
            ({"budget": ["ops=1k"]}, "budget ops <= 1k: cannot be kept, as even with every input binary"),
            ({"keep": ["d"]}, "pattern 'd' matches no layer; the nearest names are "),
            ({"keep": "ab"}, "pattern 'ab' matches no layer; the nearest names are "),
            ({"budget": "ops=1"}, "budget ops <= 1: cannot be kept"),
            (
                {"keep": ["last"], "rules": Rules(last="binary")},
                "--keep: layer 'last' cannot keep a real input, as it is binary by a rule (last layer); leave one",
            ),
            (
                {"ratio": 1.0, "metric": lambda seen: 3.0},
                "metric <lambda>: must return a LayerScore, but returned a float",
            ),
            (
                {"ratio": 1.0, "method": lambda made: None},
                "method <lambda>: must return a Verdict or the names to keep",
            ),
            (
                {"ratio": 1.0, "method": lambda made: "ab"},
                "method <lambda>: must return a Verdict or the names to keep",
            ),
            ({"ratio": 1.0, "method": lambda made: {"zzz"}}, "method <lambda>: keeps 'zzz', which is no layer with a"),
            (
                {"ratio": 1.0, "method": lambda made: ["last"]},
                "method <lambda>: keeps 'last', which is no layer with a",
            ),
        ],
    )
    def test_bad_requests_are_one_line(self, changes: dict[str, object], expected: str) -> None:
        with pytest.raises(BnasError) as caught:
            decide(self.layers, self.rest, **changes)  # type: ignore[arg-type]
        assert line_of(caught).startswith(expected)

    @pytest.mark.parametrize(
        ("name", "precision", "expected"),
        [
            ("firts", "real", "layer 'firts' is not known; did you mean 'first'?"),
            ("x", "binary", "layer 'x': cannot be binary: is strange; write real"),
        ],
    )
    def test_decisions_that_do_not_fit_are_one_line(self, name: str, precision: str, expected: str) -> None:
        made = decide([*self.layers, facts("x", obstacle="is strange")], self.rest, keep=())
        changed = made.decisions.model_dump()
        changed["layers"][name] = {"precision": precision}
        with pytest.raises((LookupFailed, SpecError)) as caught:
            Selection(made.layers, made.rest, parse(Decisions, changed, source=""))
        assert line_of(caught).startswith(expected)
