"""`bnas.search` from end to end on a tiny space: repeatable, resumable, inside its budget, handed over."""

import json
import re

import pandas as pd
import pytest
import torch

import bnas
from bnas.api import shared_weights
from bnas.api.request import resolve
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import load_data
from bnas.errors import BudgetError, DataError, LookupFailed, RunError, SpecError
from bnas.runs import Run
from tests.tiny import tiny_file, tiny_space


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return bnas.search(tiny_file(folder), data="digits", out=folder / "run")


def test_the_run_folder_has_all_its_parts(result) -> None:
    names = {path.name for path in result.run.path.iterdir()}
    assert {
        "config.yaml", "space.yaml", "environment.json", "log.jsonl", "supernet", "study.db", "candidates.csv",
        "twin.csv", "pareto.csv", "ledger.json", "retrained.csv", "best", "figures", "report.html",
    } <= names  # fmt: skip


def test_the_manifest_proves_what_it_says(result) -> None:
    manifest = result.best.manifest
    assert manifest["counted_again"] == manifest["cost"] == cost(plan(result.best.architecture)).as_dict()
    assert manifest["cost"]["ops"] <= 12_000
    assert manifest["cost"]["bytes"] <= 4_000
    assert set(manifest["accuracy"]) == {"proxy", "validation", "test"}
    assert manifest["architecture_id"] == result.best.architecture.id


def test_the_winner_loads_and_has_the_accuracy_that_was_written(result) -> None:
    network, data = result.best.load(), load_data("digits", validation=0.1)
    images, labels = next(iter(data.test.batches(len(data.test))))
    with torch.no_grad():
        right = (network(images).argmax(1) == labels).float().mean().item()
    assert right == pytest.approx(result.best.manifest["accuracy"]["test"])
    assert result.best.build()(images).shape == (len(data.test), 10)


def test_every_paid_candidate_is_inside_both_budgets(result) -> None:
    bought = result.candidates[result.candidates.status == "paid"]
    assert len(bought) == 6
    assert (bought.ops <= 12_000).all()
    assert (bought.bytes <= 4_000).all()
    assert result.ledger["search"]["paid"] == result.ledger["twin"]["paid"] == 6


def test_the_front_rises_with_ops(result) -> None:
    assert isinstance(result.front, pd.DataFrame)
    assert result.front.ops.is_monotonic_increasing
    assert result.front.proxy_loss.is_monotonic_decreasing


def test_the_same_seed_gives_the_same_candidates_to_the_byte(result, tmp_path) -> None:
    again = bnas.search(tiny_space(), data="digits", out=tmp_path / "run")
    for name in ("candidates.csv", "twin.csv", "pareto.csv"):
        assert (again.run.path / name).read_bytes() == (result.run.path / name).read_bytes()


def test_stopped_in_every_phase_the_same_call_goes_on_to_the_same_end(result, tmp_path) -> None:
    stops = ["supernet", "search", "twin", "retrain 1 of 4, stage 1", "retrain 2 of 2, stage 2"]

    def stop_at(phase: str):
        def progress(now: str, done: int, total: int, note: str = "") -> None:
            if now == phase and done > total // 2:
                raise KeyboardInterrupt

        return progress

    for phase in stops:
        with pytest.raises(KeyboardInterrupt):
            bnas.search(tiny_space(), data="digits", out=tmp_path / "run", progress=stop_at(phase))
    again = bnas.search(tiny_space(), data="digits", out=tmp_path / "run")
    assert (again.run.path / "candidates.csv").read_bytes() == (result.run.path / "candidates.csv").read_bytes()
    assert again.best.manifest["weights_sha256"] == result.best.manifest["weights_sha256"]
    assert [e for e in again.run.events() if e["event"] == "searched"][-1]["paid"] == 6


