"""The benchmark of stems and recipes: what it trains, what it compares, and one whole row on few images."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import from_arrays
from bnas.space.recipe import Recipe, Stage

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


def test_networks_use_nearly_all_of_the_ops(recipes: ModuleType) -> None:
    for name, net in recipes.NETWORKS.items():
        task = recipes.Task((3, 32, 32), 10, net.strides)
        price = cost(plan(recipes.fitted(name, task, Budget.parse(recipes.BUDGET), net.family)))
        assert 0.97 * 350e3 < price.ops <= 350e3
        assert price.bytes <= 120e3


def test_a_recipe_is_the_base_with_one_thing_changed(recipes: ModuleType) -> None:
    base = recipes.recipe_of(recipes.BASE, 10)
    for name in recipes.RECIPES:
        recipe = recipes.recipe_of(name, 10)
        assert sum(stage.epochs for stage in recipe.stages) == 10
        assert (recipe == base) == (name == recipes.BASE)
        assert recipe.stages[-1].weights == "binary"


def test_rows_are_all_stems_then_all_recipes_on_one(recipes: ModuleType) -> None:
    jobs = recipes.jobs(images=100, epochs=2, seeds=2, stem="thermometer of 8 levels")
    assert len(jobs) == len(set(jobs)) == 2 * (len(recipes.NETWORKS) + len(recipes.RECIPES) - 1)
    assert {job.network for job in jobs if job.recipe != recipes.BASE} == {"thermometer of 8 levels"}


def test_a_claim_compares_the_seeds_that_both_have(recipes: ModuleType) -> None:
    rows = [row(recipes, seed=seed, test_accuracy=accuracy) for seed, accuracy in ((0, 0.7), (1, 0.6), (2, 0.0))]
    rows += [row(recipes, recipe="mixup 0.2", seed=seed, test_accuracy=a) for seed, a in ((0, 0.8), (1, 0.7), (3, 0.0))]
    rows += [row(recipes, recipe="mixup 0.2", epochs=3)]
    (claim,) = recipes.claims(pd.DataFrame(rows))
    assert claim.claim == (
        "100 images, 2 epochs, 2 seeds: test error of conv of stride 2, mixup 0.2, against conv of stride 2, base"
    )
    assert (claim.value, claim.yardstick, claim.holds) == (pytest.approx(0.25), pytest.approx(0.35), True)


@pytest.mark.parametrize("recipe", ["base", "real weights first, which teach", "taught by a real network"])
def test_a_row_is_trained(recipes: ModuleType, monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (200, 16, 16, 3), dtype=np.uint8), np.arange(200) % 10
    data = from_arrays("drawn", images, labels)
    monkeypatch.setattr(recipes, "load_data", lambda name, **how: data)
    monkeypatch.setattr(recipes, "BUDGET", {"ops": "60k"})
    monkeypatch.setattr(recipes, "TEACHER_EPOCHS", 1)
    monkeypatch.setattr(recipes, "BATCH", 32)
    job = recipes.Job("thermometer of 4 levels", recipe, 200, 4, 0)
    made = recipes.row_of(job)
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
