"""What comes with bnas is found by name wherever it is installed, and its metadata are true."""

import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import bnas
from bnas.api.request import read_space
from bnas.cli.out import KNOWN_DATA
from bnas.data.load import DATA_SETS
from bnas.errors import LookupFailed, SpecError
from bnas.searcher.executors.engine import ENGINES
from bnas.searcher.samplers import SAMPLERS
from bnas.space.shipped import ARCHITECTURES, RECIPES, SPACES, read_recipe, space_file

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
for_index = runpy.run_path(str(ROOT / "hatch_build.py"))["for_index"]


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_found_by_name(name: str) -> None:
    assert read_space(name) == read_space(ROOT / "search_spaces" / f"{name}.yaml")


@pytest.mark.parametrize(
    ("find", "name", "error", "says"),
    [
        (space_file, "digts", LookupFailed, "space 'digts': did you mean 'digits'? give bench, cifar10, cifar10_gpu"),
        (read_recipe, "grup", LookupFailed, "recipe 'grup': did you mean 'group'? give bop"),
        (read_recipe, "none/mine.yaml", SpecError, "none/mine.yaml: no such file; give the path of a YAML file"),
        (read_space, "digits.yaml", SpecError, "digits.yaml: no such file; give the path of a YAML file"),
    ],
)
def test_what_is_no_name_and_no_file_is_said(find, name: str, error: type, says: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(says)):
        find(name)


@pytest.mark.slow
def test_the_wheel_holds_spaces_and_recipes_and_works_alone(tmp_path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("bnas-*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        file.extractall(tmp_path / "installed")
    assert {f"bnas/space/search_spaces/{name}.yaml" for name in SPACES} <= names
    assert {f"bnas/space/architectures/{name}.yaml" for name in ARCHITECTURES} <= names
    assert {f"bnas/space/recipes/{name}.yaml" for name in RECIPES} <= names
    code = (
        "import bnas, bnas.space.shipped as s; print(bnas.__file__); print(s.space_file('digits').read_text(), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    where, _, text = done.stdout.partition("\n")
    assert Path(where).is_relative_to(tmp_path)
    assert text == (ROOT / "search_spaces" / "digits.yaml").read_text()


def test_the_version_is_said_by_the_package_and_its_command() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", bnas.__version__)
    done = subprocess.run([sys.executable, "-m", "bnas", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"bnas {bnas.__version__}\n"


def test_all_that_is_public_is_listed_and_can_be_had() -> None:
    assert {"search", "load_data", "SearchSpace", "__version__"} <= set(dir(bnas))
    assert [name for name in dir(bnas) if not hasattr(bnas, name)] == []


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("bnas sea", {"search"}),
        ("bnas search di", {"digits"}),
        ("bnas search --sampler ns", {"nsga2"}),
        ("bnas train lenet5 --recipe gr", {"group"}),
        ("bnas select lenet5 --data sk", {"sketches"}),
    ],
)
def test_a_shell_completes(typed: str, completed: set[str]) -> None:
    words = typed.split()
    asked = {"_BNAS_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    run = [sys.executable, "-c", "import sys; sys.argv[0] = 'bnas'; from bnas.cli.app import main; main()"]
    done = subprocess.run(run, env=asked | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == completed


def test_what_is_completed_is_what_there_is() -> None:
    from bnas.cli.search import ENGINES_KNOWN, SAMPLERS_KNOWN

    assert set(KNOWN_DATA) == set(DATA_SETS)
    assert set(ENGINES_KNOWN) == set(ENGINES)
    assert set(SAMPLERS_KNOWN) == set(SAMPLERS)


def test_every_lower_bound_is_the_version_that_is_tested() -> None:
    bounds = dict(re.match(r"([\w.-]+)[^>]*>=([\d.]+)", line).groups() for line in PROJECT["dependencies"])
    lines = (ROOT / "requirements.lowest").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert set(bounds) <= set(tested)
    assert [name for name, bound in bounds.items() if not same_version(tested[name], bound)] == []


def same_version(one: str, other: str) -> bool:
    """Whether 2.0 is 2.0.0."""
    a, b = (list(map(int, text.split("."))) for text in (one, other))
    return [*a, 0, 0][:3] == [*b, 0, 0][:3]


def test_an_index_page_links_to_where_the_files_are() -> None:
    page = for_index(README, source="https://example.org/bnas/blob/v1")
    assert "](docs/" not in page
    assert "(https://example.org/bnas/blob/v1/docs/images/pareto.png)" in page
    assert "[docs/trust.md](https://example.org/bnas/blob/v1/docs/trust.md)" in page


def test_an_index_page_without_such_a_place_has_no_broken_link() -> None:
    page = for_index(README)
    assert not re.search(r"\]\((?!https?:|#)", page)
    assert "docs/trust.md" in page
