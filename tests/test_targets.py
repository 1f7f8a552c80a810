"""One supernet, many searches: several budgets, another search of a trained one, more trials, networks given first."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import bnas
from bnas.api import searching
from bnas.cli.app import app
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import BnasError, BudgetError, LookupFailed, RunError, SpecError, Stopped, TrainingError
from bnas.report import write_report
from bnas.runs import Run
from bnas.searcher.feasible import sample_within
from bnas.searcher.score import Scorer
from bnas.space.space import SearchSpace
from bnas.spec import dump
from tests.tiny import inherits_space, tiny_space

TARGETS = (["ops=8k"], ["ops=12k", "bytes=3k"])


def tables(run: Run) -> dict[str, str]:
    names = ("candidates", "twin", "pareto", "retrained")
    frames = {name: run.read_table(name).drop(columns="seconds", errors="ignore") for name in names}
    return {name: frame.to_csv() for name, frame in frames.items()}


def trainings(run: Run) -> list[str]:
    """The phases in which a network or supernet of a run was trained, step by step."""
    return [event["phase"] for event in run.events() if event["event"] == "epoch"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search whose supernet others search again."""
    return bnas.search(tiny_space(), out=tmp_path_factory.mktemp("found") / "run", progress=False)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return bnas.search_targets(tiny_space(), TARGETS, out=tmp_path_factory.mktemp("family") / "run", progress=False)


