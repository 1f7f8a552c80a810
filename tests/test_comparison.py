"""Several searches over each other: fronts, how much each covers, who is ahead at which cost."""

from pathlib import Path
from random import Random

import pytest
from spaces import line_of
from typer.testing import CliRunner

import bnas
from bnas.cli.app import app
from bnas.errors import RunError
from bnas.report.comparison import Point, covered, front, leads, write_comparison
from bnas.runs import Run
from tests.tiny import tiny_space

pytestmark = pytest.mark.draws

A = [Point(10, 0.5), Point(20, 0.7), Point(30, 0.6)]
B = [Point(15, 0.6), Point(40, 0.9)]


def test_a_front_holds_what_nothing_beats_at_its_cost_or_less() -> None:
    assert front(A) == A[:2]
    assert front([Point(10, 0.5), Point(10, 0.6)]) == [Point(10, 0.6)]


def test_what_a_run_covers_is_the_area_under_its_front() -> None:
    assert covered(A, 50) == pytest.approx((0.5 * 10 + 0.7 * 30) / 50)


@pytest.mark.parametrize("seed", range(5))
def test_what_a_run_covers_is_what_counting_finds(seed: int) -> None:
    random = Random(seed)
    points = [Point(random.randrange(1, 100), random.random()) for _ in range(8)]
    under = sum(max((p.accuracy for p in points if p.ops <= at), default=0.0) for at in range(100))
    assert covered(points, 100) == pytest.approx(under / 100)


def test_who_is_ahead_changes_where_another_has_a_better_network() -> None:
    assert leads({"a": A, "b": B}) == [(10, "a", 0.5), (15, "b", 0.6), (20, "a", 0.7), (40, "b", 0.9)]


def test_of_equal_networks_the_first_run_is_ahead() -> None:
    assert leads({"a": A, "b": A}) == [(10, "a", 0.5), (20, "a", 0.7)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("compared")
    for name, budget in (("small", "ops=8k"), ("large", "ops=12k")):
        bnas.search(tiny_space(), budget=[budget], seed=len(name), out=folder / name, progress=False)
    return [folder / "small", folder / "large"]


def test_the_page_names_every_run_and_who_is_ahead(pair, tmp_path) -> None:
    done = CliRunner().invoke(app, ["report", *map(str, pair), "-o", str(tmp_path / "page")])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "page" / "report.html")
    page = (tmp_path / "page" / "report.html").read_text()
    assert "2 searches compared" in page
    assert "hypervolume" in page
    assert all(
        f"<td>{name}</td>" in page.replace('<td class="name">', "<td>") or name in page for name in ("small", "large")
    )


def test_a_folder_for_the_page_goes_with_several_runs_and_only_with_them(pair, tmp_path) -> None:
    assert CliRunner().invoke(app, ["report", *map(str, pair)]).exit_code == 2
    assert CliRunner().invoke(app, ["report", str(pair[0]), "-o", str(tmp_path)]).exit_code == 2


def test_runs_that_cannot_be_compared_are_named(pair, tmp_path) -> None:
    begun = tmp_path / "begun"
    Run.open(begun, config={"data": "digits"}, space_yaml=Run.read(pair[0]).space_yaml)
    with pytest.raises(RunError) as caught:
        write_comparison([Run.read(pair[0]), Run.read(begun)], tmp_path / "page")
    assert "was tested on other images than" in line_of(caught)
    with pytest.raises(RunError, match="a comparison needs two runs or more"):
        write_comparison([Run.read(pair[0])], tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_one_run_given_twice_is_no_comparison(pair, tmp_path) -> None:
    again = pair[0].parent / ".." / pair[0].parent.name / pair[0].name
    with pytest.raises(RunError, match="was given twice; a comparison needs different runs"):
        write_comparison([Run.read(pair[0]), Run.read(again)], tmp_path / "page")


def test_a_run_that_has_not_ended_is_named(pair, tmp_path) -> None:
    begun = tmp_path / "begun"
    config = {**Run.read(pair[0]).config, "seed": 9}
    Run.open(begun, config=config, space_yaml=Run.read(pair[0]).space_yaml)
    with pytest.raises(RunError) as caught:
        write_comparison([Run.read(pair[0]), Run.read(begun)], tmp_path / "page")
    assert "no network was trained alone yet" in line_of(caught)
