"""The benchmark of found networks beside those made by hand: what is trained, and what it claims of a table."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import load_data
from bnas.networks.build import build
from bnas.space.arch import Architecture
from bnas.space.shipped import space_file
from bnas.space.space import SearchSpace
from bnas.spec import dump

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SPACE = SearchSpace.read(space_file("cifar10"))
FOUND = SPACE.smallest()


@pytest.fixture
def benchmark_(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("search_vs_handmade")


def test_rivals_take_nearly_as_much_and_no_more(benchmark_: ModuleType) -> None:
    networks = benchmark_.beside(FOUND, list(benchmark_.FAMILIES))
    most = cost(plan(FOUND))
    assert networks.pop("found") == FOUND
    assert {"plain", "pixels", "thermometer"} <= set(networks)
    for arch in networks.values():
        price = cost(plan(arch))
        assert price.ops <= most.ops
        assert price.bytes <= most.bytes
        assert max(price.ops / most.ops, price.bytes / most.bytes) > 0.9


def test_every_network_is_trained_once_by_one_recipe(benchmark_, monkeypatch, tmp_path, capsys) -> None:
    trained = []

    def train(make, recipe, data, *, seed):
        trained.append((recipe.model_dump_json(), seed))
        return make(recipe.stages[-1])

    monkeypatch.setattr(benchmark_, "train", train)
    monkeypatch.setattr(benchmark_, "accuracy", lambda network, images: 0.5)
    monkeypatch.setattr(benchmark_, "load_data", lambda *_, **__: load_data("digits", limit=50))
    (tmp_path / "found.yaml").write_text(dump(FOUND))
    arguments = [str(tmp_path / "found.yaml"), "--seeds", "2", "--epochs", "3", "--rivals", "plain"]
    monkeypatch.setattr(sys, "argv", ["", *arguments, "--results", str(tmp_path / "rows.csv"), "--json"])
    for _ in range(2):
        benchmark_.main()
    assert len(trained) == 4
    (text,) = {text for text, _ in trained}
    assert [(stage["epochs"], stage["dtype"]) for stage in json.loads(text)["stages"]] == [(3, "bfloat16")]
    table = pd.read_csv(tmp_path / "rows.csv")
    assert sorted(zip(table["network"], table["seed"], strict=True)) == [
        ("found", 0), ("found", 1), ("plain", 0), ("plain", 1)
    ]  # fmt: skip
    assert "best made by hand" in capsys.readouterr().out


def rows(**accuracies: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"found": "a", "network": name, "epochs": 10, "seed": seed, "ops": 100, "bytes": 50,
         "train_accuracy": 0.9, "validation_accuracy": right, "test_accuracy": right, "seconds": 1.0}
        for name, values in accuracies.items()
        for seed, right in enumerate(values)
    )  # fmt: skip


def test_a_found_network_is_compared_with_the_best_rival(benchmark_: ModuleType) -> None:
    ahead, surely = benchmark_.claims(rows(found=[0.72, 0.73, 0.74], plain=[0.70, 0.70, 0.70], react=[0.6, 0.6, 0.6]))
    assert ahead.holds
    assert surely.holds
    assert "of plain" in ahead.claim
    assert "+2.00 to +4.00" in surely.claim
    ahead, surely = benchmark_.claims(rows(found=[0.72, 0.73], plain=[0.72, 0.72, 0.72]))
    assert not ahead.holds
    assert "2 seeds" in ahead.claim
    assert "+0.00 to +1.00" in surely.claim


def test_a_gain_that_may_be_none_is_not_sure(benchmark_: ModuleType) -> None:
    ahead, surely = benchmark_.claims(rows(found=[0.90, 0.70, 0.70], plain=[0.70, 0.72, 0.72]))
    assert ahead.holds
    assert not surely.holds


def test_rivals_are_compared_on_the_seeds_that_all_of_them_have(benchmark_: ModuleType) -> None:
    (claim,) = benchmark_.claims(rows(found=[0.72, 0.73], plain=[0.70], react=[0.69, 0.9]))
    assert "1 seeds" in claim.claim
    assert "of plain" in claim.claim


def test_nothing_is_claimed_of_one_side(benchmark_: ModuleType) -> None:
    assert not list(benchmark_.claims(rows(found=[0.7])))
    assert not list(benchmark_.claims(rows(plain=[0.7])))
    assert not list(benchmark_.claims(pd.DataFrame(columns=list(benchmark_.COLUMNS))))


def test_what_anchors_kept_can_be_built(benchmark_: ModuleType) -> None:
    for file in benchmark_.kept():
        assert build(Architecture.read(file)).training
