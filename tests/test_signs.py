"""Whether a norm must stand before a sign is decided by the values there; a layer whose signs are constant is blind."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from users_models import NormThatActivates, activating

from bnas.api.selecting import review, select_layers
from bnas.api.selecting_by_name import select_model
from bnas.layers.binarized import binarize_
from bnas.select import Decision, Decisions
from bnas.select.conversion import convert, survey
from bnas.select.conversion.suitable import Signs
from bnas.train.blindness import warn_of_blind_layers

IMAGES = 1 + torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def filled(norm: nn.Module, *, weight: float = 1.0, bias: float = 0.0, seen: bool = False) -> nn.Module:
    """A norm with these values in every channel, which has seen images or not."""
    with torch.no_grad():
        norm.weight.fill_(weight)  # type: ignore[union-attr, operator]
        norm.bias.fill_(bias)  # type: ignore[union-attr, operator]
    if seen:
        norm.train()(3 + 2 * torch.randn(64, 8, 6, 6))
    return norm


class GroupNormThatActivates(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class OwnNorm(nn.BatchNorm2d):
    """A subclass that computes the same."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def split(channels: int = 8) -> nn.Module:
    """Half of its channels lie far above zero, half far below: both signs, and none that changes."""
    norm = filled(nn.BatchNorm2d(channels))
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([9.0, -9.0]).repeat(channels // 2))  # type: ignore[union-attr, operator]
    return norm


# What stands before the second convolution -> whether a norm is needed before its sign.
BEFORE: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "nothing": (nn.Identity, True),
    "a norm": (lambda: nn.BatchNorm2d(8), False),
    "a norm that has seen other images": (lambda: filled(nn.BatchNorm2d(8), seen=True), False),
    "a norm and an activation": (lambda: nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()), True),
    "a norm and an activation in place": (lambda: nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(inplace=True)), True),
    "a norm that activates": (lambda: NormThatActivates(8), True),
    "a norm that activates by a sigmoid": (lambda: NormThatActivates(8, nn.Sigmoid()), True),
    "a norm that activates by ReLU6": (lambda: NormThatActivates(8, nn.ReLU6(inplace=True)), True),
    "a group norm that activates": (lambda: GroupNormThatActivates(2, 8), True),
    # Their signs are those of the norm.
    "a norm that activates by SiLU": (lambda: NormThatActivates(8, nn.SiLU()), False),
    "a norm that activates by PReLU": (lambda: NormThatActivates(8, nn.PReLU()), False),
    "a subclass that computes the same": (lambda: OwnNorm(8), False),
    "a norm far from zero": (lambda: filled(nn.BatchNorm2d(8), bias=5), True),
    "a norm whose channels are far on both sides": (split, True),
    "a norm that is a little off": (lambda: filled(nn.BatchNorm2d(8), bias=0.5), False),
}


def behind(before: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), before, nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip


@pytest.mark.parametrize("kind", BEFORE)
def test_a_norm_is_put_where_the_values_lack_one(kind: str) -> None:
    torch.manual_seed(0)
    make, needed = BEFORE[kind]
    model = behind(make())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (layer,) = (layer for layer in survey(model, [IMAGES]).layers if layer.name == "2")
    assert layer.needs_norm == needed
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kind", BEFORE)
def test_no_selection_is_blind_whatever_stands_there(kind: str) -> None:
    torch.manual_seed(0)
    model = behind(BEFORE[kind][0]())
    made = select_layers(model, [IMAGES], keep=())
    assert made.precision("2") == "binary"
    assert made.blind == ()
    assert warn_of_blind_layers(convert(model, made), IMAGES) == []


@pytest.mark.parametrize("kind", ["a norm that activates", "a norm and an activation"])
def test_without_values_the_kind_of_a_norm_decides(kind: str) -> None:
    with torch.device("meta"):
        found = survey(behind(BEFORE[kind][0]()), [torch.zeros(2, 3, 8, 8)])
    layers = {layer.name: layer for layer in found.layers}
    assert layers["2"].needs_norm


def test_a_blind_layer_is_named_when_it_is_selected_and_when_training_begins(caplog: pytest.LogCaptureFixture) -> None:
    model = activating()
    decisions = Decisions(layers={"4": Decision(precision="binary", norm=False), "2": Decision(precision="binary")})
    with pytest.warns(UserWarning, match="layer '4': its binary input is the same for every image, so that it sees"):
        made = review(model, [IMAGES], decisions)
    assert made.blind == ("4",)
    assert {row["layer"]: row["constant_signs"] for row in made.rows()}["4"] == 1
    with caplog.at_level(logging.WARNING):
        assert warn_of_blind_layers(convert(model, made), IMAGES) == ["4"]
    assert "4: its binary input is the same for every image" in caplog.text


def test_looking_for_blind_layers_leaves_the_network_and_random_numbers_as_they_are() -> None:
    network = nn.Sequential(nn.Dropout(), binarize_(nn.Linear(6, 4), precision="binary")).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    assert warn_of_blind_layers(network, torch.randn(32, 6, generator=torch.Generator())) == []
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_signs_are_counted_over_all_batches() -> None:
    signs = Signs(1)
    for sign in (1.0, -1.0):
        signs.add(torch.cat([torch.ones(4, 1, 3, 3), torch.full((4, 1, 3, 3), sign)], 1))
    assert signs.constant == 0.5  # of two channels the first is always positive
    assert not signs.is_one_sided


@pytest.mark.slow
def test_a_network_of_norms_that_activate_learns(tmp_path: Path) -> None:
    """Every input of its binary layers was +1, and it got one of ten digits right."""
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\n"
        "class NormAct(nn.BatchNorm2d):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x).relu_()\n\n\n"
        "def build():\n"
        "    widths = [(1, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2)]\n"
        "    parts = [(nn.Conv2d(i, o, 3, s, 1, bias=False), NormAct(o)) for i, o, s in widths]\n"
        "    layers = [layer for part in parts for layer in part]\n"
        "    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))\n"
    )

    def every_input_binary(model: nn.Module, batches: object) -> object:
        return select_layers(model, batches, ratio=0)  # type: ignore[arg-type]

    with pytest.warns(UserWarning, match="it is not trained"):
        result = select_model(
            f"{tmp_path / 'mine.py'}:build", every_input_binary, data="digits", out=tmp_path / "d", finetune=6  # type: ignore[arg-type]
        )  # fmt: skip
    selected = result.networks[-1]
    assert selected["network"] == "selected"
    assert selected["finetuned_test"] > 0.6  # guessing is 0.1
