"""What a search says before it begins."""

import bnas
from bnas.api.advice import EXPERTS_LEVEL, on_experts
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
