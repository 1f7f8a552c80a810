"""The same seed gives the same network: built, stopped or not, whatever it draws, and of no other seed's stages."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnas
from bnas.errors import Stopped
from bnas.seeds import derived, seeded
from bnas.space.recipe import Recipe, Stage

NET = """
import numpy as np
import torch
from torch import nn


class Noisy(nn.Module):
    def forward(self, x):
        return x + np.random.rand() * torch.rand_like(x) if self.training else x


def build():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.2), Noisy(), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(256, 10),
    )


made = build()
"""
TWO_STAGES = Recipe(
    batch=512, stages=(Stage(epochs=1, inputs="real", weights="real"), Stage(epochs=2, mixup=0.3, label_smoothing=0.1))
)


def trained(folder, model: str, name: str, *, seed: int = 0, **more) -> dict[str, Tensor]:
    """Return the weights of a training; its images are turned and stretched, as digits are."""
    call = {"data": "digits", "recipe": TWO_STAGES, "seed": seed, "out": folder / name, "device": "cpu"}
    return bnas.train_model(model, **call | {"progress": False} | more).load().state_dict()


def stopping(after: int):
    count = iter(range(10**6))

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        if next(count) == after:
            raise Stopped("here")

    return progress


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums of several threads may be rounded otherwise from one run to the next."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py"


@pytest.mark.parametrize("attribute", ["build", "made"])
def test_a_users_network_is_the_same_for_the_same_seed_alone(net, tmp_path, attribute) -> None:
    torch.manual_seed(1)
    first = trained(tmp_path, f"{net}:{attribute}", "first")
    torch.manual_seed(2)
    assert same(first, trained(tmp_path, f"{net}:{attribute}", "again"))
    assert not same(first, trained(tmp_path, f"{net}:{attribute}", "other", seed=1))


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_stopped_it_ends_as_if_it_had_not_been(net, tmp_path, after) -> None:
    whole = trained(tmp_path, f"{net}:build", "whole")
    with pytest.raises(Stopped):
        trained(tmp_path, f"{net}:build", "stopped", progress=stopping(after))
    torch.rand(after + 1)  # what is drawn meanwhile is no matter
    assert same(whole, trained(tmp_path, f"{net}:build", "stopped"))


def test_training_leaves_the_callers_random_numbers_alone(net, tmp_path) -> None:
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    expected = torch.rand(1).item(), random.random(), np.random.rand()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    trained(tmp_path, f"{net}:build", "run")
    assert (torch.rand(1).item(), random.random(), np.random.rand()) == expected


def test_no_stage_has_the_seed_of_another() -> None:
    seeds = [derived(seed, "stage", stage) for seed in range(100) for stage in range(5)]
    assert len(set(seeds)) == 500


def test_code_under_a_seed_leaves_no_trace() -> None:
    with seeded(3):
        first = torch.rand(2), random.random(), np.random.rand()
    before = torch.get_rng_state(), random.getstate()
    with seeded(3):
        again = torch.rand(2), random.random(), np.random.rand()
        nn.Linear(3, 3)
    assert torch.equal(first[0], again[0])
    assert first[1:] == again[1:]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
