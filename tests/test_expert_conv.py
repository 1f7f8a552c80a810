import math

import pytest
import torch
from reference import naive_expert_conv, naive_sign
from torch import Tensor

from bnas.binarize import BinaryWeight
from bnas.errors import SpecError
from bnas.layers import chosen_conv
from bnas.layers.expert_conv import ExpertConv

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # relative to the largest number compared


@pytest.fixture(params=["all at once", "by expert"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of convolving, whatever the shape."""
    for limit in ("NARROW", "NARROWER"):
        monkeypatch.setattr(chosen_conv, limit, 2**20 if request.param == "all at once" else 0)
    return request.param


def assert_close(actual: Tensor | None, expected: Tensor | None, dtype: torch.dtype) -> None:
    assert actual is not None
    assert expected is not None
    assert actual.shape == expected.shape
    size = max(expected.abs().max().item(), 1e-3)
    assert (actual - expected).abs().max().item() <= TOLERANCE[dtype] * size


def spread_gate(conv: ExpertConv) -> ExpertConv:
    """Make the gate's logits large, so that every expert wins some images; move some latent weights beyond the clip."""
    with torch.no_grad():
        conv.gate.weight.mul_(30)
        conv.weight.mul_(8)
    return conv


def naive(conv: ExpertConv, x: Tensor) -> Tensor:
    def binarize(theta: Tensor) -> BinaryWeight:
        made = conv.binarize_weight(theta)
        return made._replace(sign=naive_sign(theta)) if conv.weights in ("sign", "xnor") else made

    return naive_expert_conv(
        x,
        conv.weight,
        conv.alpha,
        conv.gate.weight,
        conv.gate.bias,
        binarize_weight=None if conv.precision == "real" else binarize,
        binarize_input=naive_sign if conv.precision == "binary" else None,
        stride=conv.stride,
        groups=conv.groups,
        pad_value=conv.pad_value,
    )


def values_and_gradients(conv: ExpertConv, x: Tensor, way) -> list[Tensor | None]:
    conv.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    y = way(x)
    mix = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y).sin()
    (y * mix).sum().backward()
    return [y.detach(), x.grad, conv.weight.grad, conv.gate.weight.grad, conv.gate.bias.grad] + (
        [] if conv.alpha is None else [conv.alpha.grad]
    )


CASES = {
    "plain": {},
    "groups": {"groups": 2},
    "depthwise": {"groups": 6, "out": 6},
    "stride": {"stride": 2},
    "stride and groups": {"stride": 2, "groups": 3},
    "pad with +1": {"pad_value": 1},
    "pad with -1, stride": {"pad_value": -1, "stride": 2},
    "pointwise": {"kernel": 1},
    "kernel 5": {"kernel": 5, "pad_value": 1},
    "a row": {"kernel": (1, 5), "pad_value": -1},
    "a column and stride": {"kernel": (7, 3), "stride": 2, "pad_value": 1},
    "a row and stride 3": {"kernel": (1, 3), "stride": 3},
    "sign weights": {"weights": "sign"},
    "real input": {"precision": "weight"},
    "real": {"precision": "real"},
    "eight experts": {"experts": 8},
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
@pytest.mark.parametrize("case", CASES)
def test_equals_per_image_autograd(case: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    settings = dict(CASES[case])
    conv = spread_gate(ExpertConv(6, settings.pop("out", 12), **settings)).to(dtype)
    x = torch.randn(24, 6, *size, dtype=dtype)
    assert len(conv.expert_of(x).unique()) > 2
    for actual, expected in zip(
        values_and_gradients(conv, x, conv), values_and_gradients(conv, x, lambda x: naive(conv, x)), strict=True
    ):
        assert_close(actual, expected, dtype)


def mean_and_sign(theta: Tensor) -> BinaryWeight:
    """A binarizer whose gradient mixes the weights of a filter: nothing elementwise about it."""
    offset = theta.mean((-3, -2, -1), keepdim=True)
    scale = (theta - offset).square().mean((-3, -2, -1), keepdim=True).sqrt()
    return BinaryWeight(naive_sign(theta), scale, offset)


@pytest.mark.usefixtures("way")
def test_any_weight_binarizer_gets_the_exact_gate_gradient() -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12, weights=f"{__name__}:mean_and_sign", groups=2)).double()
    x = torch.randn(24, 6, 7, 5, dtype=torch.float64)
    for actual, expected in zip(
        values_and_gradients(conv, x, conv), values_and_gradients(conv, x, lambda x: naive(conv, x)), strict=True
    ):
        assert_close(actual, expected, torch.float64)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("weights", ["alpha_beta", "group", "irnet"])
def test_other_binarizers_get_the_exact_gate_gradient_too(weights: str) -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12, weights=weights, stride=2)).double()
    x = torch.randn(24, 6, 7, 5, dtype=torch.float64)
    annealed = conv.binarizer()
    per_image = naive_expert_conv(
        x.requires_grad_(),
        conv.weight,
        conv.alpha,
        conv.gate.weight,
        conv.gate.bias,
        binarize_weight=annealed,
        binarize_input=naive_sign,
        stride=2,
        groups=1,
        pad_value=0,
    )
    results = []
    for y in (conv(x), per_image):
        results.append([y, *torch.autograd.grad(y.sin().sum(), [x, *conv.parameters()])])
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected, torch.float64)


