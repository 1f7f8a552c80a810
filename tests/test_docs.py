"""The pages of docs/ are true: their blocks run in order, in one folder, and what they name is there."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
RUN = ("extending.md",)  # pages whose blocks need no more than this machine
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
PATH = re.compile(r"`((?:bnas|docs|benchmarks|search_spaces|tests)/[\w/]+(?:\.\w+)?)/?`")


@pytest.mark.parametrize("page", RUN)
def test_every_block_runs(page: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {}
    for language, title, text in FENCE.findall((DOCS / page).read_text(encoding="utf-8")):
        if title:
            Path(title).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, page, "exec"), names)


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_file_that_is_named_is_there(page: str) -> None:
    named = PATH.findall((DOCS / page).read_text(encoding="utf-8"))
    assert [name for name in named if not (DOCS.parent / name).exists()] == []
