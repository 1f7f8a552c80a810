"""`bnas init`: whatever the images, a space that reads back, with networks on either side of the budget."""

import json
import math
import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapes import write
from spaces import line_of
from typer.testing import CliRunner

import bnas
from bnas.api import first_space
from bnas.api.first_remarks import on_choices, on_search, written
from bnas.api.first_space import settings_for, share_held_out
from bnas.api.pace import Pace, Plan
from bnas.cli.app import app
from bnas.cost.budget import Budget
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import Glance, glance_at
from bnas.errors import BnasError, BudgetError, DataError, LookupFailed, SpecError
from bnas.searcher.feasible import sample_within
from bnas.searcher.proposal import LARGEST_SIDE, SIDES, Seen, proposed, sensible_size
from bnas.space.commented import commented
from bnas.space.deploy import deployable
from bnas.space.space import SearchSpace
from bnas.space.targets import TARGETS
from bnas.spec import parse, parse_yaml

PACE = Pace(supernet_step=0.01, score=0.02, alone_step=0.008)
SHAPES = st.tuples(st.sampled_from([1, 3]), st.integers(8, 224), st.integers(8, 224))


@pytest.fixture
def paced(monkeypatch) -> None:
    """A machine whose pace is known."""
    monkeypatch.setattr(first_space, "pace_of", lambda request, data: PACE)


def arrays(images: int = 40, classes: int = 2, *, shape=(1, 8, 8)) -> tuple[np.ndarray, np.ndarray]:
    """Return images of noise, as many of each class."""
    return (np.random.default_rng(0).integers(0, 256, (images, *shape), dtype=np.uint8), np.arange(images) % classes)


def space_of(text: str) -> SearchSpace:
    return parse(SearchSpace, parse_yaml(text, source="text"), source="text")


@given(
    shape=SHAPES,
    mixed=st.booleans(),
    classes=st.integers(2, 345),
    images=st.integers(40, 100_000),
    share=st.none() | st.floats(-1, 2),
    deploy=st.sampled_from([None, *TARGETS]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_images_there_are_networks_on_either_side(shape, mixed, classes, images, share, deploy) -> None:
    shapes = (shape, (shape[0], *(side // 2 + 4 for side in shape[1:]))) if mixed else (shape,)
    glance = Glance(shapes, tuple(map(str, range(classes))), images, mixed, None)
    seen = Seen(shape[0], sensible_size([s[1:] for s in shapes]), classes)
    usual = proposed(seen, Budget(), deploy=deploy)
    made = usual
    if share is not None:  # from a tenth of what is usual to a hundred times as much
        ops = dict(usual.budget.limits)["ops"].at_most * 10**share
        made = proposed(seen, Budget.parse({"ops": f"{ops:.0f}"}), deploy=deploy)
    remarks = on_choices(made, glance) | on_search(made, glance, usual.space.search, images, Plan(1, 2, 3))
    space = space_of(written(made, settings_for(made, glance), remarks, lead="images"))
    assert deployable(space).space.model_copy(update={"search": made.space.search}) == made.space
    budget = Budget.parse(space.search.budget)
    assert budget == made.budget
    inside = sample_within(made.space, budget, Random(0))
    assert budget.admits(cost(plan(made.space.architecture(inside))))
    (low, high), limit = made.ends["ops"], dict(budget.limits)["ops"].at_most
    assert low <= limit / 1.25 or share is not None
    assert high >= limit
    assert max(space.input[1:]) <= max(LARGEST_SIDE, *shape[1:])
    assert (space.input[0], space.classes) == (shape[0], classes)


def test_a_target_that_takes_some_max_poolings_has_convolutions_stride_elsewhere() -> None:
    stages = proposed(Seen(3, (40, 40), 4), Budget(), deploy="finn").space.stages  # maps of 20, 10 and 5
    assert [stage.downsample for stage in stages] == [("max_pool",), ("max_pool",), ("conv",)]
    stages = proposed(Seen(3, (40, 40), 4), Budget(), deploy="packed").space.stages
    assert {stage.downsample for stage in stages} == {("max_pool",)}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(8, 8)], (8, 8)),
        ([(28, 28)], (28, 28)),
        ([(32, 32)] * 3, (32, 32)),
        ([(96, 96)], (48, 48)),
        ([(224, 224)], (48, 48)),  # a fifth is 44.8
        ([(225, 225)], (45, 45)),  # a fifth
        ([(120, 60)], (40, 20)),
        ([(40, 120), (120, 40), (80, 80)], (40, 40)),
        ([(20, 24), (22, 28)], (24, 24)),
    ],
)
def test_the_size_is_one_that_a_person_would_take(sizes, expected) -> None:
    assert sensible_size(sizes) == expected


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=9))
def test_no_size_is_larger_than_the_largest(sizes) -> None:
    height, width = sensible_size(sizes)
    assert 1 <= height <= LARGEST_SIDE
    assert 1 <= width <= LARGEST_SIDE


def test_a_small_budget_makes_images_smaller_unless_their_size_was_said() -> None:
    seen, tight = Seen(3, (48, 48), 4), Budget.parse({"ops": "30k"})
    assert proposed(seen, tight).space.input[1] in SIDES
    with pytest.raises(BudgetError) as caught:
        proposed(seen, tight, sides=())
    assert "the smallest tried, for images of 48 x 48, needs ops " in line_of(caught)


@pytest.mark.parametrize("items", [["bytes=20k"], ["ops=2M", "bytes=30k"], ["ops=1M..3M"], ["activation_bytes=200k"]])
def test_limits_of_other_quantities_are_kept(items) -> None:
    made = proposed(Seen(3, (32, 32), 10), Budget.parse(items))
    assert set(made.ends) == set(dict(made.budget.limits))
    sample_within(made.space, made.budget, Random(0))