class TestTargets:
    def test_there_is_a_winner_inside_each_budget(self, family) -> None:
        assert list(family) == ["ops=8000,bytes=4000", "ops=12000,bytes=3000"]
        for name, result in family.items():
            assert Budget.parse(name.split(",")).admits(result.best.cost)
        assert list(family.table["target"]) == list(family)
        assert family.table["test_accuracy_of_twin"].notna().all()

    def test_the_supernet_is_trained_once(self, family) -> None:
        assert trainings(family.run) == ["supernet", "supernet"]
        assert all("supernet" not in trainings(result.run) for result in family.values())

    def test_a_network_that_several_budgets_choose_is_trained_once(self, tmp_path) -> None:
        own = tiny_space().smallest()
        how = {"trials": 2, "top": 1, "start_with": [own], "progress": False}
        family = bnas.search_targets(tiny_space(), TARGETS, out=tmp_path / "run", **how)
        runs = [result.run for result in family.values()]
        assert [f"retrain/{own.id}-1" in trainings(run) for run in runs] == [True, False]
        rows = [result.retrained.set_index("id").loc[own.id] for result in family.values()]
        assert [row["epochs"] for row in rows] == [1 + 2] * 2
        assert rows[0]["test_accuracy"] == rows[1]["test_accuracy"]

    def test_called_again_it_trains_nothing(self, family, monkeypatch) -> None:
        monkeypatch.setattr(searching, "retrain", None)
        before = {name: tables(result.run) for name, result in family.items()}
        again = bnas.search_targets(tiny_space(), TARGETS, out=family.run.path, progress=False)
        assert {name: tables(result.run) for name, result in again.items()} == before

    def test_its_page_shows_each(self, family) -> None:
        page = family.run.report.read_text()
        assert "2 budgets, one supernet" in page
        assert 'href="targets/ops%3D8000%2Cbytes%3D4000/report.html"' in page
        assert CliRunner().invoke(app, ["report", str(family.run.path)]).exit_code == 0

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ({"engine": "nosuch"}, "engine"),
            ({"minutes": -1.0}, "minutes: a positive number is needed"),
            ({"storage": "nosuch"}, "must be the URL of a database"),
        ],
    )
    def test_what_is_asked_amiss_is_an_error_before_any_training(self, how, said, tmp_path) -> None:
        with pytest.raises(BnasError, match=said):
            bnas.search_targets(tiny_space(), TARGETS, out=tmp_path / "run", progress=False, **how)
        assert not (tmp_path / "run").exists()

    def test_its_folder_gives_them_again(self, family) -> None:
        again = bnas.open_run(family.run.path)
        assert isinstance(again, bnas.TargetResults)
        assert {name: result.best.manifest for name, result in again.items()} == {
            name: result.best.manifest for name, result in family.items()
        }

    def test_a_winner_is_exported_from_the_run_of_its_budget(self, family, tmp_path) -> None:
        for run in (family, family.run.path):
            with pytest.raises(RunError, match="has a winner for each of several budgets; give the run of one"):
                bnas.export(run, out=tmp_path / "out")
        with pytest.raises(RunError, match="has candidates for each of several budgets; give the run of one"):
            bnas.export(family.run.path, candidate="abcd", out=tmp_path / "out")
        folder = next(iter(family.folders.values()))
        assert (bnas.export(folder, out=tmp_path / "out") / "model.py").exists()

    @pytest.mark.parametrize("targets", [[], [["ops=8k"]], [["ops=8k"], {"ops": 8000}]])
    def test_fewer_than_two_are_no_targets(self, targets, tmp_path) -> None:
        with pytest.raises(SpecError, match=r"targets: two or more budgets are needed, each another one"):
            bnas.search_targets(tiny_space(), targets, out=tmp_path / "run", progress=False)

    def test_a_target_that_nothing_fits_is_an_error_before_training(self, tmp_path) -> None:
        with pytest.raises(BudgetError, match="no network of the space fits"):
            bnas.search_targets(tiny_space(), [["ops=8k"], ["ops=10"]], out=tmp_path / "run", progress=False)

    def test_a_target_may_lift_a_limit_of_the_space(self, tmp_path) -> None:
        search = tiny_space().search.model_dump() | {"trials": 3}
        lifted = [["ops=8k", "bytes=none"], ["ops=12k", "bytes=none"]]
        found = bnas.search_targets(tiny_space(search=search), lifted, out=tmp_path / "run", progress=False)
        assert list(found) == ["ops=8000", "ops=12000"]
        assert [result.run.config["budget"] for result in found.values()] == [{"ops": "8000"}, {"ops": "12000"}]
        budgets = [result.space.search.budget for result in found.values()]
        assert budgets == [{"ops": "8000"}, {"ops": "12000"}]

    def test_a_target_without_limits_has_a_run_of_its_own(self, tmp_path) -> None:
        search = tiny_space().search.model_dump() | {"trials": 3, "budget": {}}
        space, targets = tiny_space(search=search), [["ops=none"], ["ops=12k"]]
        found = bnas.search_targets(space, targets, out=tmp_path / "run", progress=False)
        assert list(found) == ["unlimited", "ops=12000"] == list(found.table["target"])
        assert found["unlimited"].run.path.name == "unlimited"

    def test_one_that_was_stopped_goes_on_where_its_folder_was_moved(self, tmp_path, monkeypatch) -> None:
        def stops(phase: str, done: int, total: int, note: str = "") -> None:
            if "retrain" in phase:
                raise Stopped("enough")

        def search(out: Any, progress: Any = False) -> Any:
            return bnas.search_targets(tiny_space(), TARGETS, trials=3, out=out, progress=progress)

        monkeypatch.chdir(tmp_path)
        with pytest.raises(Stopped):
            search("run", stops)
        with pytest.raises(Stopped):
            search(tmp_path / "run", stops)  # by another name
        (tmp_path / "run").rename(tmp_path / "moved")
        assert len(search("moved").table) == 2

    @pytest.mark.parametrize(
        ("amiss", "error", "said"),
        [
            ({"sampler": "evolutoin"}, LookupFailed, "sampler 'evolutoin' is not known"),
            ({"trails": 3}, TypeError, "does not take 'trails'; choose from"),
            ({"budget": ["bytes=3k"]}, TypeError, "does not take 'budget'"),
            (
                {"start_with": [tiny_space().largest()]},
                BudgetError,
                "start_with: costs .* budget is ops <=",
            ),
        ],
    )
    def test_what_is_asked_amiss_is_an_error_before_training(self, amiss, error, said, tmp_path) -> None:
        with pytest.raises(error, match=said):
            bnas.search_targets(tiny_space(), TARGETS, out=tmp_path / "run", progress=False, **amiss)
        assert not (tmp_path / "run").exists()

    def test_a_network_to_start_with_is_given_to_the_targets_that_it_fits(self, tmp_path) -> None:
        space = tiny_space(search=tiny_space().search.model_dump() | {"trials": 3})
        own = next(a for a in map(space.architecture, drawn(space)) if 8000 < cost(plan(a)).ops <= 12000)
        targets = [["ops=8k", "bytes=none"], ["ops=12k", "bytes=none"]]
        found = bnas.search_targets(space, targets, start_with=[own], out=tmp_path / "run", progress=False)
        firsts = [result.candidates["id"][0] == own.id for result in found.values()]
        assert firsts == [False, True]

    def test_targets_are_not_passed_over(self, found, tmp_path) -> None:
        space = tmp_path / "many.yaml"
        search = tiny_space().search.model_dump() | {"targets": [{"ops": "8k"}, {"ops": "12k"}]}
        space.write_text(dump(tiny_space(search=search)))
        with pytest.raises(SpecError, match=r"search\.targets: the space has 2 of them.*call bnas\.search_targets"):
            bnas.search(space, out=tmp_path / "run", progress=False)
        for more in (["--budget", "ops=9k"], ["--minutes", "0"], ["--target", "ops=8k", "--from", str(found.run.path)]):
            told = CliRunner().invoke(app, ["search", str(space), *more, "--out", str(tmp_path / "run")])
            assert told.exit_code == 2
        assert not (tmp_path / "run").exists()

    def test_on_the_command_line_and_in_the_space(self, tmp_path) -> None:
        search = tiny_space().search.model_dump() | {"targets": [{"ops": "8k"}, {"ops": "12k"}], "trials": 3}
        space = tmp_path / "many.yaml"
        space.write_text(dump(tiny_space(search=search)))
        told = CliRunner().invoke(app, ["search", str(space), "--out", str(tmp_path / "run")])
        assert told.exit_code == 0, told.output
        assert "The winner of each budget" in told.stdout
        assert (tmp_path / "run" / "targets" / "ops=8000,bytes=4000" / "best" / "model.py").exists() is False
        assert "targets/ops=8000,bytes=4000" in told.stdout


