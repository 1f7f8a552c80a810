"""The reference networks: that they are built, run and learn at every precision, as their presets say."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from spaces import line_of
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bnas.api.subject import given
from bnas.cost.totals import Cost, cost
from bnas.cost.trace.trace_model import trace
from bnas.errors import LookupFailed
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.binary_layer import BinaryLinear
from bnas.networks.models import MODELS, build_model
from bnas.networks.models.resnet import PaddedShortcut
from bnas.networks.user_model import load_model

PRESETS = [(name, preset) for name, reference in MODELS.items() for preset in reference.presets]
WEIGHTED = (nn.Conv2d, nn.Linear, BinaryConv, BinaryLinear)
LARGE = ("alexnet", "resnet34", "wrn28_10")
SMALL = ("lenet5", "squeezenet", "sketch_a_net", "resnet20_cifar", "cnv", "tfc", "sfc", "lfc")


def precisions(model: nn.Module) -> dict[str, str]:
    """Return the precision of each convolution and linear layer, in the order of their making."""
    return {
        path: str(getattr(module, "precision", "real"))
        for path, module in model.named_modules()
        if isinstance(module, WEIGHTED)
    }


@cache
def on_meta(name: str, **settings: str) -> nn.Module:
    """Return a network without memory for its weights."""
    with torch.device("meta"):
        return build_model(name, **settings)


@cache
def traced_cost(name: str, preset: str) -> Cost:
    return cost(trace(on_meta(name, precision=preset), MODELS[name].input).layers)


@pytest.mark.parametrize("name", MODELS)
def test_real_macs_and_parameters_are_torchs_own(name: str) -> None:
    model = build_model(name).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model(torch.zeros(1, *MODELS[name].input))
    assert logits.shape == (1, MODELS[name].classes)
    traced = trace(model, MODELS[name].input)
    assert not traced.uncounted
    assert cost(traced.layers).flops == counter.get_total_flops() // 2  # torch counts a MAC as two
    assert cost(traced.layers).bops == 0
    assert cost(traced.layers).parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "preset"), [case for case in PRESETS if case[0] not in LARGE])
def test_a_preset_changes_no_mac(name: str, preset: str) -> None:
    made, real = traced_cost(name, preset), traced_cost(name, "real")
    assert made.macs == real.macs
    assert made.weights == real.weights


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_first_and_last_layer_are_real_but_in_networks_published_with_binary_ends(name: str, preset: str) -> None:
    first, *_, last = precisions(on_meta(name, precision=preset)).values()
    binary = {"cnv": ("weight", "binary")} | dict.fromkeys(("tfc", "sfc", "lfc"), ("binary", "binary"))
    assert (first, last) == (binary.get(name, ("real", "real")) if preset == "binary" else ("real", "real"))


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_a_preset_says_which_layers_are_binary(name: str, preset: str) -> None:
    inner = list(precisions(on_meta(name, precision=preset)).items())[1:-1]
    kept = MODELS[name].presets[preset]
    for path, precision in inner:
        late = any(path.startswith(f"{layer}.") for layer in kept)
        real_input = late or ("shortcut" in path)
        expected = {"real": "real", "weight": "weight"}.get(preset, "weight" if real_input else "binary")
        assert precision == expected, path
    assert all(any(path.startswith(f"{layer}.") for path, _ in inner) for layer in kept)


@pytest.mark.parametrize("preset", ["weight", "binary"])
@pytest.mark.parametrize("last", ["real", "weight", "binary"])
@pytest.mark.parametrize("name", ["squeezenet", "resnet18_cifar", "cnv", "tfc"])
def test_the_last_layer_has_the_precision_asked_for(name: str, last: str, preset: str) -> None:
    assert list(precisions(on_meta(name, precision=preset, last=last)).values())[-1] == last


@pytest.mark.parametrize("name", ["cnv", "tfc"])
@pytest.mark.parametrize(
    ("preset", "last", "relus"), [("binary", "binary", 0), ("binary", "weight", 1), ("real", "real", None)]
)
def test_a_relu_stands_before_real_inputs_alone(name: str, preset: str, last: str, relus: int | None) -> None:
    model = on_meta(name, precision=preset, last=last)
    before_real = relus if relus is not None else len(precisions(model)) - 1
    assert sum(isinstance(module, nn.ReLU) for module in model.modules()) == before_real


@pytest.mark.parametrize("name", ["tfc", "sfc", "lfc"])
def test_the_image_of_a_fully_binary_network_is_its_sign(name: str) -> None:
    torch.manual_seed(0)
    model, digits = build_model(name, precision="binary").eval(), torch.randn(4, 1, 28, 28)
    assert torch.equal(model(digits), model(torch.where(digits >= 0, 1.0, -1.0)))


def test_a_padded_shortcut_takes_every_second_pixel_and_adds_channels_of_zeros() -> None:
    x = torch.randn(2, 4, 5, 7)
    y = PaddedShortcut(4, 10, 2)(x)
    assert y.shape == (2, 10, 3, 4)
    assert torch.equal(y[:, 3:7], F.avg_pool2d(x, 1, 2))
    assert not y[:, :3].any()
    assert not y[:, 7:].any()


@pytest.mark.parametrize(("name", "preset"), [case for case in PRESETS if case[0] in SMALL])
def test_every_parameter_learns(name: str, preset: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, precision=preset, classes=3)
    logits = model(torch.randn(2, *MODELS[name].input))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("look_up", "offered"),
    [
        (build_model, ", wrn28_10"),
        (load_model, ", wrn28_10, or give pkg.mod:attr or file.py:attr"),
        (given, ", an architecture's YAML file, or a folder that holds a network, as RUN/best"),
    ],
)
def test_an_unknown_name_is_answered_with_what_is_taken_there(look_up: Callable[[str], Any], offered: str) -> None:
    with pytest.raises(LookupFailed) as caught:
        look_up("resnet19")
    assert line_of(caught).endswith(offered)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "resnet19"}, "model 'resnet19' is not known; did you mean 'resnet18'"),
        ({"name": "lenet5", "precision": "binary"}, "lenet5: it has no preset 'binary'; choose from real, weight"),
        (
            {"name": "cnv", "first": "binary"},
            "cnv: first: 'binary' is no precision of a first layer; choose from real, w",
        ),
        ({"name": "tfc", "first": "bits"}, "tfc: first: 'bits' is no precision of a first layer; choose from real, w"),
        ({"name": "lenet5", "last": "tiny"}, "lenet5: last: 'tiny' is no precision; choose from real, weight, binary"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(settings: dict[str, str], expected: str) -> None:
    with pytest.raises(LookupFailed) as caught:
        build_model(**settings)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


class TestBinaryLinear:
    """The linear layer of one-bit weights and inputs."""

    def test_equals_the_formula(self) -> None:
        torch.manual_seed(0)
        layer, x = BinaryLinear(6, 4, bias=True), torch.randn(3, 6)
        signs = torch.where(layer.weight >= 0, 1.0, -1.0)
        scale = layer.weight.abs().mean(1)
        assert layer.alpha is not None
        assert layer.bias is not None
        inputs = torch.where(x >= 0, 1.0, -1.0)
        torch.testing.assert_close(layer(x), inputs @ signs.T * scale * layer.alpha + layer.bias)

    def test_real_precision_is_a_plain_linear_layer(self) -> None:
        layer, x = BinaryLinear(6, 4, precision="real"), torch.randn(3, 6)
        torch.testing.assert_close(layer(x), x @ layer.weight.T)

    def test_keeps_dimensions_in_front(self) -> None:
        assert BinaryLinear(6, 4)(torch.randn(2, 5, 6)).shape == (2, 5, 4)


@pytest.mark.parametrize(
    ("name", "maps"),
    [("resnet18_cifar", 4), ("resnet20_cifar", 3), ("vgg_small", 3), ("wrn28_10", 3), ("cnv", 3)],
)
def test_networks_for_small_images_show_what_their_stages_give(name: str, maps: int) -> None:
    logits, found = on_meta(name).with_maps(torch.zeros(2, 3, 32, 32, device="meta"))
    assert logits.shape == (2, 10)
    assert len(found) == maps
    assert all(one.ndim == 4 for one in found)
