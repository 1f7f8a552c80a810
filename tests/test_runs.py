"""The run folder knows its own question, stays inside itself, and gives back what was written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runfolder import CONFIG, SPACE, contents, opened, weights
from sqlalchemy import make_url

from bnas.errors import RunError
from bnas.runs import Run, mask_secrets

PASSWORD = "geh@e:im"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return opened(tmp_path / "run")


class TestOpening:
    def test_what_was_asked_is_written(self, run: Run) -> None:
        written = {path.name for path in run.path.iterdir()}
        assert written == {"config.yaml", "space.yaml", "environment.json", "sums.json"}
        assert json.loads((run.path / "environment.json").read_text())["torch"].startswith(
            torch.__version__.split("+")[0]
        )

    def test_equal_question_resumes(self, run: Run) -> None:
        again = opened(run.path)
        assert (again.config, again.space_yaml) == (run.config, SPACE)

    def test_tuples_and_comments_are_no_difference(self, run: Run) -> None:
        config = CONFIG | {"budgets": (("ops", 3e6),)}
        again = Run.open(run.path, config=config, space_yaml="stages: [{width: [16, 32]}]\nclasses: 10")
        assert again.space_yaml == SPACE

    def test_another_question_is_named_key_by_key(self, run: Run) -> None:
        before = contents(run.path)
        with pytest.raises(RunError) as error:
            Run.open(
                run.path, config={"seed": 1, "train": {"epochs": 3}, "budgets": []}, space_yaml="stages: [{width: [8]}]"
            )
        said = str(error.value)
        assert "seed: stored 0, asked 1" in said
        assert "train.workers: stored 2, asked nothing" in said
        assert "space.stages[0].width[0]: stored 16, asked 8" in said
        assert "--out" in said
        assert contents(run.path) == before

    def test_free_keys_may_change(self, run: Run) -> None:
        again = opened(run.path, train={"epochs": 3, "workers": 4}, device="cpu")
        assert again.config["train"]["workers"] == 4
        assert opened(run.path, train={"epochs": 3, "workers": 4}, device="cpu").config == again.config
        assert [event["event"] for event in again.events()] == ["config"]

    def test_free_keys_stay_while_another_drives(self, run: Run) -> None:
        with run.lock(), pytest.raises(RunError, match="another driver"):
            opened(run.path, device="cpu")
        assert "device" not in Run.read(run.path).config

    def test_folder_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("mine")
        with pytest.raises(RunError, match=r"thesis\.tex.*--out"):
            opened(tmp_path)
        assert contents(tmp_path) == {"thesis.tex": b"mine"}

    def test_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "run").touch()
        with pytest.raises(RunError, match="is a file"):
            opened(tmp_path / "run")

    def test_creation_that_was_killed_is_done_again(self, run: Run) -> None:
        (run.path / "config.yaml").unlink()
        (run.path / ".config.77.tmp.yaml").touch()
        assert opened(run.path).config == run.config

    @pytest.mark.parametrize("name", ["why?", "100%", "{name}"])
    def test_path_that_no_storage_url_can_hold_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(RunError, match="may not hold"):
            opened(tmp_path / name)
        assert contents(tmp_path) == {}

    @pytest.mark.parametrize("damage", ["seed: [", "- a list", "", "seed: 1\nseed: 0", "seed: 01"])
    @pytest.mark.parametrize("is_old", [False, True])
    def test_damaged_config_is_named(self, run: Run, damage: str, is_old: bool) -> None:
        (run.path / "config.yaml").write_text(damage)
        if is_old:  # of a build that kept no checksums
            (run.path / "sums.json").unlink()
        with pytest.raises(RunError, match=r"config\.yaml: is damaged"):
            Run.read(run.path)
        with pytest.raises(RunError, match=r"config\.yaml: is damaged"):
            opened(run.path, seed=7)

    @pytest.mark.parametrize("name", ["config.yaml", "space.yaml"])
    @pytest.mark.parametrize("is_gone", [False, True])
    def test_what_was_asked_is_written_anew_by_the_same_question(
        self, run: Run, caplog: pytest.LogCaptureFixture, name: str, is_gone: bool
    ) -> None:
        file, before = run.path / name, (run.path / name).read_bytes()
        file.unlink() if is_gone else file.write_bytes(before.replace(b"0", b"5"))
        with pytest.raises(RunError, match=name):
            Run.read(run.path)
        assert opened(run.path).config == run.config
        assert file.read_bytes() == before
        assert f"{name}: is {'missing' if is_gone else 'damaged'}" in caplog.text

    @pytest.mark.parametrize("is_gone", [False, True])
    def test_the_id_of_a_run_is_written_anew_from_its_log(self, run: Run, is_gone: bool) -> None:
        label, file = run.label, run.path / "environment.json"
        with run.lock():
            pass
        before = json.loads(file.read_text())
        file.unlink() if is_gone else file.write_text(file.read_text().replace("run_id", "run_1d"))
        with pytest.raises(RunError, match=r"environment\.json: is"):
            _ = run.label
        with run.lock():
            assert run.label == label
        assert json.loads(file.read_text()) == before
        assert "environment.json" in run.events()[-1]["message"]

    def test_object_in_config_is_not_made(self, run: Run) -> None:
        (run.path / "config.yaml").write_text("seed: !!python/object/apply:os.getcwd []")
        with pytest.raises(RunError, match="is damaged"):
            Run.read(run.path)

    @pytest.mark.parametrize("name", ["config.yaml", "space.yaml"])
    @pytest.mark.parametrize("is_old", [False, True])
    def test_reading_names_what_is_missing(self, run: Run, name: str, is_old: bool) -> None:
        (run.path / name).unlink()
        if is_old:
            (run.path / "sums.json").unlink()
        with pytest.raises(RunError, match=f"{name}: is missing"):
            Run.read(run.path)

    def test_reading_needs_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="is no folder"):
            Run.read(tmp_path / "nothing")

    def test_reading_writes_nothing(self, run: Run) -> None:
        seen = Run.read(run.path)
        writes: list[Callable[[], object]] = [
            lambda: seen.log("event"),
            lambda: seen.write_ledger({}),
            lambda: seen.save_checkpoint("supernet", {}, {}),
            lambda: seen.lock().__enter__(),
        ]
        for write in writes:
            with pytest.raises(RunError, match="opened to be read"):
                write()


class TestNames:
    BAD = ("", ".", "..", "../other", "/tmp/other", "retrain/../../other", "a//b", "a\\b", ".hidden", "a\n", "a/", "-x")

    @pytest.mark.parametrize("name", [*BAD, "best", "figures/a"])
    def test_checkpoint_stays_in_its_place(self, run: Run, name: str) -> None:
        before = contents(run.path.parent)
        for access in (lambda: run.save_checkpoint(name, weights(1), {}), lambda: run.discard_checkpoint(name)):
            with pytest.raises(RunError, match="the name must be"):
                access()
        assert contents(run.path.parent) == before

    @pytest.mark.parametrize("name", [*BAD, "candidates.csv", "a/b"])
    def test_table_stays_in_the_folder(self, run: Run, name: str) -> None:
        with pytest.raises(RunError, match="the name must be"):
            run.write_table(name, [{"id": "a"}])

    def test_link_out_of_the_folder_is_refused(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (run.path / "supernet").symlink_to(tmp_path / "other")
        (run.path / "log.jsonl").symlink_to(tmp_path / "other" / "log")
        for write in (lambda: run.save_checkpoint("supernet", weights(1), {}), lambda: run.log("event")):
            with pytest.raises(RunError, match="symbolic link"):
                write()
        assert contents(tmp_path / "other") == {}

    @pytest.mark.parametrize("name", ["run", "a b", "ä#1", "x:y@z", "a&b=c"])
    def test_storage_is_in_the_folder(self, tmp_path: Path, name: str) -> None:
        url = opened(tmp_path / name).storage_url
        assert make_url(url).database == f"{tmp_path / name}/study.db"


class TestTables:
    ROWS: tuple[dict[str, Any], ...] = (
        {"id": "12e5", "status": "paid", "proxy_accuracy": 0.1 + 0.2, "ops": 3_000_001},
        {"id": "0017", "status": "over budget", "proxy_accuracy": None, "ops": None, "why": 'too "big", by far'},
        {"id": "ff", "status": "paid", "proxy_accuracy": 1 / 3, "ops": 2**53 + 1},
    )

    def test_floats_and_ids_come_back_exactly(self, run: Run) -> None:
        run.write_table("candidates", self.ROWS)
        table = run.read_table("candidates")
        assert table["id"].tolist() == ["12e5", "0017", "ff"]
        assert table["proxy_accuracy"].dropna().tolist() == [0.1 + 0.2, 1 / 3]
        assert "3000001," in (run.path / "candidates.csv").read_text()

    def test_equal_rows_give_equal_bytes(self, run: Run) -> None:
        run.write_table("candidates", self.ROWS)
        first = (run.path / "candidates.csv").read_bytes()
        run.write_table("candidates", [dict(row) for row in self.ROWS])
        assert (run.path / "candidates.csv").read_bytes() == first

    def test_what_was_read_can_be_written_again(self, run: Run) -> None:
        run.write_table("pareto", [{"id": "a", "accuracy": value} for value in (0.1, 1e-17, 2 / 3)])
        first = (run.path / "pareto.csv").read_bytes()
        run.write_table("pareto", run.read_table("pareto"))
        assert (run.path / "pareto.csv").read_bytes() == first

    def test_empty_table_is_a_table(self, run: Run) -> None:
        assert not run.has_table("retrained")
        run.write_table("retrained", [])
        assert run.has_table("retrained")
        assert run.read_table("retrained").empty

    def test_missing_table_is_named(self, run: Run) -> None:
        with pytest.raises(RunError, match=r"retrained\.csv: is missing"):
            run.read_table("retrained")

    def test_ledger_comes_back(self, run: Run) -> None:
        with pytest.raises(RunError, match=r"ledger\.json: is missing"):
            run.read_ledger()
        run.write_ledger({"paid": 200, "repeated": 31})
        assert run.read_ledger() == {"paid": 200, "repeated": 31}


class TestBest:
    def test_comes_back_with_the_sum_of_its_weights(self, run: Run) -> None:
        assert not run.best.is_sound()
        with pytest.raises(RunError, match="best: is missing"):
            run.best.read()
        for value in (1, 2):
            run.best.write("stages: []\n", weights(value), {"id": "a", "accuracy": {"test": 0.1 + 0.2}})
        architecture, tensors, manifest = Run.read(run.path).best.read()
        assert run.best.is_sound()
        assert architecture == "stages: []\n"
        assert torch.equal(tensors["conv.weight"], weights(2)["conv.weight"])
        assert (manifest["id"], manifest["accuracy"]) == ("a", {"test": 0.1 + 0.2})
        assert {path.name for path in (run.path / "best").iterdir()} == {
            "architecture.yaml",
            "weights.safetensors",
            "manifest.json",
        }

    @pytest.mark.parametrize("name", ["weights.safetensors", "architecture.yaml", "manifest.json"])
    @pytest.mark.parametrize("left", [0, 0.9])
    def test_a_truncated_file_is_named_and_what_it_belongs_to_is_no_best_network(
        self, run: Run, caplog: pytest.LogCaptureFixture, name: str, left: float
    ) -> None:
        run.best.write("stages: [0, 1, 2, 3, 4]\n", weights(1), {})
        assert run.best.is_sound()
        file = run.best.folder / name
        os.truncate(file, int(left * file.stat().st_size))
        with pytest.raises(RunError, match=rf"{name}: (is damaged|cannot be read).*run the command that began this"):
            run.best.read()
        assert not run.best.is_sound()
        assert name in caplog.text
        assert [name in event["message"] for event in run.events()] == [True]
        run.best.write("stages: []\n", weights(1), {})
        assert run.best.is_sound()

    def test_killed_between_two_renames_the_one_before_is_found(self, run: Run) -> None:
        run.best.write("old", weights(1), {})
        (run.path / ".best.7.tmp").mkdir()
        run.best.folder.rename(run.path / ".best.7.tmp" / "old")
        assert not run.best.is_sound()
        with run.lock():
            assert run.best.read().architecture_yaml == "old"
            run.best.write("new", weights(1), {})
        assert run.best.read().architecture_yaml == "new"
        assert not list(run.path.glob(".best*"))


class TestSecrets:
    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            (f"postgresql+psycopg://me:{PASSWORD}@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
            ("redis://:pass word@host", "redis://:***@host"),
            ("mysql://host/db?user=me&password=geheim&x=1", "mysql://host/db?user=me&password=***&x=1"),
            ("lost postgresql://me:geheim@host/db, waiting", "lost postgresql://me:***@host/db, waiting"),
            ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
            ("sqlite:////runs/a/study.db", "sqlite:////runs/a/study.db"),
            ("runs/a: mail me@host", "runs/a: mail me@host"),
        ],
    )
    def test_passwords_are_hidden_and_nothing_else(self, text: str, masked: str) -> None:
        assert mask_secrets(text) == masked

    def test_password_is_nowhere_in_the_folder(self, tmp_path: Path) -> None:
        storage = f"postgresql://me:{PASSWORD}@host/db"
        run = opened(tmp_path / "run", storage=storage, more={"urls": (storage,)})
        with run.lock():
            run.log("lost", error=f"no answer from {storage}", nested=[{"url": storage}])
            run.write_ledger({"storage": storage})
            run.best.write("", weights(1), {"storage": storage})
        assert opened(run.path, storage=storage, more={"urls": [storage]}).config["storage"].endswith("me:***@host/db")
        assert not [name for name, content in contents(run.path).items() if b"geh" in content or b"im@" in content]
