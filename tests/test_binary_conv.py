from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import naive_sign, per_image_conv
from torch import Tensor, nn

from bnas.binarize import WEIGHT_BINARIZERS, is_annealed, weight_binarizer
from bnas.errors import LookupFailed, SpecError
from bnas.layers.activations import RPReLU, RSign
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.binary_layer import fresh_alpha, set_hardness
from bnas.layers.expert_conv import ExpertConv


def naive(conv: BinaryConv, x: Tensor) -> Tensor:
    if conv.precision == "binary":
        x = naive_sign(x)
    filters = conv.weight
    if conv.alpha is not None:
        scale = conv.weight.detach().abs().mean((1, 2, 3), keepdim=True) if conv.weights == "xnor" else 1
        filters = conv.alpha.view(-1, 1, 1, 1) * scale * naive_sign(conv.weight)
    many = filters.expand(len(x), *filters.shape)
    return per_image_conv(x, many, stride=conv.stride, groups=conv.groups, pad_value=conv.pad_value)


@pytest.mark.parametrize("precision", ["real", "weight", "binary"])
@pytest.mark.parametrize("weights", ["sign", "xnor"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"groups": 3, "stride": 2},
        {"kernel": 1},
        {"kernel": 5, "stride": 2},
        {"kernel": (1, 5)},
        {"kernel": (5, 3), "stride": 2},
    ],
)
def test_equals_the_formula(precision: str, weights: str, settings: dict) -> None:
    torch.manual_seed(0)
    conv = BinaryConv(6, 12, precision=precision, weights=weights, **settings).double()
    for pad_value in (-1, 0, 1) if precision == "binary" else (0,):
        conv.pad_value = pad_value
        results = []
        for way in (conv, lambda x: naive(conv, x)):
            conv.zero_grad()
            x = torch.randn(3, 6, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            y = way(x.requires_grad_())
            y.sin().sum().backward()
            results.append([y, x.grad, *(parameter.grad for parameter in conv.parameters())])
        for actual, expected in zip(*results, strict=True):
            assert torch.allclose(actual, expected, atol=1e-10)


@pytest.mark.parametrize("weights", ["sign", "xnor"])
def test_binarizing_keeps_the_size_of_the_output(weights: str) -> None:
    torch.manual_seed(0)
    conv = BinaryConv(64, 64, weights=weights)
    x = torch.randn(4, 64, 8, 8)
    binary = conv(x)
    conv.real_weights = True
    real = conv(x)
    # Equal mean magnitudes; for normal latents the deviations then differ by sqrt(pi / 2) = 1.25.
    assert real.std().item() == pytest.approx(1.25 * binary.std().item(), rel=0.1)


@pytest.mark.parametrize("weights", WEIGHT_BINARIZERS)
def test_alpha_starts_at_the_latent_magnitude(weights: str) -> None:
    torch.manual_seed(0)
    conv = BinaryConv(8, 16, weights=weights)
    in_use = conv.alpha.view(-1, 1, 1, 1) * conv.binarize_weight(conv.weight).dense()
    assert torch.allclose(in_use.abs().mean((1, 2, 3)), conv.weight.abs().mean((1, 2, 3)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 3), (256, 256, 3)])
