"""The benchmark of packed networks: the networks that it measures."""

import importlib
from pathlib import Path

import pytest

from bnas.cost.budget import Budget
from bnas.space.space import SearchSpace

ROOT = Path(__file__).parents[1]


def test_a_small_network_is_of_its_space_and_inside_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(ROOT)
    runtime = importlib.import_module("runtime")
    for name in runtime.SMALL:
        space = SearchSpace.read(f"search_spaces/{name}.yaml")
        program, counted = runtime.network(name)
        assert program.input == space.input
        for quantity, limit in Budget.parse(space.search.budget).limits:
            assert getattr(counted, quantity) <= limit.at_most


def test_the_large_one_is_the_published_expert_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(ROOT)
    _, counted = importlib.import_module("runtime").network("expert_net")
    assert counted.bops == 1_706_786_816