@pytest.mark.usefixtures("way")
def test_compiled_equals_eager() -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12))
    x = torch.randn(24, 6, 7, 5)
    eager = values_and_gradients(conv, x, conv)
    compiled = values_and_gradients(conv, x, torch.compile(conv, backend="aot_eager"))
    for actual, expected in zip(compiled, eager, strict=True):
        assert_close(actual, expected, torch.float32)


def test_images_are_taken_in_turns_where_room_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12))
    x = torch.randn(24, 6, 7, 5)
    assert chosen_conv.all_at_once(x, conv.weight, learning=True)
    at_once = values_and_gradients(conv, x, conv)
    monkeypatch.setattr(chosen_conv, "ROOM", 2 * conv.weight[0].numel())  # two images
    assert not chosen_conv.all_at_once(x, conv.weight, learning=True)
    for actual, expected in zip(values_and_gradients(conv, x, conv), at_once, strict=True):
        assert_close(actual, expected, torch.float32)


@pytest.mark.usefixtures("way")
def test_memory_format_of_the_input_is_kept() -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12))
    x = torch.randn(24, 6, 7, 5)
    last = x.to(memory_format=torch.channels_last)
    assert conv(last).is_contiguous(memory_format=torch.channels_last)
    for actual, expected in zip(
        values_and_gradients(conv, last, conv), values_and_gradients(conv, x, conv), strict=True
    ):
        assert_close(actual, expected, torch.float32)


@pytest.mark.usefixtures("way")
def test_empty_batch_gives_an_empty_batch() -> None:
    conv = ExpertConv(6, 12, stride=2)
    assert conv(torch.empty(0, 6, 7, 5)).shape == (0, 12, 4, 3)
    assert conv.eval()(torch.empty(0, 6, 7, 5)).shape == (0, 12, 4, 3)
    assert conv.usage.tolist() == [0.25] * 4


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("images", [1, 24])
def test_evaluation_equals_training_output(images: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12, pad_value=1, stride=2, groups=groups))
    x = torch.randn(images, 6, 7, 5)
    trained = conv(x)
    with torch.no_grad():
        evaluated = conv.eval()(x)
    assert_close(evaluated, trained, torch.float32)  # the two ways add in another order
    assert evaluated.is_contiguous()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("settings", [{}, {"precision": "weight"}, {"groups": 2, "weights": "alpha_beta"}])
def test_images_evaluated_one_by_one_give_what_they_give_together(settings: dict) -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12, **settings)).double().eval()
    x = torch.randn(24, 6, 7, 5, dtype=torch.float64)
    with torch.no_grad():
        assert_close(torch.cat([conv(image[None]) for image in x]), conv(x), torch.float64)


@pytest.mark.usefixtures("way")
def test_only_the_winner_gets_a_weight_gradient() -> None:
    conv = ExpertConv(4, 4)
    with torch.no_grad():
        conv.gate.bias.copy_(torch.tensor([0.0, 0.0, 100.0, 0.0]))
    conv(torch.randn(5, 4, 6, 6)).square().sum().backward()
    used = conv.weight.grad.abs().sum((1, 2, 3, 4)) > 0
    assert used.tolist() == [False, False, True, False]


def test_gate_sees_the_real_input() -> None:
    conv = ExpertConv(1, 4, experts=2)
    with torch.no_grad():
        conv.gate.weight.copy_(torch.tensor([[0.0], [1.0]]))
        conv.gate.bias.copy_(torch.tensor([0.0, -2.0]))
    small, large = torch.full((1, 1, 4, 4), 1.5), torch.full((1, 1, 4, 4), 2.5)  # equal signs
    assert conv.expert_of(torch.cat([small, large])).tolist() == [0, 1]


