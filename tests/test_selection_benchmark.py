"""The benchmark of selections: what it claims from a table, and what it chooses for one."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("selection")


def row(network: str, seed: int, choice: str, budget: int, **changes: Any) -> dict[str, Any]:
    """Return a row in which every way to choose is right half the time, and the rest a third of it."""
    right = 0.5 if " " in choice and choice.split()[0] in ("product", "hybrid", "sensitivity") else 1 / 3
    return {
        "network": network, "seed": seed, "real_epochs": 12, "epochs": 6, "budget": budget, "choice": choice,
        "kept": "-", "ops": 1, "ops_share": 0.2, "bytes": 1, "validation_accuracy": right, "test_accuracy": right,
    } | changes  # fmt: skip


def group(benchmark: ModuleType, network: str, seed: int, **changes: Any) -> list[dict[str, Any]]:
    return [row(network, seed, *key, **changes) for key in benchmark.choices(benchmark.NETWORKS[network])]


def test_only_seeds_with_all_their_rows_are_claimed(benchmark: ModuleType) -> None:
    table = [*group(benchmark, "plain", 0), *group(benchmark, "plain", 1)[:-1], *group(benchmark, "resnet", 0)[1:]]
    made = list(benchmark.claims(pd.DataFrame(table)))
    assert len(made) == 1 + 2 * 3  # the paper's claim; chance and the last layers at three budgets
    assert all(claim.claim.startswith("plain, 1 seeds") and claim.holds for claim in made)


def test_rows_that_were_trained_otherwise_do_not_count(benchmark: ModuleType) -> None:
    worse = group(benchmark, "plain", 0, epochs=1, test_accuracy=0.0)
    made = list(benchmark.claims(pd.DataFrame([*worse, *group(benchmark, "plain", 0)])))
    assert made[0].yardstick == pytest.approx(0.5)
    assert not list(benchmark.claims(pd.DataFrame(worse)))


def test_the_best_is_picked_on_validation_images(benchmark: ModuleType) -> None:
    table = group(benchmark, "plain", 0)
    for made in table:
        if made["choice"] == "hybrid greedy":
            made |= {"validation_accuracy": 0.9, "test_accuracy": 0.1}
    first, *_ = benchmark.claims(pd.DataFrame(table))
    assert "against hybrid greedy at 10 %" in first.claim
    assert not first.holds


def test_every_choice_keeps_its_budget(benchmark: ModuleType) -> None:
    networks = importlib.import_module("selection_networks")
    setting = networks.NETWORKS["tiny"]
    torch.manual_seed(0)
    network = setting.build()
    batches = [(torch.randn(32, 3, 16, 16), torch.randint(10, (32,)))]

    class Images:
        train = type("Train", (), {"take": lambda self, count, seed: self, "batches": lambda self, size: batches})()

    facts = networks.measured(network, Images(), seed=0)
    for choice, budget in networks.choices(setting):
        made = networks.chosen(facts, setting, choice, budget, seed=0)
        assert not budget or 100 * made.cost.ops <= budget * made.real_cost.ops, choice
    assert networks.chosen(facts, setting, networks.FBIN, 0, seed=0).kept == ()


def test_shards_share_the_work_out(benchmark: ModuleType) -> None:
    every = benchmark.groups(["plain", "resnet", "tiny"], 3)
    assert sorted(every) == sorted((name, seed) for name in ("plain", "resnet", "tiny") for seed in range(3))
    assert {name for name, _ in every[0::2]} == {name for name, _ in every[1::2]} == {"plain", "resnet", "tiny"}
