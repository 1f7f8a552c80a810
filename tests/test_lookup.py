import math
import random
import sys
from pathlib import Path

import pytest
from spaces import line_of

from bnas.errors import LookupFailed
from bnas.lookup import find, load_reference

TABLE = {"evolution": 1, "random": 2, "tpe": 3}


def test_an_entry_of_the_table_is_found() -> None:
    assert find("random", TABLE, what="sampler") == 2


def test_an_entry_of_the_table_goes_before_a_reference() -> None:
    assert find("math:pi", {"math:pi": 3.0}, what="number") == 3.0


def test_an_unknown_name_is_answered_with_the_nearest_and_all_others() -> None:
    with pytest.raises(LookupFailed) as caught:
        find("evolutoin", TABLE, what="sampler")
    assert line_of(caught) == (
        "sampler 'evolutoin' is not known; did you mean 'evolution'? "
        "choose from evolution, random, tpe, or give pkg.mod:attr or file.py:attr"
    )


def test_a_file_without_what_is_meant_in_it_is_answered_with_how_to_say_it() -> None:
    with pytest.raises(
        LookupFailed, match=r"^sampler 'mine.py': is a file; say which sampler in it, as in mine.py:attr"
    ):
        find("mine.py", TABLE, what="sampler")


def test_a_name_near_to_nothing_gets_no_guess() -> None:
    with pytest.raises(LookupFailed) as caught:
        find("zzz", TABLE, what="sampler")
    assert "did you mean" not in line_of(caught)


def test_a_module_attribute_is_found() -> None:
    assert find("math:sqrt", {}, what="function") is math.sqrt


def test_an_attribute_of_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("answer = 6 * 7\n")
    assert find(f"{tmp_path}/mine.py:answer", {}, what="number") == 42


def test_a_file_is_run_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    file, runs = tmp_path / "mine.py", tmp_path / "runs"
    text = f"open({str(runs)!r}, 'a').write('x')\ndef half(x): return x / 2\n"
    file.write_text(text)
    assert len({find(f"{file}:half", {}, what="function") for _ in range(3)}) == 1
    assert runs.read_text() == "x"
    file.write_text(text.replace("x / 2", "x / 2.0"))
    assert find(f"{file}:half", {}, what="function")(3) == 1.5
    assert runs.read_text() == "xx"


def test_a_file_may_hold_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int = 3\n"
    )
    assert load_reference(f"{tmp_path}/mine.py:Point", what="class")().x == 3


def test_a_file_does_not_hide_a_module_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("answer = 42\n")
    assert load_reference(f"{tmp_path}/random.py:answer", what="number") == 42
    assert sys.modules["random"] is random


@pytest.mark.parametrize("reference", ["math:", ":sqrt", ":"])
def test_a_reference_needs_both_parts(reference: str) -> None:
    with pytest.raises(LookupFailed) as caught:
        find(reference, {}, what="function")
    assert "pkg.mod:attr or file.py:attr, with both parts" in line_of(caught)


@pytest.mark.parametrize("module", ["no_such_module", "a b", ".relative", "/tmp"])
def test_a_module_that_is_not_there_is_named(module: str) -> None:
    with pytest.raises(LookupFailed) as caught:
        find(f"{module}:x", {}, what="sampler")
    assert line_of(caught).startswith(f"sampler: module {module!r} fails to import: ")


def test_a_missing_attribute_is_answered_with_near_ones() -> None:
    with pytest.raises(LookupFailed) as caught:
        find("math:sqrtt", {}, what="function")
    assert line_of(caught) == "function 'math:sqrtt': math has no 'sqrtt'; it has sqrt, isqrt"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LookupFailed) as caught:
        find(f"{tmp_path}/none.py:build", {}, what="model")
    assert line_of(caught).startswith(f"model: {tmp_path}/none.py does not exist; give the path")


def test_a_file_imports_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_it.py").write_text("answer = 42\n")
    (tmp_path / "mine.py").write_text("from beside_it import answer\n")
    assert load_reference(f"{tmp_path}/mine.py:answer", what="number") == 42


def test_a_module_of_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])  # as the program has it
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_this_folder").mkdir()
    (tmp_path / "of_this_folder" / "parts.py").write_text("answer = 42\n")
    assert load_reference("of_this_folder.parts:answer", what="number") == 42


def test_what_lies_beside_a_file_hides_no_installed_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    (tmp_path / "colorsys.py").write_text("")
    (tmp_path / "mine.py").write_text("from colorsys import hsv_to_rgb\n")
    assert load_reference(f"{tmp_path}/mine.py:hsv_to_rgb", what="function")(0, 0, 1) == (1, 1, 1)


@pytest.mark.parametrize(("code", "said"), [("0", "0"), ("", "None"), ("'enough'", "'enough'")])
def test_a_file_that_ends_python_is_an_error(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "leaves.py").write_text(f"import sys\nsys.exit({code})\n")
    with pytest.raises(LookupFailed) as caught:
        find(f"{tmp_path}/leaves.py:build", {}, what="model")
    assert f"its code ends Python, with sys.exit({said}); take that out" in line_of(caught)


@pytest.mark.parametrize("text", ["raise ValueError('two\\nlines')", "x = (", "import no_such_module", "1 / 0"])
def test_a_file_that_fails_says_why_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(LookupFailed) as caught:
        find(f"{tmp_path}/broken.py:build", {}, what="model")
    assert "broken.py fails to import: " in line_of(caught)
