"""A search that may take some minutes: settings that fit them, a whole result when they are over."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from spaces import line_of
from tiny import tiny_file, tiny_space
from typer.testing import CliRunner

import bnas
from bnas.api import pace, searching, timing
from bnas.api.opening import load_matching
from bnas.api.pace import Pace, fitted, longest, planned, retrain_seconds
from bnas.api.request import resolve
from bnas.cli.app import app
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import SpecError
from bnas.runs import Run
from bnas.space.arch import Architecture
from bnas.space.recipe import Stage
from bnas.space.space import SearchSpace
from bnas.spec import dump, parse, parse_yaml

PACE = Pace(supernet_step=0.01, score=0.02, alone_step=0.008)


@pytest.fixture(scope="module")
def asked():
    request = resolve(tiny_space(), "digits")
    return request, load_matching(request)


@pytest.mark.parametrize("seconds", [2, 5, 20, 100])
def test_settings_fit_the_time_and_use_it(asked, seconds: float) -> None:
    request, data = asked
    made = fitted(request, PACE, data, seconds, trials=None)
    taken = planned(made.settings, PACE, data).seconds
    assert 0.6 * seconds < taken <= seconds


def test_everything_grows_alike(asked) -> None:
    request, data = asked
    own = planned(request.settings, PACE, data)
    made = fitted(request, PACE, data, 20 * own.seconds, trials=None)
    *grown, taught = zip(own, planned(made.settings, PACE, data), strict=True)
    assert taught == (0, 0)  # there is no teacher
    for before, after in grown:
        assert after / before == pytest.approx(20, rel=0.3)


def test_trials_that_were_asked_for_stay(asked) -> None:
    request, data = asked
    assert fitted(request, PACE, data, 60, trials=6).settings.trials == 6
    assert fitted(request, PACE, data, 60, trials=None).settings.trials > 6


def test_a_supernet_that_is_trained_leaves_its_time_to_the_others(asked) -> None:
    request, data = asked
    taken = bnas.api.request.replace(request, supernet_of="runs/other")
    ours, theirs = (fitted(each, PACE, data, 20, trials=None).settings for each in (taken, request))
    assert ours.trials > theirs.trials


def test_too_little_time_is_refused(asked) -> None:
    request, data = asked
    with pytest.raises(SpecError) as caught:
        fitted(request, PACE, data, 0.1, trials=None)
    assert line_of(caught).startswith("minutes: 0.0017 are too few here, where the least takes ")


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf])
def test_what_is_no_time_is_refused(minutes: float) -> None:
    with pytest.raises(SpecError, match="minutes: a positive number is needed"):
        bnas.search(tiny_space(), minutes=minutes, progress=False)


def test_networks_alone_take_what_their_halvings_leave(asked) -> None:
    request, data = asked
    retrain = request.settings.retrain  # one epoch, then two with a halving after the first
    steps = data.train.steps(retrain.recipe.batch)
    assert retrain_seconds(retrain, {"search": 4}, 1.0, data) == steps * (4 + 4 + 2)
    assert retrain_seconds(retrain, {"search": 4, "twin": 1}, 1.0, data) == steps * (10 + 3)


def test_the_last_stage_takes_the_time_that_is_left(asked) -> None:
    request, data = asked
    retrain = request.settings.retrain
    needed = retrain_seconds(retrain, {"search": 2}, 1.0, data)
    assert longest(retrain, {"search": 2}, 1.0, data, needed).recipe == retrain.recipe
    assert longest(retrain, {"search": 2}, 1.0, data, 0.0).recipe.stages[-1].epochs == 1
    assert longest(retrain, {"search": 2}, 1.0, data, math.inf).recipe.stages[-1].epochs == 4


def test_the_pace_is_that_of_the_work_itself(asked) -> None:
    request, data = asked
    *measured, teacher_step = pace.pace_of(request, data)
    assert all(seconds > 0 for seconds in measured)
    assert teacher_step == 0  # there is none


def test_where_an_epoch_has_one_step_the_pace_is_that_of_two(asked) -> None:
    request, data = asked
    few = replace(data, train=data.train.take(300, seed=0))
    assert all(seconds > 0 for seconds in pace.pace_of(request, few)[:3])


def test_networks_alone_are_timed_by_those_that_nearly_fill_the_budget(asked, monkeypatch) -> None:
    request, data = asked
    timed: list[Architecture] = []
    monkeypatch.setattr(pace, "alone_step", lambda archs, request, data: timed.extend(archs) or 1.0)
    assert pace.pace_of(request, data).alone_step == 1
    drawn = sorted(cost(plan(request.draws(number))).ops for number in range(pace.DRAWN_FOR_ONE * pace.NETWORKS))
    assert [cost(plan(arch)).ops for arch in timed] == drawn[-pace.NETWORKS :]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minutes")
    words = ["search", str(tiny_file(folder)), "--minutes", "0.15", "--out", str(folder / "run")]
    return CliRunner().invoke(app, words), words, folder / "run"


def _with_stages(space: SearchSpace, stages: tuple[Stage, ...]) -> SearchSpace:
    retrain = space.search.retrain
    recipe = retrain.recipe.model_copy(update={"stages": stages})
    search = space.search.model_copy(update={"retrain": retrain.model_copy(update={"recipe": recipe})})
    return space.model_copy(update={"search": search})


class TestSearch:
    """From the command to the result."""

    def test_it_ends_well(self, ran) -> None:
        done, _, _ = ran
        assert done.exit_code == 0, done.output

    def test_the_run_keeps_what_was_planned(self, ran) -> None:
        _, _, folder = ran
        run = Run.read(folder)
        settings = parse(SearchSpace, parse_yaml(run.space_yaml, source=""), source="").search
        assert run.config["minutes"] == 0.15
        assert run.config["trials"] == settings.trials
        assert [event["epochs"] for event in run.events() if event["event"] == "alone"]
        assert bnas.open_run(folder).best.accuracy > 0

    def test_the_same_command_changes_nothing(self, ran) -> None:
        _, words, folder = ran
        before = (folder / "retrained.csv").read_bytes()
        assert CliRunner().invoke(app, words).exit_code == 0
        assert (folder / "retrained.csv").read_bytes() == before

    def test_another_time_is_another_search(self, ran) -> None:
        _, words, _ = ran
        again = CliRunner().invoke(app, [*words[:3], "0.3", *words[4:]])
        assert again.exit_code == 1
        assert "minutes" in str(again.exception)

    def test_a_candidate_is_exported_with_the_recipe_that_it_was_trained_by(self, ran, tmp_path) -> None:
        found = bnas.open_run(ran[2])
        (epochs,) = [event["epochs"] for event in found.run.events() if event["event"] == "alone"]
        *before, last = found.space.search.retrain.recipe.stages
        stages = (*before, last.model_copy(update={"epochs": epochs + 7}))
        with pytest.MonkeyPatch.context() as patch:  # the pace of now is that of before, more or less
            space = dump(_with_stages(found.space, stages))
            patch.setattr(Run, "space_yaml", property(lambda run: space))
            best = bnas.open_run(ran[2]).best
            out = bnas.export(ran[2], candidate=best.architecture.id, out=tmp_path / "out")
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["recipe"] == best.manifest["recipe"]
        assert manifest["recipe"]["stages"][-1]["epochs"] == epochs

    @pytest.mark.parametrize(
        ("option", "differs"),
        [
            (["--final-on-all"], "retrain.final_on_all"),
            (["--sampler", "random"], "sampler"),
            (["--top", "1"], "retrain.top"),
            (["--augment", "none"], "augment"),
        ],
    )
    def test_what_else_is_asked_is_not_left_out_in_silence(self, ran, option, differs: str) -> None:
        _, words, folder = ran
        before = (folder / "retrained.csv").read_bytes()
        again = CliRunner().invoke(app, [*words, *option])
        assert again.exit_code == 1
        assert f"{differs}: stored " in str(again.exception)
        assert (folder / "retrained.csv").read_bytes() == before


@pytest.mark.slow
def test_a_stopped_search_goes_on_with_its_settings(monkeypatch, tmp_path) -> None:
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(searching, "retrain", stopped)
        with pytest.raises(KeyboardInterrupt):
            bnas.search(tiny_space(), minutes=0.2, out=tmp_path / "run", progress=False)
    began = Run.read(tmp_path / "run").space_yaml
    monkeypatch.setattr(timing, "pace_of", None)
    found = bnas.search(tiny_space(), minutes=0.2, out=tmp_path / "run", progress=False)
    assert found.run.space_yaml == began
    assert found.best.accuracy > 0


def test_the_plan_is_said_and_when_the_time_is_up_the_best_so_far_is_the_result(
    monkeypatch, tmp_path: Path, caplog, capsys
) -> None:
    caplog.set_level("INFO", logger="bnas.images")
    monkeypatch.setattr(timing.TimeUp, "__call__", lambda self: True)
    found = bnas.search(tiny_space(), minutes=0.2, out=tmp_path / "run", progress=False)
    assert "plan for 0.2 minutes, by the pace measured here: supernet " in caplog.text
    assert capsys.readouterr().err == ""
    assert len(found.retrained) == 1
    assert found.best.architecture.id == found.retrained["id"][0]
    assert found.best.load() is not None
    assert "trained alone" in found.run.report.read_text()
