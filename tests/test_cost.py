import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces import line_of, make_arch

from bnas.amounts import show
from bnas.cost.budget import QUANTITIES, Budget, Limit, amount
from bnas.cost.plan import PlannedLayer, plan
from bnas.cost.totals import Cost, by_stage, convention, cost, total
from bnas.errors import SpecError
from bnas.space.values import Precision


def price(*, bops: int = 0, flops: int = 0, size: int = 0) -> Cost:
    return Cost(bops=bops, flops=flops, bytes=size, parameters=0)


class TestCost:
    """Sums over planned layers."""

    def test_of_a_network_by_hand(self) -> None:
        made = cost(plan(make_arch(stage={"experts": 2}, shortcut={"kind": "conv"})))
        positions = 9 * 7
        stem, main, shortcut, gate, head = 8 * 27, 16 * 8 * 9, 16 * 8, 8 * 2, 16 * 5
        norms_and_slopes = 2 * 8 + 2 * 8 + 16 + 2 * 16 + 2 * 16
        assert made.bops == main * positions
        assert made.flops == (stem + shortcut) * positions + gate + head
        assert made.ops == made.flops + made.bops / 64
        others = norms_and_slopes + 2 * 16 + 2 + 5  # scales of both experts, biases of gate and classifier
        assert made.bytes == 2 * main // 8 + 4 * (stem + shortcut + gate + head + others)
        assert made.parameters == 2 * main + stem + shortcut + gate + head + others

    def test_one_op_is_64_bops(self) -> None:
        assert price(bops=640, flops=5).ops == 10 + 5

    def test_costs_add_up(self) -> None:
        layers = plan(make_arch(stage={"depth": 3}))
        for middle in range(1, len(layers)):
            assert cost(layers[:middle]) + cost(layers[middle:]) == cost(layers)

    def test_nothing_costs_nothing(self) -> None:
        assert set(cost([]).as_dict().values()) == {0}

    def test_every_budgeted_quantity_is_in_the_dictionary(self) -> None:
        made = cost(plan(make_arch()))._replace(nanoseconds=2_500_000)
        assert made.latency_ms == 2.5
        assert next(iter(made.as_dict())) == "ops"
        assert {name: made.as_dict()[name] for name in QUANTITIES} == {name: getattr(made, name) for name in QUANTITIES}


