"""What a search says before it begins."""

import pytest
import torch

import bnas
from bnas.api.advice import EXPERTS_LEVEL, dtypes_of, has_bfloat16, on_bfloat16, on_experts
from bnas.space.recipe import Recipe, Stage
from bnas.space.settings import Teacher
from tests.tiny import digits, tiny_space


def test_experts_are_doubted_where_the_images_are_few() -> None:
    space = tiny_space()  # offers 1 and 2
    assert on_experts(space, EXPERTS_LEVEL).startswith("hint: up to 2 experts are offered, for 50,000 training images;")
    assert on_experts(space, EXPERTS_LEVEL + 1) == ""
    alone = tuple(stage.model_copy(update={"experts": (1,)}) for stage in space.stages)
    assert on_experts(space.model_copy(update={"stages": alone}), 100) == ""


def test_a_search_says_so_once(tmp_path, capsys) -> None:
    for _ in range(2):  # the second time it is finished
        bnas.search(tiny_space(), data=digits(), out=tmp_path / "run", trials=2, top=1)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hint: ")]
    assert len(said) == 1
    assert "up to 2 experts" in said[0]


CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("has", "slow"),
    [
        ({"avx2": True, "avx512_bf16": False}, True),
        ({"avx512_f": True}, True),
        ({"avx512_bf16": True}, False),
        ({"neon": True, "bf16": True}, False),
        ({"neon": True, "bf16": False}, True),
    ],
)
def test_bfloat16_is_doubted_where_the_processor_has_none(monkeypatch, has: dict[str, bool], slow: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert has_bfloat16() != slow
    assert on_bfloat16({"float32", "bfloat16"}, CPU).startswith("hint: dtype: bfloat16 is asked for") == slow
    assert on_bfloat16({"float32"}, CPU) == ""
    assert on_bfloat16({"bfloat16"}, GPU) == ""


def test_every_training_of_a_search_is_looked_at() -> None:
    settings = tiny_space().search
    short = Recipe(stages=(Stage(epochs=1, dtype="bfloat16"),))
    assert dtypes_of(settings) == {"float32"}
    assert "bfloat16" in dtypes_of(settings.but(supernet=settings.supernet.but(dtype="bfloat16")))
    assert "bfloat16" in dtypes_of(settings.but(retrain=settings.retrain.but(recipe=short)))
    assert "bfloat16" in dtypes_of(settings.but(teacher=Teacher(model="resnet18", recipe=short)))


def test_searches_and_trainings_say_so(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    space = tiny_space()
    settings = space.search.but(supernet=space.search.supernet.but(dtype="bfloat16"))
    bnas.search(space.but(search=settings), data=digits(), out=tmp_path / "run", trials=2, top=1)
    recipe = Recipe(stages=(Stage(epochs=1, dtype="bfloat16"),))
    bnas.train_model(space.largest(), data=digits(), recipe=recipe, out=tmp_path / "alone")
    assert capsys.readouterr().err.count("hint: dtype: bfloat16") == 2