def test_latent_weights_start_inside_the_clip(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    into, out, kernel = shape
    assert BinaryConv(into, out, kernel=kernel).weight.abs().max() < 1


def test_real_layer_has_no_alpha() -> None:
    conv = BinaryConv(4, 8, precision="real")
    assert conv.alpha is None
    assert [name for name, _ in conv.named_parameters()] == ["weight"]


def test_padding_is_part_of_the_image() -> None:
    conv = BinaryConv(1, 1, weights="sign", pad_value=-1)
    with torch.no_grad():
        conv.weight.fill_(0.5)
        conv.alpha.fill_(1)
    y = conv(torch.full((1, 1, 3, 3), 0.2))
    assert y[0, 0, 1, 1].item() == 9
    assert y[0, 0, 0, 0].item() == 4 - 5


def test_output_is_half_the_input_rounded_up() -> None:
    assert BinaryConv(2, 2, stride=2)(torch.randn(1, 2, 7, 4)).shape == (1, 2, 4, 2)


@pytest.mark.parametrize(
    "bad",
    [
        {"kernel": 2},
        {"kernel": (1, 4)},
        {"groups": 4},
        {"stride": 0},
        {"precision": "ternary"},
        {"pad_value": 2},
        {"pad_value": 0.5},
    ],
)
def test_impossible_arguments_are_refused(bad: dict) -> None:
    with pytest.raises(SpecError):
        BinaryConv(6, 12, **bad)


OWN = """
import torch
from bnas.binarize import BinaryWeight, clipped_sign

def scaled(weight, signs):
    return BinaryWeight(signs, weight.detach().abs().mean((-3, -2, -1), keepdim=True))

def ternary(weight):
    return scaled(weight, clipped_sign(weight) * (weight.detach().abs() > weight.detach().abs().mean()))

def stuck(weight):
    return scaled(weight, torch.where(weight >= 0, 1.0, -1.0))

def bare(weight):
    return clipped_sign(weight)
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ternary", "weight binarizer ternary: signs must be -1 and 1, one bit each, but some are 0;"),
        ("stuck", "weight binarizer stuck: its result has no gradient, so that no weight would be trained;"),
        ("bare", "weight binarizer bare: must return a BinaryWeight of signs and scale, but returned a Tensor"),
    ],
)
def test_a_users_binarizer_is_looked_at_before_anything_is_trained(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "own_weights.py").write_text(OWN)
    with pytest.raises(SpecError, match=f"^{said}"):
        BinaryConv(6, 12, weights=f"{tmp_path}/own_weights.py:{name}")


@pytest.mark.parametrize("bad", [{"weights": "xnro"}, {"activations": "sing"}])
def test_unknown_binarizer_is_named(bad: dict) -> None:
    with pytest.raises(LookupFailed, match="did you mean"):
        BinaryConv(6, 12, **bad)


def test_description_names_what_it_was_built_from() -> None:
    text = repr(nn.Sequential(BinaryConv(6, 12, stride=2)))
    assert "BinaryConv(6, 12, kernel=3, stride=2, groups=1, precision='binary', weights='xnor'" in text


ANNEALED = [name for name in WEIGHT_BINARIZERS if is_annealed(WEIGHT_BINARIZERS[name])]


@pytest.mark.parametrize("weights", ANNEALED)
@pytest.mark.parametrize("layer", [BinaryConv, ExpertConv])
def test_annealed_weights_are_hard_in_evaluation(layer: type[BinaryConv | ExpertConv], weights: str) -> None:
    torch.manual_seed(0)
    conv = layer(4, 8, weights=weights)
    x = torch.randn(3, 4, 5, 5)
    outputs = []
    for hardness in (0.0, 1.0):
        set_hardness(conv, hardness)
        conv(x).sum().backward()  # learns at any hardness
        outputs.append(conv.eval()(x))
        conv.train()
    assert torch.equal(*outputs)
    assert "hardness" not in conv.state_dict()


def test_group_weights_soften_and_harden_on_request() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(BinaryConv(4, 8, weights="group"), BinaryConv(8, 8))
    x = torch.randn(3, 4, 5, 5)
    hard = model.eval()[0](x)
    model.train()
    gaps = []
    for hardness in (0.2, 0.6, 1.0):
        set_hardness(model, hardness)
        gaps.append((model[0](x) - hard).abs().mean().item())
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.01 * hard.abs().mean().item()


@pytest.mark.parametrize("hardness", [-0.1, 1.1])
def test_hardness_is_a_share(hardness: float) -> None:
    with pytest.raises(SpecError, match="hardness"):
        set_hardness(BinaryConv(4, 8, weights="group"), hardness)


def test_rsign_learns_where_to_cut() -> None:
    layer = RSign(2)
    with torch.no_grad():
        layer.threshold.copy_(torch.tensor([0.5, -0.5]))
    y = layer(torch.zeros(1, 2, 1, 1))
    assert y.flatten().tolist() == [-1, 1]
    y.sum().backward()
    assert layer.threshold.grad.tolist() == [-1, -1]  # -(2 - 2 * 0.5)


def test_rprelu_shifts_before_and_after() -> None:
    layer = RPReLU(1)
    with torch.no_grad():
        layer.before.fill_(1)
        layer.after.fill_(10)
    y = layer(torch.tensor([3.0, -3.0]).view(1, 1, 1, 2))
    assert y.flatten().tolist() == [3 - 1 + 10, 0.25 * (-3 - 1) + 10]


EDGES = {
    "one weight a filter": {"kernel": 1, "groups": 8},
    "groups of one channel": {"groups": 8},
    "one group": {},
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("weights", WEIGHT_BINARIZERS)
@pytest.mark.parametrize("layer", [BinaryConv, ExpertConv, partial(ExpertConv, experts=1)])
def test_half_precision_trains_on_a_cpu(layer: Any, weights: str, edge: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv = layer(8, 8, weights=weights, **EDGES[edge]).to(dtype)
    x = torch.randn(4, 8, 5, 5, dtype=dtype, requires_grad=True)
    y = conv(x)
    y.sum().backward()
    gradients = [x.grad, *(parameter.grad for parameter in conv.parameters() if parameter.grad is not None)]
    assert {y.dtype, *(gradient.dtype for gradient in gradients)} == {dtype}
    assert all(values.isfinite().all() for values in (y, *gradients))
    with torch.no_grad():
        exact = conv.eval()(x.detach())
        wide = conv.float()(x.detach().float())
    # Sums of 72 products of 8 bits each.
    assert (exact.float() - wide).abs().max() <= 0.05 * wide.abs().max()


@pytest.mark.parametrize("weights", WEIGHT_BINARIZERS)
@pytest.mark.parametrize("layer", [BinaryConv, ExpertConv])
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_a_weight_that_is_not_finite_spoils_its_own_channel_only(layer: Any, weights: str, bad: float) -> None:
    torch.manual_seed(0)
    conv = layer(4, 3, weights=weights).double().eval()
    x = torch.randn(5, 4, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        sound = conv(x)
        conv.weight[..., 1, 2, 0, 0] = bad
        broken = conv(x)
    assert torch.equal(broken[:, [0, 2]], sound[:, [0, 2]])
    # A sign is all that these two take of a weight.
    assert weights in ("sign", "group") or not broken[:, 1].isfinite().all()


@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("weights", WEIGHT_BINARIZERS)
def test_a_constant_filter_gets_a_finite_scale(weights: str, value: float) -> None:
    latent = torch.randn(3, 2, 3, 3)
    latent[1] = value
    assert fresh_alpha(latent, weight_binarizer(weights)).isfinite().all()


def test_a_filter_of_zeros_gives_zeros_where_its_scale_is_its_magnitude() -> None:
    conv = BinaryConv(2, 3)
    with torch.no_grad():
        conv.weight[1] = 0
    y = conv(torch.randn(2, 2, 5, 5))
    assert (y[:, 1] == 0).all()
    y.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in conv.parameters())