class TestAmounts:
    """How people write numbers."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1000", 1000), ("20k", 20_000), ("3M", 3_000_000), ("1.5G", 1_500_000_000), ("64KiB", 64 * 1024),
            ("2MiB", 2 * 1024**2), ("1GiB", 1024**3), (" 3 M ", 3_000_000), ("3e6", 3_000_000), ("0.5k", 500),
        ],
    )  # fmt: skip
    def test_amounts(self, text: str, value: float) -> None:
        assert amount(text, source="") == value

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "M",
            "-3M",
            "0",
            "0k",
            "3m",
            "3 MB",
            "3K",
            "1,000",
            "nan",
            "inf",
            "9" * 400,
            "1e999",
            "3M3",
            "٣M",
            "1.",
            "50%",
        ],
    )
    def test_what_is_no_amount_is_refused(self, text: str) -> None:
        with pytest.raises(SpecError) as caught:
            amount(text, source="--budget ops")
        line = line_of(caught)
        assert line.startswith("--budget ops: ")
        assert line.endswith(" is not an amount; write a positive number with k, M, G, KiB or MiB, as in 3M")

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"), (0.5, "0.5"), (7, "7"), (512, "512"), (999.4, "999"), (999.6, "1k"), (1000, "1k"),
            (17_345, "17.3k"), (999_499, "999k"), (999_500, "1M"), (2_954_321, "2.95M"), (1_200_000_000, "1.2G"),
            (10**12, "1000G"),
        ],
    )  # fmt: skip
    def test_three_digits_are_shown(self, value: float, text: str) -> None:
        assert show(value) == text

    @given(st.floats(1, 1e15))
    def test_what_is_shown_is_an_amount_near_by(self, value: float) -> None:
        assert amount(show(value), source="") == pytest.approx(value, rel=0.005)


class TestBudget:
    """Limits over several quantities at once."""

    def test_at_most(self) -> None:
        budget = Budget.parse(["ops=3M", "bytes=20k"])
        assert budget.limits == (("ops", Limit(0, 3e6)), ("bytes", Limit(0, 2e4)))

    def test_from_a_mapping_as_in_a_space_file(self) -> None:
        written = Budget.parse({"ops": "3M", "bytes": 20_000, "flops": 1.5e6}, source="space.yaml")
        assert written == Budget.parse(["flops=1.5M", "bytes=20k", "ops=3000k"])

    def test_between(self) -> None:
        assert Budget.parse(["ops=1M..3M"]).limits == (("ops", Limit(1e6, 3e6)),)

    def test_at_least(self) -> None:
        assert Budget.parse(["ops=1M.."]).limits == (("ops", Limit(1e6, math.inf)),)

    @pytest.mark.parametrize(
        ("items", "expected"),
        [
            (["ops"], "--budget: 'ops' must be QUANTITY=AMOUNT, as in ops=3M"),
            (["opps=3M"], "--budget: quantity 'opps' is not known; did you mean 'ops'? choose from "),
            (
                ["latency=3"],
                "--budget: quantity 'latency' is not known; did you mean 'latency_ms'? ",
            ),
            (["activation_bytes=1k..2k"], "--budget activation_bytes: has an upper limit only; "),
            (["ops=3M", "ops=4M"], "--budget: ops is given twice; give one limit for it"),
            (["ops="], "--budget ops: '' is not an amount"),
            (["ops=3M..1M"], "--budget ops: lower <= upper must hold, but got '3M..1M'; swap them"),
            (["ops=..3M"], "--budget ops: '' is not an amount"),
            (["ops=1M..2M..3M"], "--budget ops: '2M..3M' is not an amount"),
            (["ops=-1"], "--budget ops: '-1' is not an amount"),
            (["ops=" + "x" * 1000], "--budget ops: 'xxxx"),
            (["y" * 1000], "--budget: 'yyyy"),
        ],
    )
    def test_what_is_no_budget_is_refused(self, items: list[str], expected: str) -> None:
        with pytest.raises(SpecError) as caught:
            Budget.parse(items)
        assert line_of(caught).startswith(expected)

    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True])
    def test_a_number_that_is_no_limit_is_refused(self, value: float) -> None:
        with pytest.raises(SpecError, match=r"^space\.yaml ops: '.*' is not an amount"):
            Budget.parse({"ops": value}, source="space.yaml")

    def test_over_another_it_changes_the_limits_that_it_names(self) -> None:
        own = Budget.parse(["ops=3M", "bytes=20k"])
        assert Budget.parse([], over=own) == own
        assert Budget.parse(["ops=5M"], over=own) == Budget.parse(["ops=5M", "bytes=20k"])
        assert Budget.parse({"flops": "1M"}, over=own) == Budget.parse(["ops=3M", "flops=1M", "bytes=20k"])
        assert Budget.parse(["bytes=none", "ops=1M..2M"], over=own) == Budget.parse(["ops=1M..2M"])

    @pytest.mark.parametrize("item", ["opps=none", "ops="])
    def test_over_another_a_wrong_item_is_refused_too(self, item: str) -> None:
        with pytest.raises(SpecError):
            Budget.parse([item], over=Budget())
        with pytest.raises(SpecError, match="given twice"):
            Budget.parse(["ops=none", "ops=3M"], over=Budget())

    def test_every_limit_is_kept(self) -> None:
        budget = Budget.parse(["ops=100", "bytes=50"])
        assert budget.admits(price(flops=100, size=50))
        assert not budget.admits(price(flops=101, size=50))
        assert not budget.admits(price(flops=100, size=51))

    def test_bops_count_for_ops(self) -> None:
        budget = Budget.parse(["ops=100"])
        assert budget.admits(price(bops=6400))
        assert not budget.admits(price(bops=6401))

    def test_a_range_has_two_ends(self) -> None:
        budget = Budget.parse(["bops=10..20"])
        assert [budget.admits(price(bops=bops)) for bops in (9, 10, 20, 21)] == [False, True, True, False]

    def test_no_limit_admits_everything(self) -> None:
        assert Budget().admits(price(bops=10**18, flops=10**18, size=10**18))
        assert str(Budget()) == "no limit"

    def test_excess_is_the_share_outside(self) -> None:
        budget = Budget.parse(["bops=100..200", "bytes=10"])
        assert budget.excess(price(bops=300, size=10)) == 300 / 200 - 1
        assert budget.excess(price(bops=50, size=10)) == 1 - 50 / 100
        assert budget.excess(price(bops=300, size=15)) == (300 / 200 - 1) + (15 / 10 - 1)

    @given(st.integers(1, 100), st.integers(0, 100), st.integers(0, 300))
    def test_excess_is_zero_exactly_inside(self, low: int, more: int, bops: int) -> None:
        budget = Budget.parse([f"bops={low}..{low + more}"])
        assert (budget.excess(price(bops=bops)) == 0) == budget.admits(price(bops=bops))
        assert budget.excess(price(bops=bops)) >= 0

    def test_it_says_what_it_admits(self) -> None:
        budget = Budget.parse(["bops=10k..", "ops=3M", "bytes=1k..20k"])
        assert str(budget) == "ops <= 3M, bops >= 10k, bytes >= 1k and <= 20k"

    @pytest.mark.parametrize(
        "item", ["ops=3M", "ops=1234567..7654321", "ops=5..", "ops=0.3", "bytes=64KiB", "ops=100000000000G"]
    )
    def test_what_it_writes_reads_back(self, item: str) -> None:
        budget = Budget.parse([item])
        assert Budget.parse(budget.as_dict()) == budget

    @given(st.floats(1e-300, 1e300), st.floats(1, 2))
    def test_any_range_reads_back(self, low: float, factor: float) -> None:
        budget = Budget((("ops", Limit(low, low * factor)),))
        assert Budget.parse(budget.as_dict()) == budget


class TestFigures:
    """What a cost says beside ops, worked out for one conv of each precision."""

    def layers(self, precision: Precision) -> tuple[PlannedLayer, ...]:
        conv = PlannedLayer(
            "stages.0.0.main.conv", "main", "conv", 4, 8, (5, 5), (3, 3), (3, 3), (2, 2), 2, 1, precision, 8, 7
        )
        return conv, PlannedLayer("head.norm", "norm", "norm", 8, 8, (3, 3), (3, 3), real_values=16)

    weights = 8 * 4 // 2 * 9
    macs = weights * 9

    @pytest.mark.parametrize(
        ("precision", "bops", "mixed", "binary"),
        [("real", 0, 0, 0), ("weight", 0, macs, weights), ("binary", macs, 0, weights)],
    )
    def test_by_precision(self, precision: Precision, bops: int, mixed: int, binary: int) -> None:
        made = cost(self.layers(precision))
        assert (made.bops, made.mixed_flops, made.binary_weights) == (bops, mixed, binary)
        assert made.macs == self.macs
        assert made.flops == self.macs - bops
        assert made.parameters_by_bits == {1: binary, 32: self.weights - binary + 8 + 16}
        assert made.float32_bytes == 4 * (self.weights + 8 + 16)
        assert made.bytes == (4 * self.weights if precision == "real" else self.weights // 8) + 4 * (8 + 16)
        assert made.weight_saving == (1 if precision == "real" else 32)

    @pytest.mark.parametrize(("precision", "bits"), [("real", 32), ("weight", 32), ("binary", 1)])
    def test_activations_of_a_layer(self, precision: Precision, bits: int) -> None:
        conv, norm = self.layers(precision)
        assert conv.activation_bytes == -(-4 * 25 * bits // 8) + 4 * (8 * 9 + 7)
        assert norm.activation_bytes == 0

    def test_the_peak_is_the_highest_and_all_else_adds_up(self) -> None:
        conv, norm = self.layers("binary")
        assert (cost([conv, norm]) + cost([conv])).activation_bytes == conv.activation_bytes
        assert (cost([conv, norm]) + cost([conv])).bops == 2 * conv.bops

    def test_parts_are_stem_stages_and_head(self) -> None:
        layers = plan(make_arch(stage={"depth": 2}))
        parts = by_stage(layers)
        assert list(parts) == ["stem", "stages.0", "head"]
        assert total(parts.values()) == cost(layers)

    def test_a_layer_called_again_brings_no_weights(self) -> None:
        again = replace(self.layers("binary")[0], own_weights=0, real_values=0)
        assert (again.weights, again.bytes, again.bops) == (0, 0, self.macs)

    def test_a_transposed_convolution_sends_each_input_through_a_filter(self) -> None:
        layer = PlannedLayer("up", "other", "transposed", 4, 6, (5, 5), (11, 11), (3, 3), (2, 2), groups=2)
        assert layer.macs == 4 * 6 // 2 * 9 * 5 * 5


class TestConventions:
    """The ways of others to make one figure of MACs."""

    made = Cost(bops=6400, flops=50, bytes=0, parameters=0, mixed_flops=20)

    @pytest.mark.parametrize(
        ("name", "divisor", "unit", "figure"),
        [
            ("literature", 64, "ops", 50 + 6400 / 64),
            ("literature", 32, "ops", 50 + 6400 / 32),
            ("larq", 64, "macs", 50 + 6400),
            ("qonnx", 64, "bit_ops", 6400 * 1 * 1 + 20 * 32 * 1 + 30 * 32 * 32),
        ],
    )
    def test_figures(self, name: str, divisor: int, unit: str, figure: float) -> None:
        made = convention(name, divisor=divisor)
        assert (made.name, made.unit, made.figure(self.made)) == (name, unit, figure)

    @pytest.mark.parametrize(
        ("name", "divisor", "saving"),
        [
            ("literature", 64, 6450 / (50 + 6400 / 64)),
            ("literature", 32, 6450 / (50 + 6400 / 32)),
            ("larq", 64, 1),
            ("qonnx", 64, 6450 * 32 * 32 / (6400 + 20 * 32 + 30 * 32 * 32)),
        ],
    )
    def test_the_saving_is_against_real_inputs_and_weights(self, name: str, divisor: int, saving: float) -> None:
        assert convention(name, divisor=divisor).saving(self.made) == saving
        assert convention(name, divisor=divisor).saving(Cost(0, 0, 0, 0)) == 1

    def test_the_literature_names_its_divisor(self) -> None:
        assert convention("literature", divisor=32).formula == "OPs = FLOPs + BOPs / 32"

    @pytest.mark.parametrize(
        ("name", "divisor", "expected"),
        [
            ("flops", 64, "convention: 'flops' is not known; choose from literature, larq, qonnx"),
            ("literature", 0, "divisor: must be at least 1, but got 0; the literature's is 64"),
            ("larq", 32, "divisor: larq divides nothing, but got 32; choose literature, or leave it out"),
        ],
    )
    def test_others_are_refused(self, name: str, divisor: int, expected: str) -> None:
        with pytest.raises(SpecError) as caught:
            convention(name, divisor=divisor)
        assert line_of(caught) == expected