def test_one_expert_is_a_plain_binary_conv_with_a_still_gate() -> None:
    conv = ExpertConv(4, 8, experts=1)
    conv(torch.randn(3, 4, 5, 5)).sum().backward()
    assert conv.weight.grad.abs().sum() > 0
    assert conv.gate.weight.grad is None


@pytest.mark.usefixtures("way")
def test_gate_learns_while_the_weights_are_frozen() -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12))
    x = torch.randn(24, 6, 7, 5)
    free = values_and_gradients(conv, x, conv)
    conv.weight.requires_grad_(False)
    frozen = values_and_gradients(conv, x, conv)
    assert frozen[2] is None
    assert torch.equal(free[3], frozen[3])


@pytest.mark.usefixtures("way")
def test_parameters_can_be_swapped_by_views() -> None:
    torch.manual_seed(0)
    wide = spread_gate(ExpertConv(8, 16))
    narrow = ExpertConv(6, 12)
    x = torch.randn(24, 6, 7, 5)
    views = {
        "weight": wide.weight[:, :12, :6],
        "alpha": wide.alpha[:12],
        "gate.weight": wide.gate.weight[:, :6],
        "gate.bias": wide.gate.bias,
    }
    y = torch.func.functional_call(narrow, views, (x,))
    y.square().sum().backward()
    copies = {name: view.detach().clone() for name, view in views.items()}
    narrow.load_state_dict(copies)
    alone = narrow(x)
    alone.square().sum().backward()
    assert torch.equal(y, alone)
    assert torch.allclose(wide.weight.grad[:, :12, :6], narrow.weight.grad)
    assert torch.allclose(wide.gate.weight.grad[:, :6], narrow.gate.weight.grad)
    assert wide.weight.grad[:, 12:].abs().sum() == 0


@pytest.mark.usefixtures("way")
def test_real_weights_give_the_gate_its_gradient_too() -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12)).double()
    conv.real_weights = True
    x = torch.randn(24, 6, 7, 5, dtype=torch.float64)
    # xnor keeps a filter's mean magnitude, so the factor to it is 1 and real weights are the latent ones.
    real = lambda x: naive_expert_conv(  # noqa: E731
        x,
        conv.weight,
        conv.alpha,
        conv.gate.weight,
        conv.gate.bias,
        binarize_weight=None,
        binarize_input=naive_sign,
        stride=1,
        groups=1,
        pad_value=0,
    )
    for actual, expected in zip(values_and_gradients(conv, x, conv), values_and_gradients(conv, x, real), strict=True):
        assert_close(actual, expected, torch.float64)


def test_usage_follows_the_training_batches_only() -> None:
    conv = ExpertConv(4, 4)
    assert conv.usage_entropy().item() == pytest.approx(math.log2(4))
    with torch.no_grad():
        conv.gate.bias.copy_(torch.tensor([0.0, 0.0, 100.0, 0.0]))
        conv.eval()(torch.randn(5, 4, 6, 6))
        assert conv.usage.tolist() == [0.25] * 4
        conv.train()(torch.randn(5, 4, 6, 6))
        assert conv.usage.tolist() == [0.25] * 4
    for _ in range(400):  # 0.98 ** 400 is 0.0003
        conv(torch.randn(2, 4, 2, 2))
    assert conv.usage[2].item() > 0.999
    assert conv.usage_entropy().item() < 0.01
    assert "usage" not in conv.state_dict()


@pytest.mark.usefixtures("way")
def test_autocast_computes_in_bfloat16() -> None:
    torch.manual_seed(0)
    conv = spread_gate(ExpertConv(6, 12))
    x = torch.randn(24, 6, 7, 5)
    exact = values_and_gradients(conv, x, conv)

    def autocast(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = conv(x)
        assert y.dtype == torch.bfloat16
        return y

    half = values_and_gradients(conv, x, autocast)
    for actual, expected in zip(half, exact, strict=True):
        assert (actual - expected).abs().max() < 0.05 * expected.abs().max()  # bfloat16 keeps 8 bits


@pytest.mark.parametrize("bad", [{"experts": 0}, {"kernel": 2}, {"groups": 4}, {"pad_value": 2}, {"precision": "tiny"}])
def test_impossible_arguments_are_refused(bad: dict) -> None:
    with pytest.raises(SpecError):
        ExpertConv(6, 12, **bad)


def test_pad_value_is_for_binary_inputs() -> None:
    with pytest.raises(SpecError, match="pad_value"):
        ExpertConv(6, 12, precision="weight", pad_value=1)
