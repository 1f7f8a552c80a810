"""The command line: examples in every help, one line on stderr for what went wrong, exit codes, JSON."""

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
import torch
from typer.main import get_command

from bnas.cli import app as program
from bnas.cli.app import main
from bnas.errors import SpecError
from bnas.space.space import SearchSpace
from bnas.spec import parse_yaml
from tests.tiny import TINY, tiny_file

SPACES = Path(__file__).parents[1] / "search_spaces"
COMMANDS = ("init", "search", "select", "train", "cost", "export", "rank-check", "report")


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def bnas(*arguments: object) -> Done:
    """Run a command as the program does, but in this process, which has torch loaded already."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["bnas", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        try:
            main()
            code: int | str | None = 0
        except SystemExit as ended:
            code = ended.code
    return Done(int(code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A finished search, and what it printed."""
    folder = tmp_path_factory.mktemp("cli")
    done = bnas("search", tiny_file(folder), "--data", "digits", "--out", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    return folder / "run", done


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    done = bnas(command, "--help")
    assert done.returncode == 0
    assert re.search(rf"Examples?: bnas {command} ", " ".join(done.stdout.split()))


@pytest.mark.parametrize("command", program.COMMANDS)
def test_help_shows_every_word_that_is_written_of_an_option(command: str) -> None:
    shown = " ".join(bnas(command, "--help").stdout.replace("│", " ").split())
    for option in get_command(program.app).commands[command].params:  # type: ignore[attr-defined]
        assert " ".join(option.help.split()) in shown
        usual = getattr(option, "show_default", None)
        assert not isinstance(usual, str) or f"[default: ({usual})]" in shown


def test_results_go_to_stdout_as_json_and_progress_to_stderr(run) -> None:
    folder, done = run
    said = json.loads(done.stdout)
    assert said["run"] == str(folder)
    assert said["ledger"]["search"]["paid"] == 6
    assert said["best"]["cost"]["ops"] <= 12_000
    assert "supernet: " in done.stderr
    assert "retrain 1 of 4" in done.stderr


def test_the_same_command_again_is_quick_and_prints_the_tables(run) -> None:
    folder, _ = run
    done = bnas("search", folder.parent / "tiny.yaml", "--data", "digits", "--out", folder)
    assert done.returncode == 0
    assert "supernet: " not in done.stderr
    for word in ("Pareto front", "Trained alone", "random twin", "over budget 0 (free)", "are not counted"):
        assert word in done.stdout


def test_a_search_that_ends_early_says_so(tmp_path) -> None:
    few = TINY.replace("width: [4, 8], groups: [1, 2], experts: [1, 2], precision: [binary, weight]", "width: [4, 8]")
    (tmp_path / "few.yaml").write_text(few.replace("width: [8, 16], groups: [1, 2], experts: [1, 2]", "width: 8"))
    done = bnas("search", tmp_path / "few.yaml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"chosen by proxy loss; lowest after 4 paid evaluations [\d.]+; random twin after as many ", done.stdout
    )
    assert "ended after 4 of 6 trials: nothing new inside the budget was left to propose" in done.stdout


def test_report_and_export_take_the_finished_run(run, tmp_path) -> None:
    folder, _ = run
    assert bnas("report", folder).stdout.strip() == str(folder / "report.html")
    assert json.loads(bnas("report", folder, "--json").stdout) == {"report": str(folder / "report.html")}
    done = bnas("export", folder, "--to", "training", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["export"], told["needs"], told["reload"]["identical"]) == (str(tmp_path / "out"), [], True)
    assert {"model.py", "train.py", "architecture.yaml", "weights.safetensors", "manifest.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_schema_accepts_the_shipped_spaces_and_refuses_an_unknown_key() -> None:
    schema = json.loads(bnas("search", "--schema").stdout)
    for path in SPACES.glob("*.yaml"):
        jsonschema.validate(parse_yaml(path.read_text(), source=str(path)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"inptu": [1, 2, 3]}, schema)
    assert schema == json.loads(json.dumps(SearchSpace.model_json_schema()))


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        (TINY + "colour: red\n", [], "colour: unknown key"),
        (TINY.replace("width: [4, 8]", "width: []"), [], "stages[0].width"),
        (TINY.replace("groups: [1, 2]", "groups: [1, 3]", 1), [], "groups: 3 must divide every width"),
        (TINY.replace("width: [4, 8]", "width: four"), [], "stages[0].width"),
        ("- 1\n- 2\n", [], "must hold `key: value` lines"),
        ("a: [1\n", [], "not valid YAML"),
        (TINY, ["--budget", "ops=1"], "smallest network needs"),
        (TINY, ["--budget", "opps=3M"], "did you mean 'ops'"),
        (TINY, ["--data", "mnist"], "BNAS_DATA"),
        (TINY, ["--data", "nothing_here"], "nothing_here"),
        (TINY, ["--sampler", "tpee"], "did you mean 'tpe'"),
        (TINY, ["--device", "mps"], "device 'mps': networks are computed on cpu or cuda; give one of these"),
        (TINY, ["--device", "meta"], "device 'meta': networks are computed on cpu or cuda; give one of these"),
        (TINY, ["--device", "cpu:7"], "device 'cpu:7': torch finds 1 of them, numbered from 0"),
        (TINY, ["--device", "warp"], "device 'warp' is not one torch knows; give cpu, cuda or cuda:1"),
        (TINY, ["--seed", "9" * 23], "seed must be from 0 to 4294967295, but got 99999999999999999999999"),
        (TINY, ["--seed", "9" * 4000], "seed must be from 0 to 4294967295, but got 9999"),
        (TINY.replace("classes: 10", "classes: 3"), [], "has 10 classes, but the space only 3"),
        (TINY.replace("classes: 10", "classes: 11"), [], "has 10 classes, but the space 11; set classes: 10"),
        (TINY.replace("input: [1, 8, 8]", "input: [3, 8, 8]"), [], "images are 1 x 8 x 8, but 3 x 8 x 8 was asked"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1_and_leaves_nothing(tmp_path, monkeypatch, text, arguments, says) -> None:
    (tmp_path / "space.yaml").write_text(text)
    monkeypatch.setenv("BNAS_DATA", str(tmp_path / "absent"))
    monkeypatch.chdir(tmp_path)
    done = bnas("search", "space.yaml", *arguments, "--out", "run")
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("bnas: ")
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_a_missing_file_and_a_folder_that_is_no_run_say_what_to_do(tmp_path) -> None:
    assert "no such file" in bnas("search", tmp_path / "none.yaml").stderr
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "thesis.txt").write_text("mine")
    done = bnas("search", tiny_file(tmp_path), "--out", tmp_path / "busy")
    assert done.returncode == 1
    assert "--out" in done.stderr
    assert (tmp_path / "busy" / "thesis.txt").read_text() == "mine"
    assert bnas("export", tmp_path / "busy", "-o", tmp_path / "out").returncode == 1


LEAVES = """
import sys
from torch import nn


def data():
    sys.exit(0)


class Model(nn.Linear):
    def forward(self, x):
        sys.exit(0)


def model():
    return Model(3, 3)


def sampler(space, budget, seed):
    sys.exit(0)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "tiny.yaml", "--data", "leaves.py:data"],
        ["search", "tiny.yaml", "--sampler", "leaves.py:sampler"],
        ["train", "lenet5", "--data", "leaves.py:data"],
        ["train", "leaves.py:model", "--data", "digits"],
        ["select", "leaves.py:model", "--data", "digits", "--keep", "x"],
        ["select", "lenet5", "--data", "leaves.py:data", "--budget", "ops=50%"],
    ],
)
def test_code_that_ends_python_does_not_pass_for_done(tmp_path, monkeypatch, arguments) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_file(tmp_path)
    (tmp_path / "leaves.py").write_text(LEAVES)
    done = bnas(*arguments, "--out", "run")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]  # before it may stand what the images are, and some progress
    assert last.startswith("bnas: ")
    assert "its code ends Python, with sys.exit(0); take that out" in last


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (MemoryError(), "out of memory: "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes\nat c10"), "out of memory: DefaultCPUAlloc"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "out of memory: CUDA out of memory."),
        (OSError(28, "No space left on device", "/home/me/cache"), "/home/me/cache: the system refused this: No space"),
        (PermissionError(13, "Permission denied"), "the system refused this: Permission denied; see to it, and run"),
        (ValueError("postgresql://me:hunter2@host/runs"), "an error of bnas itself: ValueError: postgresql://me:***@"),
    ],
)
def test_what_the_machine_refuses_is_one_line_without_secrets(monkeypatch, problem: Exception, says: str) -> None:
    def refused() -> None:
        raise problem

    monkeypatch.setattr(program, "app", refused)
    done = bnas("cost", "lenet5")
    assert done.returncode == 1
    assert done.stderr.startswith(f"bnas: {says}")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


def test_wrong_usage_is_exit_code_2() -> None:
    assert bnas("search", "--no-such-option").returncode == 2
    assert bnas("search").returncode == 2
    assert bnas("nothing").returncode == 2


@pytest.mark.parametrize(
    ("beside", "option"),
    [
        (["--budget", "ops=2M"], "--budget"),
        (["--minutes", "3"], "--minutes"),
        (["--from", "r", "--out", "o"], "--target"),
    ],
)
def test_what_does_not_go_with_several_targets_is_refused(beside: list[str], option: str) -> None:
    done = bnas("search", "digits", "--target", "ops=1M", *beside)
    assert done.returncode == 2
    assert f"Invalid value for {option}: " in done.stderr


def test_debug_shows_where_it_came_from(tmp_path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        bnas("--debug", "search", tmp_path / "none.yaml")


def test_as_a_program_it_fails_without_a_traceback(tmp_path) -> None:
    command = [sys.executable, "-m", "bnas", "search", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr == f"bnas: {tmp_path}/none.yaml: no such file; give the path of a YAML file\n"


def test_what_was_found_is_trained_again_and_reported(run: tuple[Path, Done], tmp_path: Path) -> None:
    best, out = run[0] / "best" / "architecture.yaml", tmp_path / "again"
    done = bnas("train", best, "--data", "digits", "--epochs", 2, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["epochs"] >= 2
    assert 0 <= said["accuracy"]["test"] <= 1
    assert bnas("report", out).stdout.strip() == str(out / "report.html")
    again = bnas("train", best, "--data", "digits", "--epochs", 2, "--out", out)
    assert "bnas.load(" in again.stdout
    assert "soft weights" in again.stdout


def test_a_model_that_is_not_known_is_one_line(tmp_path: Path) -> None:
    done = bnas("train", "lenet6", "--data", "digits", "--out", tmp_path / "x")
    assert done.returncode == 1
    assert done.stderr.startswith("bnas: model 'lenet6'")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("model", ["..", ":network"])
def test_a_model_without_a_name_needs_a_folder(model: str) -> None:
    done = bnas("train", model)
    assert done.returncode == 2
    assert "no name to call a run folder after; give one" in done.stderr


def test_data_of_no_name_are_not_digits(tmp_path: Path) -> None:
    done = bnas("search", str(tiny_file(tmp_path)), "--data", "", "--out", str(tmp_path / "run"))
    assert done.returncode == 1
    assert "data set '' is not known" in done.stderr
    assert not (tmp_path / "run").exists()