class TestFromARun:
    def test_under_another_budget_nothing_is_trained_anew(self, found, tmp_path) -> None:
        again = bnas.search(
            tiny_space(), budget=["ops=9k"], supernet_of=found, out=tmp_path / "run", trials=4, progress=False
        )
        assert "supernet" not in trainings(again.run)
        assert again.best.cost.ops <= 9000
        ours, theirs = (run.load_checkpoint("supernet") for run in (again.run, found.run))
        assert all(torch.equal(tensor, theirs.tensors[name]) for name, tensor in ours.tensors.items())

    def test_beyond_the_budget_that_it_was_trained_for_it_says_so(self, found, tmp_path, caplog) -> None:
        bnas.search(
            tiny_space(), budget=["ops=14k"], supernet_of=found.run.path, out=tmp_path / "run", trials=2, progress=False
        )
        assert "its supernet was trained inside ops <= 12k, bytes <= 4k; of networks beyond that" in caplog.text

    def test_a_space_of_other_choices_is_refused(self, found, tmp_path) -> None:
        with pytest.raises(RunError, match="its space has other choices; search the space of that run"):
            bnas.search(
                tiny_space(stem={"width": 8}), supernet_of=found, out=tmp_path / "run", budget=["ops=50k"],
                progress=False,
            )  # fmt: skip

    def test_on_the_command_line_the_space_and_images_are_those_of_the_run(self, found, tmp_path) -> None:
        command = ["search", "--from", str(found.run.path), "--trials", "3", "--out", str(tmp_path / "run")]
        told = CliRunner().invoke(app, command)
        assert told.exit_code == 0, told.output
        assert "supernet" not in trainings(Run.read(tmp_path / "run"))
        assert CliRunner().invoke(app, command[:3]).exit_code == 2

    def test_images_that_the_supernet_was_trained_on_are_not_held_out(self, found, tmp_path) -> None:
        search = tiny_space().search.model_dump() | {"validation": 0.2}
        for space, seed in ((tiny_space(), 1), (tiny_space(search=search), 0)):
            with pytest.raises(RunError, match=r"its supernet was trained on other images than the \d+ of digits that"):
                bnas.search(space, supernet_of=found, seed=seed, trials=2, out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()

    def test_on_the_command_line_the_seed_is_that_of_the_run(self, tmp_path) -> None:
        first = bnas.search(tiny_space(), trials=2, top=1, seed=3, out=tmp_path / "first", progress=False)
        command = ["search", "--from", str(first.run.path), "--trials", "3", "--out", str(tmp_path / "run")]
        told = CliRunner().invoke(app, command)
        assert told.exit_code == 0, told.output
        assert Run.read(tmp_path / "run").config["seed"] == 3


def drawn(space: SearchSpace, budget: Any = ()) -> list[tuple[int, ...]]:
    """Networks of a space inside a budget."""
    random = Random(0)
    return [sample_within(space, Budget.parse(budget), random) for _ in range(200)]


class TestMoreTrials:
    @pytest.mark.slow
    def test_a_finished_search_goes_on_to_what_it_would_have_been(self, tmp_path) -> None:
        def search(trials: int, name: str) -> Run:
            return bnas.search(tiny_space(), trials=trials, out=tmp_path / name, progress=False).run

        search(4, "grown")
        grown, whole = search(7, "grown"), search(7, "whole")
        assert tables(grown) == tables(whole)
        assert trainings(grown).count("supernet") == 2
        assert tables(search(7, "grown")) == tables(whole)  # asked for once more, it has ended
        assert tables(search(8, "grown")) == tables(search(8, "more"))
        with pytest.raises(RunError, match="trials: stored 8, asked 5"):
            search(5, "grown")

    def test_one_that_is_stopped_while_it_goes_on_does_so_when_asked_again(self, tmp_path) -> None:
        def search(trials: int, name: str, progress: Any = False) -> Run:
            return bnas.search(tiny_space(), trials=trials, out=tmp_path / name, progress=progress).run

        def stops(phase: str, done: int, total: int, note: str = "") -> None:
            if "retrain" in phase:
                raise Stopped("enough")

        search(4, "grown")
        with pytest.raises(Stopped):
            search(7, "grown", stops)
        page = write_report(Run.read(tmp_path / "grown")).read_text()
        assert "It had ended with fewer trials: the network shown, and its accuracy, are those of then." in page
        assert "7 of 7 evaluations are in its table" in page
        assert tables(search(7, "grown")) == tables(search(7, "whole"))


class TestGiven:
    def test_a_given_network_is_scored_first_and_trained_to_the_end(self, tmp_path) -> None:
        space = tiny_space()
        own = space.smallest()
        file = tmp_path / "own.yaml"
        file.write_text(dump(own))
        result = bnas.search(space, start_with=[file], out=tmp_path / "run", progress=False)
        assert result.candidates["id"][0] == own.id
        row = result.retrained.set_index("id").loc[own.id]
        assert "given" in row["origin"]
        assert row["epochs"] == result.retrained["epochs"].max()
        assert result.best.manifest["accuracy"]["validation"] >= row["validation_accuracy"]

    def test_of_several_each_is_trained_to_the_end(self, tmp_path) -> None:
        space = tiny_space()
        own = [space.architecture(genes) for genes in list(dict.fromkeys(drawn(space, space.search.budget)))[:3]]
        result = bnas.search(space, start_with=own, out=tmp_path / "run", progress=False)
        epochs = result.retrained.set_index("id")["epochs"]
        assert (epochs[[arch.id for arch in own]] == epochs.max()).all()

    def test_one_over_the_budget_or_outside_the_space_is_an_error(self, tmp_path) -> None:
        space = tiny_space()
        with pytest.raises(BudgetError, match=r"start_with: costs ops .*, and the budget is ops <= 3k"):
            bnas.search(space, budget=["ops=3k"], start_with=[space.largest()], out=tmp_path / "run")
        with pytest.raises(SpecError, match="start_with: is no network of the space: stem"):
            bnas.search(space, start_with=[tiny_space(stem={"width": 8}).smallest()], out=tmp_path / "run")


class TestFinalists:
    def test_the_best_of_the_search_and_of_its_twin_are_trained_alike(self, found) -> None:
        ended = found.retrained[found.retrained["epochs"] == found.retrained["epochs"].max()]
        origins = {origin for origins in ended["origin"] for origin in origins.split("+")}
        assert origins == {"search", "twin"}

    def test_they_begin_with_the_weights_of_the_supernet_where_the_space_says_so(self, tmp_path, monkeypatch) -> None:
        begun = {}
        whole = searching.retrain

        def watched(chosen, *args, inherited, **kwargs):
            for arch in chosen["search"]:
                begun[arch.id] = inherited(arch)
            return whole(chosen, *args, inherited=inherited, **kwargs)

        monkeypatch.setattr(searching, "retrain", watched)
        result = bnas.search(inherits_space(), out=tmp_path / "run", progress=False)
        for name, network in begun.items():
            expected = result.network(name, device="cpu") if name not in set(result.retrained["id"]) else network
            assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))
        assert begun

    def test_experts_that_are_made_of_the_first_cannot_begin_with_those_of_the_supernet(self) -> None:
        search = tiny_space().search.model_dump()
        search["retrain"] |= {"start": "supernet"}
        with pytest.raises(SpecError, match="start: supernet gives every expert its weights, but the first stage"):
            tiny_space(search=search)


