"""The README is true: every command in it runs as it is written, every file it names is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bnas.cli.app import main
from bnas.space.shipped import SPACES
from tests.tiny import tiny_file

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, _, text in BLOCKS if not language for line in text.splitlines() if line.strip()]


@pytest.mark.slow
def test_commands_run_as_they_are_written(tmp_path, monkeypatch) -> None:
    # The same words, but the demo's space is a tiny one here: what is checked is the walk, not the network.
    monkeypatch.setitem(SPACES, "digits", tiny_file(tmp_path))
    monkeypatch.chdir(tmp_path)
    ran = [command for command in COMMANDS if command.startswith("bnas ")]
    for command in ran:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, command
    assert len(ran) == 6
    assert (tmp_path / "runs" / "demo" / "report.html").exists()
    assert (tmp_path / "handover" / "model.py").exists()
    assert len(list((tmp_path / "runs" / "two" / "targets").iterdir())) == 2
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {}
    for language, title, text in BLOCKS:
        if title:
            (tmp_path / title).write_text(text)
        elif language == "python":
            exec(text, names)
    assert (tmp_path / "binary" / "model.py").exists()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    assert named == {"demo", "check", "test", "test-lowest"}
    assert named <= targets


def test_every_file_and_picture_that_is_named_is_there() -> None:
    named = set(re.findall(r"\(((?:docs|search_spaces)/[^)#]+)", README))
    named |= set(re.findall(r"`(search_spaces/\S+\.yaml)`", README))
    named |= set(re.findall(r"`python (benchmarks/\S+\.py)", README))
    assert {"docs/images/pareto.png", "search_spaces/mnist.yaml", "benchmarks/planning.py"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_shipped_space_is_named() -> None:
    assert [p.name for p in (ROOT / "search_spaces").glob("*.yaml") if f"search_spaces/{p.name}" not in README] == []


def test_the_benchmark_it_names_runs() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/planning.py", "--quick"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    claims = done.stdout.splitlines()
    assert len(claims) == 3
    assert all("ratio" in claim and "target" in claim for claim in claims)
