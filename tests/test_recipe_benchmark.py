"""The benchmark of stems and recipes: what it trains, what it compares, and one whole row on few images."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from bnas.data import DataSet, from_arrays
from bnas.space.recipe import Recipe, Stage
from bnas.spec import dump

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("recipes")


def row(recipes: ModuleType, **changed: Any) -> dict[str, Any]:
    same = {
        "network": recipes.PLAIN,
        "recipe": recipes.BASE,
        "images": 100,
        "epochs": 2,
        "seed": 0,
        "ops": 1,
        "bytes": 1,
    }
    return same | {"train_accuracy": 0.5, "validation_accuracy": 0.5, "test_accuracy": 0.5, "seconds": 1.0} | changed


def drawn(side: int, channels: int) -> DataSet:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (200, side, side, channels), dtype=np.uint8)
    return from_arrays("drawn", images, np.arange(200) % 10)


def test_networks_for_cifar10_use_nearly_all_of_the_ops(recipes: ModuleType) -> None:
    for net in (net for net in recipes.NETWORKS.values() if net.data == "cifar10"):
        price = net.made(drawn(32, 3)).price
        assert 0.97 * 350e3 < price.ops <= 350e3
        assert price.bytes <= 120e3


def test_networks_for_mnist_are_the_published_ones_and_cheaper_ones_found(recipes: ModuleType) -> None:
    prices = {name: net.made(drawn(28, 1)).price for name, net in recipes.NETWORKS.items() if net.data == "mnist"}
    for name in ("TFC", "SFC"):
        found, published = prices[f"found under the cost of {name}"], prices[name]
        assert found.ops < published.ops
        assert found.bytes < published.bytes
    assert prices["LFC"].bops == pytest.approx(2.91e6, rel=0.01)


@pytest.mark.parametrize("data", ["cifar10", "mnist"])
def test_a_recipe_is_the_base_with_one_thing_changed(recipes: ModuleType, data: str) -> None:
    made = {name: recipes.recipe_of(data, name, 10) for name in recipes.recipes_for(data)}
    for recipe in made.values():
        assert sum(stage.epochs for stage in recipe.stages) == 10
        assert recipe.stages[-1].weights == "binary"
    assert len({dump(recipe) for recipe in made.values()}) == len(made)
    base = made[recipes.BASE].stages[0].rate
    assert made["batch of 32 at half the rate"].stages[0].rate == base / 2


@pytest.mark.parametrize("network", ["thermometer of 8 levels", "found under the cost of SFC"])
def test_rows_are_all_networks_then_all_recipes_on_one(recipes: ModuleType, network: str) -> None:
    data = recipes.NETWORKS[network].data
    alike = [name for name, net in recipes.NETWORKS.items() if net.data == data]
    jobs = recipes.jobs(network, images=100, epochs=2, seeds=2)
    assert len(jobs) == len(set(jobs)) == 2 * (len(alike) + len(recipes.recipes_for(data)) - 1)
    assert {job.network for job in jobs if job.recipe != recipes.BASE} == {network}


def test_names_hold_no_comma_for_that_parts_cells(recipes: ModuleType) -> None:
    names = [*recipes.NETWORKS, *(name for data in recipes.SETTINGS for name in recipes.recipes_for(data))]
    assert not [name for name in names if "," in name]


def test_a_claim_compares_the_seeds_that_both_have(recipes: ModuleType) -> None:
    rows = [row(recipes, seed=seed, test_accuracy=accuracy) for seed, accuracy in ((0, 0.7), (1, 0.6), (2, 0.0))]
    rows += [row(recipes, recipe="mixup 0.2", seed=seed, test_accuracy=a) for seed, a in ((0, 0.8), (1, 0.7), (3, 0.0))]
    rows += [row(recipes, recipe="mixup 0.2", epochs=3)]
    (claim,) = recipes.claims(pd.DataFrame(rows))
    assert claim.claim == (
        "100 images, 2 epochs, 2 seeds: test error of conv of stride 2, mixup 0.2, against conv of stride 2, base"
    )
    assert (claim.value, claim.yardstick, claim.holds) == (pytest.approx(0.25), pytest.approx(0.35), True)


@pytest.mark.parametrize("recipe", ["base", "real weights first as teacher", "taught by a real network"])
@pytest.mark.parametrize("network", ["thermometer of 4 levels", "found under the cost of TFC", "TFC"])
def test_a_row_is_trained(recipes: ModuleType, monkeypatch: pytest.MonkeyPatch, network: str, recipe: str) -> None:
    name = recipes.NETWORKS[network].data
    data = drawn(16, 3) if name == "cifar10" else drawn(28, 1)
    monkeypatch.setattr(recipes, "load_data", lambda name, **how: data)
    monkeypatch.setattr(recipes, "BUDGET", {"ops": "60k"})
    monkeypatch.setitem(recipes.SETTINGS, name, recipes.SETTINGS[name]._replace(teacher_epochs=1))
    monkeypatch.setattr(recipes, "BATCH", 32)
    made = recipes.row_of(recipes.Job(network, recipe, 200, 4, 0))
    assert tuple(made) == recipes.COLUMNS
    assert 0 <= made["test_accuracy"] <= 1
    assert made["ops"] <= 60e3


def test_a_network_is_measured_where_it_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    in_one_go = importlib.import_module("in_one_go")
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (200, 8, 8, 3), dtype=np.uint8), np.arange(200) % 10
    data = from_arrays("drawn", images, labels)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    trained = in_one_go.train(lambda stage: network, Recipe(stages=(Stage(epochs=1),), batch=32), data, seed=0)
    assert next(trained.parameters()).device.type == in_one_go.processor().type
    assert 0 <= in_one_go.accuracy(trained, data.test) <= 1
