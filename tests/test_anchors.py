"""The benchmark beside FINN's networks: what it compares with, and what it claims of a table."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

import bnas
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.networks.counting import count
from bnas.networks.models import MODELS, build_model
from bnas.space.arch import Architecture
from bnas.spec import dump
from tests.tiny import tiny_space

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def anchors(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("anchors")


def test_published_costs_are_those_of_our_reference_networks(anchors: ModuleType) -> None:
    for anchor in anchors.TASKS[0].anchors:
        name = anchor.name.lower()
        ours = count(build_model(name, precision="binary"), MODELS[name].input)
        assert ours.ops == pytest.approx(anchor.ops, rel=0.01)
        assert anchor.bytes == pytest.approx(ours.bops / 8, rel=0.02)
    cnv, (wanted,) = count(build_model("cnv", precision="binary"), MODELS["cnv"].input), anchors.TASKS[-1].anchors
    assert wanted.ops < cnv.ops == pytest.approx(2.46e6, rel=0.01)
    assert wanted.bytes < cnv.bops / 8


def test_the_spaces_are_searched_under_what_is_allowed(anchors: ModuleType) -> None:
    for task in anchors.TASKS:
        for budget, anchor in zip(task.budgets(), task.anchors, strict=True):
            limits = dict(budget.limits)
            assert limits["ops"].at_most <= anchor.ops
            assert anchor.bytes is None or limits["bytes"].at_most <= anchor.bytes


def frame(anchors: ModuleType, **changed: Any) -> pd.DataFrame:
    row = {"anchor": "TFC", "seed": 0, "id": "a", "ops": 900.0, "bytes": 5000, "validation_accuracy": 0.95}
    return pd.DataFrame([row | {"test_accuracy": 0.94} | changed], columns=list(anchors.COLUMNS))


@pytest.mark.parametrize(
    ("changed", "verdicts"),
    [
        ({}, [True, False, True, True]),
        ({"test_accuracy": 0.93}, [False, False, True, True]),
        ({"test_accuracy": 0.98}, [True, True, True, True]),
        ({"ops": 930.0}, [True, False, False, True]),
        ({"bytes": 7500}, [True, False, True, False]),
    ],
)
def test_a_claim_holds_where_it_is_better_and_smaller(
    anchors: ModuleType, changed: dict[str, Any], verdicts: list[bool]
) -> None:
    assert [claim.holds for claim in anchors.claims(frame(anchors, **changed))] == verdicts


def test_winners_are_written_down_once_with_their_networks(
    anchors: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = [{"ops": "8k"}, {"ops": "10k"}, {"ops": "12k"}]
    space = tiny_space()
    space = space.model_copy(
        update={"search": space.search.model_copy(update={"targets": tuple(targets), "trials": 2})}
    )
    (tmp_path / "three.yaml").write_text(dump(space))
    task = anchors.TASKS[0]._replace(space=str(tmp_path / "three.yaml"))
    monkeypatch.setattr(anchors, "RESULTS", tmp_path)
    rows = anchors.Rows(tmp_path / "anchors.csv", anchors.COLUMNS, texts=("anchor", "id"))
    found = bnas.search_targets(space, data="digits", out=tmp_path / "run", progress=False)
    for _ in range(2):
        anchors.note(rows, tmp_path / "run", task, 0)
    table = rows.frame()
    assert sorted(table["anchor"]) == sorted(anchor.name for anchor in task.anchors)
    for anchor, result in zip(task.anchors, found.values(), strict=True):
        (row,) = table[table["anchor"] == anchor.name].to_dict("records")
        assert row["id"] == result.best.architecture.id
        assert row["test_accuracy"] == pytest.approx(result.best.accuracy, abs=1e-5)
        assert Architecture.read(anchors.network_file(anchor, 0)) == result.best.architecture


def test_the_table_has_what_its_networks_cost(anchors: ModuleType) -> None:
    rows = anchors.Rows(anchors.RESULTS / "anchors.csv", anchors.COLUMNS, texts=("anchor", "id")).frame()
    assert len(rows)
    for row in rows.to_dict("records"):
        anchor = next(anchor for anchor in anchors.ANCHORS if anchor.name == row["anchor"])
        arch = Architecture.read(anchors.network_file(anchor, row["seed"]))
        price = cost(plan(arch))
        assert arch.id == row["id"]
        assert (price.ops, price.bytes) == pytest.approx((row["ops"], row["bytes"]), rel=1e-5)  # of six digits
