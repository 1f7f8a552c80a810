"""`bnas rank-check` on a finished run: what it trains, writes and says, and that it goes on after a kill."""

import json
import math
import re
import shutil
from dataclasses import replace
from html import unescape

import pandas as pd
import pytest

import bnas
import bnas.api.rank_checking as rank_check
from bnas.api.rank_checking import check_ranking
from bnas.cli.app import main
from bnas.cli.rank_check import said
from bnas.errors import LookupFailed, RunError, Stopped, TrainingError
from bnas.report import write_report
from bnas.runs import Run
from bnas.searcher.ranking import Terms, tau
from bnas.space.recipe import Recipe, Stage
from tests.tiny import tiny_space

NETWORKS = 4
SHORT = Recipe(stages=(Stage(epochs=1),))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A finished search."""
    folder = tmp_path_factory.mktemp("ranking") / "run"
    bnas.search(tiny_space(), data="digits", out=folder)
    return folder


@pytest.fixture(scope="module")
def checked(searched, tmp_path_factory):
    """The rank-check of a copy of it."""
    folder = tmp_path_factory.mktemp("checked") / "run"
    shutil.copytree(searched, folder)
    return check_ranking(folder, networks=NETWORKS, repeated=2)


def refuse(*args, **kwargs):
    raise AssertionError("nothing should be trained")


def printed(command, monkeypatch, capsys) -> str:
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_without_a_supernet_it_is_an_error_before_anything_is_trained(searched, tmp_path, monkeypatch) -> None:
    shutil.copytree(searched, tmp_path / "run")
    for file in (tmp_path / "run").glob("supernet/*"):
        file.unlink()
    monkeypatch.setattr(rank_check, "train_alone", refuse)
    with pytest.raises(TrainingError, match="supernet: none is kept in this run"):
        check_ranking(tmp_path / "run", networks=NETWORKS)


def test_of_a_given_network_it_says_what_is_wanted(tmp_path) -> None:
    bnas.train_model(tiny_space().smallest(), recipe=SHORT, out=tmp_path / "run", progress=False)
    with pytest.raises(RunError, match="one given network was trained here; give the run folder of a search"):
        check_ranking(tmp_path / "run", networks=NETWORKS)


def test_every_network_has_its_scores_and_its_accuracy(checked) -> None:
    rows = checked.networks
    assert len(rows) == NETWORKS
    assert rows.notna().all(axis=None)
    candidates = checked.run.read_table("candidates").set_index("id")
    assert rows["proxy_accuracy"].tolist() == candidates.loc[rows["id"], "proxy_accuracy"].tolist()
    assert checked.ranking.proxy == "proxy loss"  # what a search ranks by
    for name, score in (("proxy accuracy", rows["proxy_accuracy"]), ("proxy loss", -rows["proxy_loss"])):
        assert checked.ranking[name].tau == pytest.approx(tau(score, rows["test_accuracy"]), nan_ok=True)


def test_two_were_trained_twice_and_all_is_written_down(checked) -> None:
    trainings = checked.run.read_table("alone")
    assert trainings["id"].value_counts().tolist() == [2, 2, 1, 1]
    assert checked.ranking.seeds.networks == 2
    assert checked.run.read_ranking()["sentence"] == checked.ranking.sentence
    pd.testing.assert_frame_equal(checked.run.read_table("ranking"), checked.networks, check_dtype=False)
    assert {path.name for path in checked.run.figures.glob("ranking*")} == {"ranking.png", "ranking-dark.png"}


def test_batch_norm_as_training_left_it_scores_otherwise(checked) -> None:
    assert (checked.networks["as_trained_accuracy"] != checked.networks["proxy_accuracy"]).any()


def test_again_it_trains_nothing_and_a_larger_sample_holds_the_smaller(checked, monkeypatch) -> None:
    folder = checked.run.path
    larger = check_ranking(folder, networks=NETWORKS + 1, repeated=0)
    assert set(checked.networks["id"]) < set(larger.networks["id"])
    monkeypatch.setattr(rank_check, "train_alone", refuse)
    assert check_ranking(folder, networks=NETWORKS, repeated=2).ranking.as_dict() == checked.ranking.as_dict()


def test_trainings_of_another_length_are_kept_apart(checked, tmp_path, monkeypatch, capsys) -> None:
    folder = tmp_path / "run"
    shutil.copytree(checked.run.path, folder)
    own = checked.run.read_table("alone")
    own.drop(columns="epochs").to_csv(folder / "alone.csv", index=False)  # as older builds wrote it
    (folder / "sums.json").unlink()
    short = check_ranking(folder, networks=NETWORKS, repeated=0, epochs=1)
    assert "trained for 1 of the recipe's epochs" in short.ranking.sentence
    assert "trained for 1 of the recipe's epochs" in unescape(short.run.report.read_text())
    kept = short.run.read_table("alone")
    assert kept["epochs"].value_counts().to_dict() == {tiny_space().search.retrain.recipe.epochs: len(own), 1: NETWORKS}
    monkeypatch.setattr(rank_check, "train_alone", refuse)
    again = check_ranking(folder, networks=NETWORKS, repeated=2)
    assert again.ranking.as_dict() == checked.ranking.as_dict()
    options = f"--networks {NETWORKS} --repeated 0 --epochs 1 --json".split()
    command = ["bnas", "rank-check", str(folder), *options]
    assert json.loads(printed(command, monkeypatch, capsys))["epochs"] == 1


@pytest.fixture
def table(checked, tmp_path):
    """A table of the trainings of the check, with its terms beside it."""
    path = tmp_path / "table.csv"
    checked.run.read_table("alone").iloc[: NETWORKS + 2].to_csv(path, index=False)
    Terms.of("digits", tiny_space().search).keep(path)
    return path


def test_networks_of_a_table_are_looked_up(checked, searched, table, tmp_path, monkeypatch) -> None:
    shutil.copytree(searched, tmp_path / "run")
    monkeypatch.setattr(rank_check, "train_alone", refuse)
    found = check_ranking(tmp_path / "run", networks=NETWORKS, repeated=2, table=table)
    assert found.ranking.as_dict() == checked.ranking.as_dict()
    assert not found.run.has_table("alone")


def test_a_table_of_another_recipe_or_data_set_is_refused(checked, table) -> None:
    beside = table.with_suffix(".yaml")
    beside.write_text(beside.read_text().replace("data: digits", "data: mnist").replace("epochs: 2", "epochs: 5"))
    says = r'trained with data "mnist", but "digits" is asked for; recipe\.stages\[1\]\.epochs 5, but 2 is asked for;'
    with pytest.raises(LookupFailed, match=says):
        check_ranking(checked.run.path, networks=NETWORKS, table=table)


def test_a_table_that_does_not_say_what_it_was_trained_with_is_refused(checked, table) -> None:
    table.with_suffix(".yaml").unlink()
    with pytest.raises(LookupFailed, match=r"no table\.yaml beside it says what its networks were trained with"):
        check_ranking(checked.run.path, networks=NETWORKS, table=table)


def test_the_report_of_the_run_shows_it(checked) -> None:
    page = unescape(checked.run.report.read_text())
    assert "Can the proxy be trusted?" in page
    assert checked.ranking.sentence in page
    assert "batch norm as trained" in page
    assert page.count("how well each score ranks them") == 1
    (checked.run.figures / "ranking-dark.png").unlink()
    assert unescape(write_report(checked.run).read_text()).count("how well each score ranks them") == 1
    assert (checked.run.figures / "ranking-dark.png").exists()


@pytest.mark.parametrize("beats", [True, False])
def test_the_report_warns_of_a_proxy_that_does_not_beat_ops(checked, tmp_path, beats) -> None:
    shutil.copytree(checked.run.path, tmp_path / "run")
    found = checked.run.read_ranking() | {"beats_ops": beats, "sentence": "What is to be said."}
    (tmp_path / "run" / "ranking.json").write_text(json.dumps(found))
    (tmp_path / "run" / "sums.json").unlink()  # as in a run of a build that kept none
    page = write_report(Run.read(tmp_path / "run")).read_text()
    assert ('<div class="missing"><p>What is to be said.</p></div>' in page) == (not beats)


def test_stopped_between_steps_it_goes_on_to_the_same_result(checked, searched, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(searched, folder)
    steps = iter(range(1000))

    def stop_at_times(phase: str, done: int, total: int, note: str = "") -> None:
        if phase.startswith("alone") and next(steps) % 7 == 6:
            raise Stopped("enough for now")

    for _ in range(50):
        try:
            found = check_ranking(folder, networks=NETWORKS, repeated=2, progress=stop_at_times)
            break
        except Stopped:
            pass
    seconds = ["seconds"]
    expected = checked.run.read_table("alone").iloc[: NETWORKS + 2]
    pd.testing.assert_frame_equal(
        found.run.read_table("alone").drop(columns=seconds), expected.drop(columns=seconds), check_dtype=False
    )


def test_a_run_with_too_few_candidates_says_so(searched, tmp_path) -> None:
    shutil.copytree(searched, tmp_path / "run")
    table = tmp_path / "run" / "candidates.csv"
    table.write_text("\n".join(table.read_text().splitlines()[: 1 + 2]))
    table.with_name("sums.json").unlink()  # as in a run of a build that kept none
    with pytest.raises(RunError, match=r"2 candidates were scored; a ranking needs at least 3"):
        check_ranking(tmp_path / "run")


@pytest.mark.parametrize(("told_apart", "shown"), [(True, "scores all alike"), (False, " - ")])
def test_a_tau_that_does_not_exist_is_blamed_on_what_is_alike(checked, told_apart: bool, shown: str) -> None:
    alike = {"tau": math.nan, "low": math.nan, "high": math.nan}
    first, *others = checked.ranking.measured
    rows = (first._replace(**alike), *(others if told_apart else (row._replace(**alike) for row in others)))
    assert shown in said(replace(checked.ranking, measured=rows), checked.run).splitlines()[4]


def test_the_command_prints_the_table_and_the_sentence(checked, monkeypatch, capsys) -> None:
    command = ["bnas", "rank-check", str(checked.run.path), "--networks", str(NETWORKS), "--repeated", "2"]
    said = printed(command, monkeypatch, capsys)
    assert re.search(r"^score +tau +95 % interval +like ops +Q1 +top 1$", said, re.MULTILINE)
    for words in ("proxy accuracy", "ops", "random", "2 networks trained twice", checked.ranking.sentence):
        assert words in said
    found = json.loads(printed([*command, "--json"], monkeypatch, capsys))
    assert found["sentence"] == checked.ranking.sentence
    assert [row["score"] for row in found["measured"]][-2:] == ["ops", "random"]
