"""`bnas rank-check` on a finished run: what it trains, writes and says, and that it goes on after a kill."""

import json
import re
import shutil

import pandas as pd
import pytest

import bnas
import bnas.api.rank_check as rank_check
from bnas.api.rank_check import check_ranking
from bnas.cli.app import main
from bnas.errors import RunError, Stopped
from bnas.ranking import tau
from tests.tiny import tiny_space

NETWORKS = 4


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


def test_every_network_has_its_scores_and_its_accuracy(checked) -> None:
    rows = checked.networks
    assert len(rows) == NETWORKS
    assert rows.notna().all(axis=None)
    candidates = checked.run.read_table("candidates").set_index("id")
    assert rows["proxy_accuracy"].tolist() == candidates.loc[rows["id"], "proxy_accuracy"].tolist()
    assert checked.ranking["proxy accuracy"].tau == pytest.approx(
        tau(rows["proxy_accuracy"], rows["test_accuracy"]), nan_ok=True
    )


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


def test_networks_of_a_table_are_looked_up(checked, searched, tmp_path, monkeypatch) -> None:
    shutil.copytree(searched, tmp_path / "run")
    table = tmp_path / "table.csv"
    checked.run.read_table("alone").iloc[: NETWORKS + 2].to_csv(table, index=False)
    monkeypatch.setattr(rank_check, "train_alone", refuse)
    found = check_ranking(tmp_path / "run", networks=NETWORKS, repeated=2, table=table)
    assert found.ranking.as_dict() == checked.ranking.as_dict()
    assert not found.run.has_table("alone")


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
    with pytest.raises(RunError, match=r"2 candidates were scored; a ranking needs at least 3"):
        check_ranking(tmp_path / "run")


def test_the_command_prints_the_table_and_the_sentence(checked, monkeypatch, capsys) -> None:
    command = ["bnas", "rank-check", str(checked.run.path), "--networks", str(NETWORKS), "--repeated", "2"]
    said = printed(command, monkeypatch, capsys)
    assert re.search(r"^score +tau +95 % interval +like ops +Q1 +top 1$", said, re.MULTILINE)
    for words in ("proxy accuracy", "ops", "random", "2 networks trained twice", checked.ranking.sentence):
        assert words in said
    found = json.loads(printed([*command, "--json"], monkeypatch, capsys))
    assert found["sentence"] == checked.ranking.sentence
    assert [row["score"] for row in found["measured"]][-2:] == ["ops", "random"]
