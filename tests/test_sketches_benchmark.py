"""The benchmark of the papers' claims on sketches: its rows, its networks, and what it claims from a table."""

import importlib
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch

from bnas.binarize.alpha_beta import alpha_beta
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.layers import ExpertConv
from bnas.layers.binary_layer import BinaryLayer
from bnas.networks.build import build

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def sketches(load: Any) -> ModuleType:
    module: ModuleType = load("sketches")
    return module


def row(family: str, network: str, choice: str, seed: int, right: float, **changes: Any) -> dict[str, Any]:
    return {
        "family": family, "network": network, "data": "d", "epochs": 3, "choice": choice, "seed": seed, "ops": 1,
        "bops": 1, "bytes": 1, "train_accuracy": right, "validation_accuracy": right, "test_accuracy": right,
        "usage_entropy": "-", "usage_least": "-", "seconds": 1,
    } | changes  # fmt: skip


def test_a_row_is_trained_once_and_all_seeds_of_a_cell_follow_each_other(load: Any) -> None:
    rows = load("sketch_rows")
    found = rows.jobs(3)
    assert len(set(found)) == len(found)
    for cell in zip(*[iter(found)] * 3, strict=True):
        assert [job.seed for job in cell] == [0, 1, 2]
        assert len({job._replace(seed=0) for job in cell}) == 1
    assert {job.family for job in found[:12]} == set(rows.FAMILIES)  # the families take turns


@pytest.mark.parametrize("name", ["Sketch-A-Net", "ResNet-18", "GoogLeNet", "SqueezeNet"])
def test_the_papers_block_has_no_learned_scale(load: Any, name: str) -> None:
    networks = load("sketch_networks")
    images = torch.randn(2, 1, 28, 28)
    for choice in ("real", "WBin xnor", "FBin alpha_beta"):
        network = networks.in_papers_block(name, networks.BLOCKS[choice], 7)
        assert network(images).shape == (2, 7)
        layers = [layer for layer in network.modules() if isinstance(layer, BinaryLayer)]
        assert bool(layers) == (choice != "real")
        for layer in layers:
            assert layer.precision in (("weight",) if choice.startswith("WBin") else ("binary", "weight"))  # shortcuts
            assert not layer.alpha.requires_grad
            assert torch.equal(layer.alpha, torch.ones_like(layer.alpha))


def test_one_thing_is_changed_at_a_time(load: Any) -> None:
    networks = load("sketch_networks")

    def made(choice: str) -> torch.nn.Module:
        return networks.in_papers_block("Sketch-A-Net", networks.BLOCKS[choice], 7)

    scaled, bent = made("FBin xnor + learned alpha"), made("FBin xnor + PReLU")
    assert all(layer.alpha.requires_grad for layer in scaled.modules() if isinstance(layer, BinaryLayer))
    assert not any(layer.alpha.requires_grad for layer in bent.modules() if isinstance(layer, BinaryLayer))
    kinds = [{type(layer).__name__ for layer in network.modules()} for network in (scaled, bent)]
    assert [("ReLU" in names, "PReLU" in names) for names in kinds] == [(True, False), (False, True)]
    weight = torch.randn(4, 3, 3, 3)
    whole = alpha_beta(weight)
    assert torch.equal(networks.with_class_means(weight).dense(), whole.dense())
    assert torch.equal(networks.without_offset(weight).dense(), whole.sign * whole.scale)


@pytest.mark.parametrize("depths", [(2, 2, 2, 2), (1, 2, 6, 2)])
def test_groups_pay_for_width_and_no_more(load: Any, depths: tuple[int, ...]) -> None:
    networks, rows = load("sketch_networks"), load("sketch_rows")
    made = [networks.widened(rows.NARROW, groups, 50, depths) for groups in (1, 4, 16)]
    spent = [cost(plan(arch)).bops for arch in made]
    assert spent[0] == cost(plan(networks.ours(rows.NARROW, 50, depth=list(depths)))).bops
    assert all(0.75 * spent[0] <= bops <= spent[0] for bops in spent)
    widths = [[stage.width for stage in arch.stages] for arch in made]
    assert all(a < b for narrow, wide in pairwise(widths) for a, b in zip(narrow, wide, strict=True))


@pytest.mark.parametrize("kind", ["standardised gate", "balanced gate"])
def test_gates_use_experts_more_evenly(load: Any, kind: str) -> None:
    networks, gates = load("sketch_networks"), load("sketch_gates")
    torch.manual_seed(0)
    arch = networks.ours((4, 8), 7, experts=4)
    images = torch.randn(256, 1, 28, 28)

    def usage(network: torch.nn.Module) -> float:
        for _ in range(120):
            network(images)
        return min(float(layer.usage_entropy()) for layer in network.modules() if isinstance(layer, ExpertConv))

    torch.manual_seed(0)
    plain = usage(build(arch))
    torch.manual_seed(0)
    assert usage(gates.with_gates(build(arch), gates.GATES[kind])) > max(2 * plain, 1.0)  # bit, of 2