def test_a_cheaper_target_is_not_dearer_than_it_may_be(family) -> None:
    archs = [result.best.architecture for result in family.values()]
    assert [cost(plan(arch)).ops <= limit for arch, limit in zip(archs, (8000, 12000), strict=True)] == [True, True]


def test_the_folder_of_a_target_is_named_after_it(family) -> None:
    assert all(Path(folder).name == name for name, folder in family.folders.items())


class TestCandidates:
    """Every candidate of a run can be counted and trained, by its id."""

    def test_they_are_counted(self, found) -> None:
        row = found.candidates[found.candidates["status"] == "paid"].iloc[-1]
        told = CliRunner().invoke(app, ["cost", str(found.run.path), "--id", row["id"][:6], "--json"])
        assert json.loads(told.stdout)["total"]["ops"] == row["ops"]
        assert CliRunner().invoke(app, ["cost", "resnet18", "--id", "abcd"]).exit_code == 2

    def test_they_are_trained_anew(self, found, tmp_path) -> None:
        name = found.candidates["id"][0]
        command = ["train", str(found.run.path), "--out", str(tmp_path / "run"), "--recipe", "two_stages"]
        told = CliRunner().invoke(app, [*command, "--id", name, "--epochs", "2", "--json"])
        assert told.exit_code == 0, told.output
        assert (tmp_path / "run" / "best" / "architecture.yaml").read_text() == dump(found.architecture(name))
        assert CliRunner().invoke(app, ["train", str(found.run.path)]).exit_code == 2
        best = bnas.train_model(found.run.path, recipe="two_stages", epochs=2, out=tmp_path / "best", progress=False)
        assert best.load().state_dict().keys() == found.best.load().state_dict().keys()


def test_a_known_model_is_counted_by_name() -> None:
    assert bnas.count("lenet5") == bnas.count(bnas.build_model("lenet5"), (1, 28, 28))


def test_where_no_candidate_can_be_scored_it_says_why(tmp_path, monkeypatch) -> None:
    def fails(self: Scorer, arch: object) -> None:
        raise TrainingError("out of memory")

    monkeypatch.setattr(Scorer, "__call__", fails)
    with pytest.raises(
        TrainingError, match=r"none of the 4 candidates .* has a score; the last failed with: out of memory"
    ):
        bnas.search(tiny_space(), trials=4, out=tmp_path / "run", progress=False)