@pytest.mark.parametrize(("images", "share"), [(40, 0.25), (480, 0.25), (800, 0.15), (1200, 0.1), (100_000, 0.1)])
def test_few_images_hold_out_a_larger_share(images: int, share: float) -> None:
    assert share_held_out(images) == share


def test_remarks_stand_above_what_they_are_on() -> None:
    values = {"a": 1, "b": {"c": [1, 2], "d": {"e": "x"}}, "f": [{"g": 1}, {"g": [2]}]}
    text = commented(values, {"a": "One.\nTwo.", "b.d": "Three."})
    assert text == "# One.\n# Two.\na: 1\n\nb:\n  c: [1, 2]\n  # Three.\n  d: {e: x}\n\nf:\n  - {g: 1}\n  - {g: [2]}\n"
    assert parse_yaml(text, source="") == values


@pytest.mark.parametrize("minutes", [None, 0.2, 20])
def test_what_is_written_is_what_is_given_back_and_fits_the_minutes(minutes, paced, tmp_path) -> None:
    out = tmp_path / "new" / "space.yaml"
    space = bnas.init(arrays(80, 4), minutes=minutes, out=out, progress=False)
    assert SearchSpace.read(out) == space
    assert (space.input, space.classes, space.search.augment) == ((1, 8, 8), 4, ("shift",))
    if minutes is None:
        assert space.search.supernet.steps
    else:
        assert not space.search.supernet.steps
        assert space.search.retrain.recipe.epochs < 6000  # some times as long as usual, however many minutes
    bnas.init(arrays(80, 4), minutes=minutes, progress=False)  # and writes nothing
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_images_of_several_sizes_are_brought_to_one_in_the_middle(paced, tmp_path, capsys) -> None:
    folder = write(tmp_path / "shapes", 60)
    space = bnas.init(str(folder))
    assert space.input[0] == 3
    assert 32 <= space.input[1] <= 48
    said = capsys.readouterr().err
    assert "4 classes: circle, cross, square, triangle" in said
    assert "a search of it takes about " in said


def test_a_known_set_keeps_its_augmentation(paced) -> None:
    space = bnas.init("digits", progress=False)
    assert space.search.augment == ("affine",)
    assert space.input == (1, 8, 8)


def test_the_command_says_what_it_wrote(paced, tmp_path) -> None:
    folder, out = write(tmp_path / "shapes", 40), tmp_path / "space.yaml"
    words = ["init", "--data", str(folder), "--size", "16", "--deploy", "finn", "-o", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"next: bnas search {out} --data {folder}" in done.output
    assert done.output.count("a search of it takes about") <= 1  # said once, by whoever shows what is said
    space = SearchSpace.read(out)
    assert (space.input, space.deploy) == ((3, 16, 16), "finn")
    out.unlink()
    said = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert said["networks"] == space.size
    assert said["minutes"] > 0


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"data": "nothing"}, DataError, "data set 'nothing' is not known"),
        ({"data": arrays(40, 1)}, DataError, "images are of one class"),
        (
            {"budget": ["ops=10"]},
            BudgetError,
            "budget ops <= 10: no space that would be written has a network that fits",
        ),
        ({"budget": ["op=1M"]}, SpecError, "op"),
        ({"budget": ["latency_ms=2"]}, SpecError, "measure with bnas latency-table"),
        ({"minutes": -1}, SpecError, "minutes: a positive number is needed"),
        ({"minutes": 1e-4}, SpecError, "are too few here"),
        ({"deploy": "toaster"}, LookupFailed, "deployment target"),
        ({"size": (0, 8)}, SpecError, "input"),
        ({"out": __file__}, SpecError, "is there already; give another file, or remove it"),
        ({"out": "/dev/null/space.yaml"}, BnasError, "/dev/null"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(how, error, says: str, paced) -> None:
    with pytest.raises(error) as caught:
        bnas.init(**({"data": arrays()} | how), progress=False)
    assert says in line_of(caught)


@pytest.mark.parametrize("size", ["0", "x", "8x", "8x8x8", "3 4", "12345"])
def test_what_is_no_size_is_said(size: str) -> None:
    done = CliRunner().invoke(app, ["init", "--data", "digits", "--size", size])
    assert done.exit_code
    assert "is no height and width of images" in str(done.exception)


def test_a_glance_agrees_with_what_is_loaded(tmp_path) -> None:
    for kind, shade in (("a", 0), ("b", 255)):
        for part, count in (("train", 12), ("val", 3), ("test", 4)):
            (tmp_path / part / kind).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (9, 8 + number % 2), shade).save(tmp_path / part / kind / f"{number}.png")
    seen = glance_at(str(tmp_path))
    data = bnas.load_data(str(tmp_path), input_shape=(1, 8, 8))
    assert (seen.class_names, seen.training, seen.has_validation) == (data.class_names, len(data.train), True)
    assert set(seen.shapes) == {(1, 8, 9), (1, 9, 9)}
    ragged = [np.zeros((8, 9), np.uint8), np.zeros((9, 9), np.uint8)] * 4
    assert glance_at((ragged, [0, 0, 1, 1] * 2)).shapes == ((1, 8, 9), (1, 9, 9)) * 4
    assert glance_at(data) == (((1, 8, 9),), data.class_names, 24, True, data.augmentation)
    assert math.isclose(share_held_out(seen.training), 0.25)


def test_a_remark_names_pages_that_are_there() -> None:
    pages = Path(__file__).parents[1] / "docs"
    text = Path(first_space.__file__).with_name("first_remarks.py").read_text()
    named = set(re.findall(r"docs/\w+\.md", text))
    assert named
    assert [page for page in named if not (pages.parent / page).is_file()] == []
