"""Workers import the script that starts them again: one that would begin anew is refused before any work."""

import subprocess
import sys

import pytest

from tests.packed import MANY
from tests.tiny import TINY

CALL = "bnas.search('tiny.yaml', out='run', engine='processes', trials=2, top=1, progress=False)"
OBJECT = CALL.replace("'processes'", "bnas.Engine('processes', workers=2)")
SCRIPTS = {
    "bare": f"import bnas\nprint({CALL})\n",
    "in a function": f"import bnas\n\n\ndef work():\n    return {CALL}\n\n\nprint(work())\n",
    "an engine object": f"import bnas\nprint({OBJECT})\n",
    "under another if": f"import bnas\nif bnas:\n    print({CALL})\n",
}
GUARDED = f"import bnas\n\nif __name__ == '__main__':\n    print({CALL})\n"


def run(tmp_path, text: str, *, stdin: bool = False) -> subprocess.CompletedProcess[str]:
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "script.py").write_text(text)
    command = [sys.executable] if stdin else [sys.executable, "script.py"]
    return subprocess.run(
        command, input=text if stdin else None, cwd=tmp_path, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", list(SCRIPTS)[:: 1 if MANY else 2])
def test_a_script_without_a_guard_is_refused_before_the_work(name: str, tmp_path) -> None:
    done = run(tmp_path, SCRIPTS[name])
    assert done.returncode == 1
    assert 'under `if __name__ == "__main__":`' in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_script_on_stdin_is_refused_before_the_work(tmp_path) -> None:
    done = run(tmp_path, SCRIPTS["bare"], stdin=True)
    assert "save it as a file" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_script_with_a_guard_works(tmp_path) -> None:
    done = run(tmp_path, GUARDED)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