def test_a_finished_run_is_not_done_again(result, monkeypatch) -> None:
    monkeypatch.setattr(shared_weights, "train_supernet", None)
    again = bnas.search(tiny_space(), data="digits", out=result.run.path)
    assert again.best.architecture == result.best.architecture


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"budget": ["ops=10"]}, BudgetError, "smallest network needs"),
        ({"budget": ["watts=10"]}, SpecError, "watts"),
        ({"budget": ["ops"]}, SpecError, "QUANTITY=AMOUNT"),
        ({"sampler": "evolutoin"}, LookupFailed, "did you mean 'evolution'"),
        ({"data": "digitz"}, DataError, "digits"),
        ({"data": ""}, DataError, "data set '' is not known"),
        ({"device": "gpu9"}, SpecError, "give cpu"),
        ({"trials": 0}, SpecError, "trials"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_made(tmp_path, changes, error, says) -> None:
    with pytest.raises(error, match=says):
        bnas.search(tiny_space(), out=tmp_path / "run", **{"data": "digits", **changes})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("where", "batch", "said"),
    [
        ("supernet", 100_000, "100000 is more than the 1294 training images of digits"),
        ("retrain.recipe", 100_000, "100000 is more than the 1294 training images of digits"),
        ("supernet", 1, "batch norm needs more than one image; choose at least 2"),
        ("retrain.recipe", 1, "batch norm needs more than one image"),
        ("scoring", 1, "batch norm needs more than one image"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_before_anything_is_made(tmp_path, where, batch, said) -> None:
    settings = tiny_space().search.model_dump()
    part = settings
    for key in where.split("."):
        part = part[key]
    part["batch"] = batch
    with pytest.raises(DataError, match=rf"search\.{where}\.batch: {said}"):
        bnas.search(tiny_space(search=settings), data="digits", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("classes", "says"), [(5, "the space only 5"), (20, r"the space 20.*with 20 class_names")])
def test_a_space_of_other_classes_is_refused(tmp_path, classes, says) -> None:
    with pytest.raises(DataError, match=rf"has 10 classes, but {says}") as caught:
        bnas.search(tiny_space(classes=classes), data="digits", out=tmp_path / "run")
    assert "set classes: 10 in the space" in str(caught.value)


def test_images_are_resized_to_what_the_space_takes_and_that_is_said(tmp_path, capsys) -> None:
    found = bnas.search(tiny_space(input=[1, 4, 4]), data="digits", out=tmp_path / "run", trials=2, top=1)
    assert found.best.architecture.input == (1, 4, 4)
    at_once, first, *_ = capsys.readouterr().err.splitlines()
    assert at_once == "search: reads digits"
    assert re.match(r"data digits: 1294 training, .*; 1 x 4 x 4, resized from 1 x 8 x 8; 10 classes: 0, ", first)
    assert found.best.manifest["images"] == found.run.config["images"]


def test_grey_images_do_not_fit_a_space_for_colour(tmp_path) -> None:
    with pytest.raises(DataError, match="the images are 1 x 8 x 8, but 3 x 8 x 8 was asked for"):
        bnas.search(tiny_space(input=[3, 8, 8]), data="digits", out=tmp_path / "run")


def test_a_search_of_few_networks_ends_early_and_its_twin_pays_for_as_many(tmp_path) -> None:
    space = tiny_space(stages=[{"depth": [1, 2], "width": [4, 8]}])
    result = bnas.search(space, data="digits", out=tmp_path / "run", trials=50)
    assert result.ledger["search"]["paid"] == result.ledger["twin"]["paid"] == space.size == 4


def test_a_budget_changes_the_limits_of_the_space_that_it_names() -> None:
    def budget(*items: str) -> dict[str, str]:
        return resolve(tiny_space(), "digits", budget=items, device="cpu").budget.as_dict()

    assert budget() == {"ops": "12000", "bytes": "4000"}
    assert budget("ops=9k") == {"ops": "9000", "bytes": "4000"}
    assert budget("bytes=none", "bops=1M") == {"ops": "12000", "bops": "1000000"}


def test_a_folder_with_another_run_is_refused(result) -> None:
    with pytest.raises(RunError, match=r"seed"):
        bnas.search(tiny_space(), data="digits", out=result.run.path, seed=7)


def test_events_are_dated_lines_of_json(result) -> None:
    lines = (result.run.path / "log.jsonl").read_text().splitlines()
    assert all({"time", "event"} <= set(json.loads(line)) for line in lines)
    assert Run.read(result.run.path).events()


def test_binarizers_that_share_no_weights_are_refused_before_anything_is_read(tmp_path) -> None:
    space = tiny_space(binarizers={"weight": ["xnor", "group"]})
    with pytest.raises(SpecError, match=r"binarizers\.weight: group is annealed, so it shares no weights with others"):
        bnas.search(space, data="no such data", out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
