"""The networks made by hand that searches are compared with: they fill any budget, and are what they are called."""

import importlib
import itertools
from pathlib import Path
from types import ModuleType

import pytest
from spaces import line_of

from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import Cost, cost
from bnas.cost.trace.trace_model import trace
from bnas.errors import BudgetError
from bnas.networks.build import build
from bnas.space.arch import Architecture

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NAMES = ("plain", "react", "shallow", "pixels", "thermometer")
BUDGETS = {
    "tight in ops": {"ops": "150k", "bytes": "1M"},
    "tight in bytes": {"ops": "3M", "bytes": "20k"},
    "both": {"ops": "350k", "bytes": "40k"},
    "large": {"ops": "1M", "bytes": "120k"},
    "bops alone": {"bops": "20M"},
    "memory": {"ops": "1M", "activation_bytes": "60k"},
}


@pytest.fixture
def handmade(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("handmade")


def made(handmade: ModuleType, name: str, **budget: str) -> Architecture:
    arch = handmade.fitted(name, handmade.Task((3, 32, 32), 10, (2, 1, 2, 2)), Budget.parse(budget))
    assert isinstance(arch, Architecture)
    return arch


def shares(arch: Architecture, budget: dict[str, str]) -> list[float]:
    """Return how much of each limit a network takes."""
    price: Cost = cost(plan(arch))
    return [getattr(price, name) / limit.at_most for name, limit in Budget.parse(budget).limits]


def test_every_family_is_tested(handmade: ModuleType) -> None:
    assert set(NAMES) == set(handmade.FAMILIES)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", NAMES)
def test_a_family_takes_nearly_all_of_a_limit_and_no_more(handmade: ModuleType, name: str, budget: str) -> None:
    arch = made(handmade, name, **BUDGETS[budget])
    assert 0.9 <= max(shares(arch, BUDGETS[budget])) <= 1


def test_bits_from_the_image_on_fit_where_a_real_stem_does_not(handmade: ModuleType) -> None:
    few = {"ops": "9k", "bytes": "20k"}
    assert 0.9 <= max(shares(made(handmade, "thermometer", **few), few)) <= 1
    with pytest.raises(BudgetError, match=r"^plain: with 2 channels it takes ops 14\.\dk"):
        made(handmade, "plain", **few)


@pytest.mark.parametrize("name", NAMES)
def test_where_bytes_bind_early_stages_take_ops_that_late_ones_cannot(handmade: ModuleType, name: str) -> None:
    arch = made(handmade, name, ops="1M", bytes="40k")
    ops, size = shares(arch, {"ops": "1M", "bytes": "40k"})
    assert 0.95 <= size <= 1
    assert ops > 0.4
    assert arch.stages[-1].width < 2 * arch.stages[0].width
    assert made(handmade, name, ops="276k", bytes="120k") == made(handmade, name, ops="276k")


def test_an_absent_stage_of_the_found_network_is_none_of_its_rivals(handmade: ModuleType) -> None:
    arch = Architecture.read(BENCHMARKS / "results" / "anchors" / "tfc-0.yaml")
    assert [stage.depth for stage in arch.stages] == [0, 1, 1]
    assert handmade.Task.of(arch).strides == (7, 2, 2)


@pytest.mark.parametrize("name", NAMES)
def test_no_stage_can_be_two_channels_wider(handmade: ModuleType, name: str) -> None:
    arch, family = made(handmade, name, ops="350k"), handmade.FAMILIES[name]
    task = handmade.Task(arch.input, arch.classes, (2, 1, 2, 2))
    a_stage = len(arch.stages) // 3
    widths = [stage.width for stage in arch.stages[a_stage - 1 :: a_stage]]
    assert family.network(task, widths) == arch
    assert widths == sorted(widths)
    for place in range(len(widths)):
        wider = [width + 2 * (stage == place) for stage, width in enumerate(widths)]
        assert wider != sorted(wider) or cost(plan(family.network(task, wider))).ops > 350_000


@pytest.mark.parametrize("name", NAMES)
def test_all_layers_between_the_ends_are_binary(handmade: ModuleType, name: str) -> None:
    layers = [layer for layer in plan(made(handmade, name, ops="350k")) if layer.macs]
    assert {layer.precision for layer in layers[1:-1]} == {"binary"}
    assert layers[0].precision == ("binary" if name == "thermometer" else "real")
    assert layers[-1].precision == "real"
    assert {layer.role for layer in layers[1:-1]} == {"main"}


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_built_as_planned(handmade: ModuleType, name: str) -> None:
    arch = made(handmade, name, ops="150k")
    assert trace(build(arch), arch.input).layers == plan(arch)


def test_families_are_what_they_are_called(handmade: ModuleType) -> None:
    plain, react, shallow = (made(handmade, name, ops="350k") for name in ("plain", "react", "shallow"))
    assert [(stage.depth, stage.kernel, stage.stride) for stage in plain.stages] == [(2, 3, 1), (2, 3, 2), (2, 3, 2)]
    assert [stage.kernel for stage in react.stages] == [3, 1] * 6
    assert all(a.width == b.width for a, b in itertools.pairwise(react.stages) if b.kernel == 3)  # 1x1 alone widens
    assert react.binarizers.activation == "react"
    assert [stage.depth for stage in shallow.stages] == [1, 1, 1]
    assert all(a.width > b.width for a, b in zip(shallow.stages, plain.stages, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_that_two_channels_exceed_is_refused_with_what_they_take(handmade: ModuleType, name: str) -> None:
    with pytest.raises(
        BudgetError, match=rf"^{name}: with 2 channels it takes ops .*, but the budget is ops <= 1k"
    ) as c:
        made(handmade, name, ops="1k", bytes="1M")
    line_of(c)
