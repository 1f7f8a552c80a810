"""The prepared program for a GPU: that it runs, on a processor and with tiny settings, from a space to its claims."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.space.recipe import Stage
from bnas.space.shipped import space_file
from bnas.space.space import SearchSpace
from tests.packed import MANY
from tests.tiny import tiny_file

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def gpu_cifar(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_cifar")


@pytest.mark.slow
def test_it_searches_and_claims(
    gpu_cifar: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--no-profile", "--json", "--data", "digits", "--minutes", "1", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["gpu_cifar.py", *options, "--space", str(tiny_file(tmp_path))])
    gpu_cifar.main()
    claims = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [claim["target"] for claim in claims] == [1, 1, 1]
    assert 0 < claims[1]["value"] < 0.9
    assert claims[2]["value"] <= 12e3


def test_its_space_stays_inside_what_it_claims(gpu_cifar: ModuleType) -> None:
    space = SearchSpace.read(space_file("cifar10_gpu"))
    assert dict(Budget.parse(space.search.budget).limits)["ops"].at_most <= gpu_cifar.OPS


@pytest.mark.skipif(not MANY, reason="compiling takes a minute; BNAS_MANY=1 does it")
def test_steps_are_timed_in_every_way(gpu_cifar: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_cifar, "REPEATS", 1)
    monkeypatch.setattr(gpu_cifar, "STEPS", 1)
    space = SearchSpace.read(space_file("cifar10_gpu"))
    settings = space.search.model_copy(update={"budget": {"ops": "100k"}})
    claims = list(gpu_cifar.profiled(space.model_copy(update={"search": settings}), torch.device("cpu")))
    assert len(claims) == 2
    assert all(claim.value > 0 for claim in claims)


def test_a_way_takes_steps(gpu_cifar: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_cifar, "STEPS", 2)
    task = gpu_cifar.Task((1, 8, 8), 10, (1, 2, 2, 2))
    arch = gpu_cifar.fitted("thermometer", task, Budget.parse({"ops": "20k"}))
    assert cost(plan(arch)).ops <= 20e3
    for dtype in ("float32", "bfloat16"):
        gpu_cifar.steps_of(arch, 16, torch.device("cpu"), Stage(epochs=1, dtype=dtype))()