def test_budgets_that_the_binary_network_alone_is_over_have_no_rows(load: Any) -> None:
    found = {(job.network, job.choice.rpartition(" at ")[2]) for job in load("sketch_rows").hybrid_jobs(0)}
    at_five = {network for network, budget in found if budget == "5 %"}
    assert at_five == {"ResNet-18"}  # 3.6 % of the real one's ops; Sketch-A-Net takes 9.7, SqueezeNet 5.6


def test_one_network_is_trained_by_name(sketches: ModuleType, monkeypatch, tmp_path: Path, capsys) -> None:
    trained = []
    monkeypatch.setattr(sketches.Rows, "complete", lambda self, wanted, *_: trained.extend(wanted))
    monkeypatch.setattr(sys, "argv", ["sketches.py", "--network", "GoogLeNet", "--results", str(tmp_path / "r.csv")])
    sketches.main()
    assert {job.network for job in trained} == {"GoogLeNet"}
    monkeypatch.setattr(sys, "argv", ["sketches.py", "--network", "AlexNet"])
    with pytest.raises(SystemExit):
        sketches.main()
    assert "--network AlexNet: the networks are ours 8-16-32, Sketch-A-Net" in capsys.readouterr().err


def test_a_gain_is_claimed_in_standard_errors_over_the_seeds_that_both_have(sketches: ModuleType) -> None:
    table = [row("alpha-beta", "N", "FBin xnor", seed, 0.5) for seed in range(4)]
    table += [row("alpha-beta", "N", "FBin alpha_beta", seed, 0.5 + 0.01 * (seed + 1)) for seed in range(3)]
    (claim,) = sketches.claims(pd.DataFrame(table))
    assert claim.value == pytest.approx(2 * 0.01 / 3**0.5)  # of 1, 2 and 3 points
    assert claim.yardstick == pytest.approx(0.02)
    assert json.loads(claim.as_json())["holds"] is True
    assert "3 seeds" in claim.claim


def test_rows_that_are_there_are_not_trained_again(sketches: ModuleType, tmp_path: Path) -> None:
    rows, trained = importlib.import_module("sketch_rows"), []

    def made(job: Any) -> dict[str, Any]:
        trained.append(job)
        return row(*job[:2], job.choice, job.seed, 0.5) | job._asdict()

    file = sketches.Rows(tmp_path / "rows.csv", rows.COLUMNS, texts=sketches.TEXTS)
    wanted = rows.jobs(2)[:10]
    file.complete(wanted, made, 4)
    assert trained == wanted[:4]
    file.complete(wanted, made)
    file.complete(wanted, made)
    assert trained == wanted
    assert len(file.frame()) == len(wanted)


def test_nothing_is_claimed_of_one_seed(sketches: ModuleType) -> None:
    table = [row("experts", "N", choice, 0, 0.5) for choice in ("1 expert", "4 experts copied")]
    assert list(sketches.claims(pd.DataFrame(table))) == []


def test_experts_that_lose_are_said_to(sketches: ModuleType) -> None:
    table = [row("experts", "N", "1 expert", seed, 0.5) for seed in range(2)]
    table += [row("experts", "N", "4 experts copied", seed, 0.45) for seed in range(2)]
    (claim,) = sketches.claims(pd.DataFrame(table))
    assert not claim.holds


def test_the_best_metric_is_picked_on_validation_images(sketches: ModuleType) -> None:
    table = []
    for seed in range(2):
        table += [row("hybrid", "N", "all binary", seed, 0.4), row("hybrid", "N", "chance 0 at 10 %", seed, 0.43)]
        table.append(row("hybrid", "N", "product knapsack at 10 %", seed, 0.5, validation_accuracy=0.3))
        table.append(row("hybrid", "N", "hybrid knapsack at 10 %", seed, 0.42, validation_accuracy=0.6))
    found = list(sketches.claims(pd.DataFrame(table)))
    assert [claim.holds for claim in found] == [False, False]  # not 4 points over all binary, and behind chance
    assert all("hybrid knapsack" in claim.claim for claim in found)


def test_an_empty_table_claims_nothing(sketches: ModuleType) -> None:
    assert list(sketches.claims(pd.DataFrame(columns=[*row("f", "n", "c", 0, 0.5)]))) == []
