"""The benchmark beside FINN's networks: what it compares with, and what it claims of a table."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from bnas.cost.budget import Budget
from bnas.networks.counting import count
from bnas.networks.models import MODELS, build_model
from bnas.space.shipped import space_file
from bnas.space.space import SearchSpace
from bnas.spec import read

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def anchors(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("anchors")


def test_published_costs_are_those_of_our_reference_networks(anchors: ModuleType) -> None:
    for anchor in anchors.ANCHORS:
        name = anchor.name.lower()
        ours = count(build_model(name, precision="binary"), MODELS[name].input)
        assert ours.ops == pytest.approx(anchor.ops, rel=0.01)
        assert anchor.bytes == pytest.approx(ours.bops / 8, rel=0.02)


def test_the_space_is_searched_under_what_they_cost(anchors: ModuleType) -> None:
    space = read(SearchSpace, space_file(anchors.SPACE))
    assert len(space.search.targets) == len(anchors.ANCHORS)
    for target, anchor in zip(space.search.targets, anchors.ANCHORS, strict=True):
        limits = dict(Budget.parse(target).limits)
        assert limits["ops"].at_most <= anchor.ops
        assert limits["bytes"].at_most <= anchor.bytes


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
