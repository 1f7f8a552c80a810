"""The benchmark of halvings: what it trains, and what it says of the courses of trainings."""

import importlib
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from bnas.data import load_data
from bnas.space.settings import Retraining
from tests.tiny import tiny_file, tiny_space

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def halvings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("halvings")


def rows(*courses: tuple[str, float], seeds: list[int] | None = None) -> pd.DataFrame:
    """Courses of ten epochs, and what is reached on test images."""
    table = [{"course": course, "test_accuracy": test} for course, test in courses]
    return pd.DataFrame(table).assign(seed=seeds or [0] * len(courses))


LATE = "0.1 0.1 0.1 0.1 0.1 0.1 0.5 0.5 0.5 0.6"
EARLY = "0.2 0.2 0.2 0.2 0.2 0.2 0.4 0.4 0.4 0.4"


def test_a_halving_before_the_better_one_is_ahead_loses_what_it_has_more(halvings) -> None:
    found = halvings.halvings(rows((LATE, 0.5), (EARLY, 0.4)), 0.5)
    assert found[0.6] == (0.0, pytest.approx(15.0))  # points: (60 + 50) / 2 - 40
    assert found[0.7] == (1.0, 0.0)


def test_networks_of_two_seeds_are_no_pair(halvings) -> None:
    found = halvings.halvings(rows((LATE, 0.5), (EARLY, 0.4), (EARLY, 0.4), seeds=[0, 0, 1]), 0.5)
    assert found[0.6] == (0.0, pytest.approx(15.0))


def test_the_halvings_of_a_space_are_claimed(halvings) -> None:
    found = halvings.halvings(rows((LATE, 0.5), (EARLY, 0.4)), 0.5)
    (claim,) = halvings.claims(found, tiny_space(), "tiny")  # after half of the epochs
    assert not claim.holds
    assert claim.value == pytest.approx(15.0)


def test_without_results_nothing_is_claimed(halvings, monkeypatch, tmp_path, capsys) -> None:
    command = ["halvings.py", "--quick", "--space", str(tiny_file(tmp_path)), "--data", "digits"]
    monkeypatch.setattr("sys.argv", [*command, "--results", str(tmp_path / "none.csv")])
    halvings.main()
    assert capsys.readouterr().out == ""


def test_networks_are_trained_once_and_measured_after_each_epoch_of_the_last_stage(halvings, tmp_path) -> None:
    results = halvings.Rows(tmp_path / "halvings.csv", halvings.COLUMNS, texts=("space", "id", "course"))
    file, data = tiny_file(tmp_path), load_data("digits", limit=600)
    for networks in (2, 3):
        halvings.complete(results, file, data, networks=networks, seed=0)
    frame = results.frame()
    assert frame["id"].nunique() == len(frame) == 3
    assert set(frame["space"]) == {"tiny"}
    assert [len(course.split()) for course in frame["course"]] == [2] * 3
    assert set(frame["epochs"]) == {2}


def test_the_document_shows_what_was_measured_and_the_usual_halvings_follow_it(halvings) -> None:
    found = halvings.halvings(pd.read_csv(halvings.RESULTS), 6_000 / 16_000)
    shown = (halvings.RESULTS.parents[2] / "docs" / "results.md").read_text()
    for cells in (
        (f"{100 * one.right:.0f}" for one in found.values()),
        (f"{one.lost:.2f}" for one in found.values()),
    ):
        assert f"| {' | '.join(cells)} |" in shown
    usual = Retraining()
    assert all(found[min(found, key=lambda known: abs(known - share))].lost < 0.2 for share in usual.halvings)
    assert min(usual.halvings) >= max(stage.one_expert for stage in usual.recipe.stages)
