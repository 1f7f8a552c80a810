"""What is no better than guessing is called that, where it stands."""

import logging

import pytest
import torch

import bnas
from bnas.data import from_arrays
from bnas.data.facts import Guessing
from tests.tiny import tiny_space


def test_guessing_is_the_share_of_the_largest_class() -> None:
    assert Guessing.on(torch.tensor([0, 0, 0, 1])) == Guessing(0.75, 4)


@pytest.mark.parametrize(
    ("accuracy", "beaten"),
    [
        (0.24, False),
        (0.25, False),
        (0.33, False),
        (0.34, True),
        (1.0, True),
    ],  # 0.25 + 2 sqrt(0.25 * 0.75 / 100) = 0.337
)
def test_a_quarter_of_four_classes_is_no_better(accuracy: float, beaten: bool) -> None:
    guessing = Guessing(0.25, 100)
    assert guessing.beaten_by(accuracy) == beaten
    assert (guessing.remark(accuracy) == "") == beaten


def test_a_search_of_noise_says_so(tmp_path, caplog) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (800, 1, 8, 8), generator=generator, dtype=torch.uint8)
    data = from_arrays("noise", noise, torch.arange(800) % 10)
    with caplog.at_level(logging.WARNING):
        found = bnas.search(tiny_space(), data=data, out=tmp_path / "run", trials=3, top=1, progress=False)
    assert "no better than guessing (10." in caplog.text
    assert "no better than guessing" in found.run.report.read_text()
    assert Guessing.known(found.best.manifest) == Guessing(0.1, 160)
