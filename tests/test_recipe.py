"""How long a recipe trains, in what batches and on what images: few of them as sensibly as many."""

import itertools
from typing import Any

import pytest
import torch
from spaces import line_of, make_arch, space_data
from torch import nn

import bnas
from bnas.api.subject import recipe_for
from bnas.errors import SpecError
from bnas.space.recipe import FEW_STEPS, Recipe, Stage, batch_for
from bnas.space.settings import SupernetRecipe
from bnas.space.shipped import RECIPES, read_recipe
from bnas.space.space import SearchSpace
from bnas.spec import dump, parse, parse_yaml
from tests import shapes
from tests.tiny import TINY, digits, tiny_space


@pytest.mark.parametrize(
    ("asked", "images", "batch"),
    [
        (None, 60_000, 128),
        (None, 1_280, 128),  # ten steps
        (None, 1_279, 64),
        (None, 432, 32),
        (None, 20, 16),
        (128, 432, 128),  # what is asked for stays
        (8, 60_000, 8),
    ],
)
def test_a_batch_suits_the_number_of_images_unless_it_is_said(asked: int | None, images: int, batch: int) -> None:
    assert batch_for(asked, images) == batch


@pytest.mark.parametrize(
    ("length", "images", "epochs"),
    [
        ({"epochs": 30}, 60_000, 30),
        ({"epochs": 30, "steps": 1000}, 60_000, 30),  # 14,040 steps: longer
        ({"epochs": 30, "steps": 1000}, 432, 77),  # of 13 steps each: 1,001
        ({"steps": 13}, 432, 1),
        ({"steps": 14}, 432, 2),
        ({"steps": 5}, 7, 5),  # fewer images than one batch: an epoch is said to have one step
    ],
)
def test_a_stage_lasts_its_epochs_or_its_steps_whichever_is_longer(length: Any, images: int, epochs: int) -> None:
    resolved = Recipe(stages=(Stage(**length),)).on(images)
    assert [(stage.epochs, stage.steps) for stage in resolved.stages] == [(epochs, 0)]
    assert resolved.on(images) == resolved
    own = {"epochs": 1} | length
    assert SupernetRecipe(**own).on(images).epochs == epochs


def test_a_stage_says_how_long_it_lasts() -> None:
    with pytest.raises(SpecError) as caught:
        parse(Recipe, {"stages": [{"rate": 1e-3}]}, source="r.yaml")
    assert line_of(caught).startswith("r.yaml: stages[0]: nothing says how long it lasts; give epochs, or steps")


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "cifar_group"])
def test_our_recipes_train_few_images_long_enough(name: str) -> None:
    assert "few" not in read_recipe(name).said(432)


def test_a_plan_says_where_it_is_too_short() -> None:
    short = Recipe(stages=(Stage(epochs=10), Stage(epochs=30)), batch=128).said(432)
    assert short.startswith(
        "120 steps of 128 images in 10 + 30 epochs; few: write `steps: 300` or more beside its epochs"
    )
    assert FEW_STEPS == 300


@pytest.mark.parametrize(
    ("written", "names"),
    [("none", ()), ("flip", ("flip",)), (["flip", "shift"], ("flip", "shift")), ([], ()), (None, None)],
)
def test_augmentations_are_written_as_people_do(written: Any, names: Any) -> None:
    space = parse(SearchSpace, space_data(search={"augment": written}), source="s.yaml")
    assert space.search.augment == names
    assert parse(SearchSpace, parse_yaml(dump(space), source="again"), source="again").search.augment == names


def test_an_augmentation_that_there_is_not_is_refused() -> None:
    with pytest.raises(SpecError, match=r"s.yaml: search.augment\[0\]: Input should be 'affine', 'crop', 'cutout'"):
        parse(SearchSpace, space_data(search={"augment": "mirror"}), source="s.yaml")


@pytest.mark.parametrize(
    ("own", "asked", "found"),
    [
        (None, None, ["shift"]),
        (("flip",), None, ["flip"]),
        (("flip",), "none", []),
        (None, "turn,cutout", ["turn", "cutout"]),
    ],
)
def test_training_is_augmented_by_what_is_asked_then_by_the_recipe(own: Any, asked: Any, found: Any, tmp_path) -> None:
    recipe = Recipe(stages=(Stage(epochs=1),), batch=256, augment=own)
    result = bnas.train_model(
        "lenet5", data=digits(), input_shape=(1, 28, 28), recipe=recipe, augment=asked, out=tmp_path, progress=False
    )
    assert result.manifest["augmentation"] == result.run.config["images"]["augmentation"] == found


def test_a_search_keeps_how_long_it_trained_and_its_augmentation(tmp_path, capsys) -> None:
    space = tiny_space(search=parse_yaml(TINY, source="tiny")["search"] | {"augment": "none"})
    own = space.search.model_copy(update={"supernet": SupernetRecipe(epochs=1, steps=30)})
    space = space.model_copy(update={"search": own})
    result = bnas.search(space, data=digits(), out=tmp_path / "run", trials=2, top=1)
    assert (result.space.search.supernet.batch, result.space.search.supernet.epochs) == (128, 3)
    assert result.best.manifest["augmentation"] == []
    plan = capsys.readouterr().err
    assert "plan supernet: 30 steps of 128 images in 3 epochs; few: " in plan
    assert "2 networks trained alone: 15 steps of 256 images in 1 + 2 epochs; few" in plan
    assert bnas.search(space, data=digits(), out=tmp_path / "run", trials=2, top=1, progress=False).run.path


@pytest.mark.slow
def test_a_real_network_learns_600_drawn_shapes_as_a_plain_loop_does(tmp_path) -> None:
    # A plain loop reaches 92 to 95 % in 540 steps; 120 steps of 128 images, flipped and cropped, left 46 %.
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise((3, 32, 64, 128)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if outer < 128 else [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 4)]
    torch.manual_seed(0)
    result = bnas.train_model(
        nn.Sequential(*layers), data=shapes.write(tmp_path / "shapes"), input_shape=(3, 32, 32),
        recipe="straight_through", out=tmp_path / "run", progress=False,
    )  # fmt: skip
    assert result.accuracy > 0.85  # of 120 images; 0.94 was measured


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ({}, "two_stages"),
        ({"stage": {"experts": 4}}, "expert"),
        ({"binarizers": {"weight": "alpha_beta"}}, "two_stages"),
        ({"binarizers": {"weight": "group"}}, "group"),
        ({"binarizers": {"weight": "group"}, "stage": {"experts": 4}}, "group"),
    ],
)
def test_an_architecture_is_trained_as_its_binarizer_and_experts_want(arch: dict[str, Any], name: str) -> None:
    assert recipe_for(make_arch(**arch)) == read_recipe(name)
