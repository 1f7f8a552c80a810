"""The pages of docs/ are true: their blocks run in order, in one folder, and what they name is there."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bnas
from bnas.cli.app import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
NOT_RUN = {
    "deploying.md": "of the demo: tests/test_export_onnx.py and tests/test_export_qonnx.py",
    "index.md": "the demo: the README's test walks through it",
    "latency.md": "measures for minutes",
    "packed.md": "of the demo; tests/test_export_packed.py and tests/test_bench.py",
    "scaling.md": "several machines",
}
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
PATH = re.compile(r"`((?:bnas|docs|benchmarks|search_spaces|tests|examples)/[\w/]+(?:\.\w+)?)/?`")


def program(name: str) -> Any:
    """Return a program that writes parts of pages."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def keys() -> Any:
    """The program that writes the tables of keys."""
    return program("keys")


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page not in NOT_RUN])
def test_every_block_runs(page: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {}
    for language, title, text in FENCE.findall(PAGES[page]):
        if title:
            Path(title).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, page, "exec"), names)
        elif not language:
            for command in text.replace("\\\n", " ").splitlines():
                run(command, monkeypatch, capsys)


def run(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command in this process, for one of its own takes seconds to start, and check that it ends well."""
    words, arrow, file = command.partition(" > ")
    name, *arguments = shlex.split(words)
    if name == "python":
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        return
    assert name == "bnas", (
        f"{command}: only bnas and python are run here; give another language to what is not to be run"
    )
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 0, f"{command}: {said.err}"
    if arrow:
        Path(file).write_text(said.out, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page: str) -> None:
    assert [name for name in PATH.findall(PAGES[page]) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_tables_of_keys_are_those_of_the_schema(page: str, keys) -> None:
    assert keys.written(PAGES[page]) == PAGES[page], "make them anew: python docs/keys.py"


def test_the_table_of_reference_networks_is_what_is_counted() -> None:
    page = PAGES["reference_networks.md"]
    assert program("networks").written(page) == page, "make it anew: python docs/networks.py"


def test_no_key_is_without_words_and_each_has_a_table(keys) -> None:
    schemas = keys.described()
    silent = [
        f"{n}.{k}" for n, kind in schemas.items() for k, of in kind["properties"].items() if not of.get("description")
    ]
    assert silent == []
    assert set(schemas) - set(keys.HOMES) == {"LatencyTable"}  # which is measured, not written


def test_everything_public_is_on_the_page_of_python() -> None:
    assert sorted(re.findall(r"^::: bnas\..*?(\w+)$", PAGES["api.md"], flags=re.MULTILINE)) == sorted(bnas.__all__)
