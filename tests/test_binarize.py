"""The contracts of the two tables of binarizers, then what each method promises of its own."""

from functools import partial

import numpy as np
import pytest
import torch
from reference import least_error_of_all_cuts, least_error_of_all_splits
from torch import Tensor

from bnas.binarize import (
    ACTIVATION_BINARIZERS,
    WEIGHT_BINARIZERS,
    BinaryWeight,
    WeightBinarizer,
    at_binary_magnitude,
    is_annealed,
)
from bnas.binarize.alpha_beta import alpha_beta
from bnas.binarize.scaled_sign import group, irnet
from bnas.errors import ShapeError
from bnas.space.binarizer_traits import traits_of

HAS_GPU = torch.cuda.is_available()
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="no GPU")])]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
PER_FILTER = {  # shape of the weight -> shape of its scales
    (5, 3, 3, 3): (5, 1, 1, 1),
    (4, 5, 3, 3, 3): (4, 5, 1, 1, 1),
    (7, 12): (7, 1),
    (6, 1, 1, 1): (6, 1, 1, 1),
    (1, 1): (1, 1),
}


def latent(*shape: int, seed: int = 0, deviation: float = 0.5) -> Tensor:
    return deviation * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(name: str) -> WeightBinarizer:
    """The binarizer as training calls it, where an annealed one is not yet hard."""
    made = WEIGHT_BINARIZERS[name]
    return partial(made, hardness=0.5) if is_annealed(made) else made


def gradient(binarize: WeightBinarizer, weight: Tensor, toward: Tensor) -> Tensor:
    weight = weight.detach().clone().requires_grad_()
    (binarize(weight).dense() * toward).sum().backward()
    assert weight.grad is not None
    return weight.grad


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WEIGHT_BINARIZERS)
class TestWeightContract:
    """What every weight binarizer promises."""

    @pytest.mark.parametrize("shape", PER_FILTER)
    def test_two_values_for_each_filter(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: str
    ) -> None:
        weight = latent(*shape).to(device, dtype)
        made = WEIGHT_BINARIZERS[name](weight)
        assert set(made.sign.unique().tolist()) <= {-1.0, 1.0}
        assert made.sign.shape == made.dense().shape == shape
        upper, lower = made.values()
        assert made.scale.shape == upper.shape == lower.shape == PER_FILTER[shape]
        assert torch.equal(made.dense(), torch.where(made.sign > 0, upper, lower))
        for tensor in (made.sign, made.scale, upper, lower, made.dense()):
            assert tensor.dtype == dtype
            assert tensor.device == weight.device
            assert tensor.isfinite().all()

    def test_signs_survive_packing(self, name: str, dtype: torch.dtype, device: str) -> None:
        made = WEIGHT_BINARIZERS[name](latent(5, 3, 3, 3).to(device, dtype))
        bits = np.packbits(made.sign.cpu().float().numpy().ravel() > 0)
        assert len(bits) == -(-5 * 3 * 3 * 3 // 8)
        signs = np.unpackbits(bits, count=made.sign.numel()).astype(np.float32) * 2 - 1
        again = made._replace(sign=torch.from_numpy(signs).view_as(made.sign).to(device, dtype))
        assert torch.equal(again.dense(), made.dense())

    def test_gradient_is_finite(self, name: str, dtype: torch.dtype, device: str) -> None:
        weight = latent(5, 3, 3, 3).to(device, dtype)
        assert gradient(trained(name), weight, torch.ones_like(weight)).isfinite().all()


@pytest.mark.parametrize("name", WEIGHT_BINARIZERS)
class TestWeightEdges:
    """What every weight binarizer does at the ends of its domain."""

    @pytest.mark.parametrize("shape", [(5, 3, 3, 3), (6, 1, 1, 1)])
    def test_an_expert_bank_is_as_many_weights(self, name: str, shape: tuple[int, ...]) -> None:
        bank = torch.stack([latent(*shape), latent(*shape, seed=1)])
        for binarize in (WEIGHT_BINARIZERS[name], trained(name)):
            for together, weight in zip(binarize(bank).dense(), bank, strict=True):
                assert torch.allclose(together, binarize(weight).dense(), rtol=1e-12)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_filter_of_zeros_stays_zero_at_the_magnitude_of_its_bits(self, name: str, dtype: torch.dtype) -> None:
        zeros = torch.zeros(2, 3, 3, 3, dtype=dtype)
        assert not at_binary_magnitude(zeros, WEIGHT_BINARIZERS[name](zeros).dense()).any()

    def test_zeros_count_as_plus_one(self, name: str) -> None:
        made = WEIGHT_BINARIZERS[name](torch.zeros(2, 3, 3, 3))
        assert (made.sign == 1).all()
        assert made.dense().isfinite().all()

    @pytest.mark.parametrize("value", [-0.5, 0.0, 0.3, 1.0])
    @pytest.mark.parametrize("shape", [(2, 3, 3, 3), (2, 1, 1, 1), (3, 1)])
    def test_constant_filter_keeps_its_gradient_in_bounds(
        self, name: str, shape: tuple[int, ...], value: float
    ) -> None:
        weight = torch.full(shape, value)
        assert WEIGHT_BINARIZERS[name](weight).dense().isfinite().all()
        assert gradient(trained(name), weight, torch.ones(shape)).abs().max() <= 1 / 1e-3

    @pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
    def test_a_weight_that_is_not_finite_spoils_its_own_filter_only(self, name: str, bad: float) -> None:
        weight = latent(3, 4, 3, 3)
        broken = weight.clone()
        broken[1, 2, 0, 0] = bad
        made, sound = WEIGHT_BINARIZERS[name](broken), WEIGHT_BINARIZERS[name](weight)
        assert made.sign.abs().eq(1).all()
        assert name in ("sign", "group") or not made.dense()[1].isfinite().all()  # these two have no scale to spoil
        for other in (0, 2):
            assert torch.equal(made.dense()[other], sound.dense()[other])

    @pytest.mark.parametrize("shape", [(3,), (0, 4), (3, 0, 3, 3), ()])
    def test_weight_without_a_filter_is_refused(self, name: str, shape: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match="weight"):
            WEIGHT_BINARIZERS[name](torch.zeros(shape))

    def test_elementwise_backward_is_what_the_table_says(self, name: str) -> None:
        weight = latent(2, 3, 3, 3)
        slopes = gradient(trained(name), weight, torch.ones_like(weight))
        toward = latent(2, 3, 3, 3, seed=1)
        elementwise = torch.allclose(gradient(trained(name), weight, toward), slopes * toward)
        assert elementwise == (traits_of(name).elementwise_backward)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATION_BINARIZERS)
def test_activations_become_signs(name: str, dtype: torch.dtype, device: str) -> None:
    values = [-torch.inf, -1, -0.1, -0.0, 0.0, 0.1, 1, torch.inf]
    x = torch.tensor(values, dtype=dtype, device=device, requires_grad=True)
    signs = ACTIVATION_BINARIZERS[name](x)
    assert signs.dtype == dtype
    assert signs.tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]
    signs.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", ACTIVATION_BINARIZERS)
def test_activations_keep_their_memory_format(name: str) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert ACTIVATION_BINARIZERS[name](x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ACTIVATION_BINARIZERS)
def test_compiled_activations_are_those_of_eager(name: str, dtype: torch.dtype) -> None:
    results = []
    for way in (ACTIVATION_BINARIZERS[name], torch.compile(ACTIVATION_BINARIZERS[name], backend="aot_eager")):
        x = torch.linspace(-2, 2, 41).to(dtype).requires_grad_()
        signs = way(x)
        results.append((signs, torch.autograd.grad(signs.sum(), x)[0]))
    for compiled, eager in zip(*results, strict=True):
        assert compiled.dtype == eager.dtype
        assert torch.equal(compiled, eager)


def swish(v: Tensor) -> Tensor:
    z = 5 * v
    return 2 * z.sigmoid() * (1 + z * (1 - z.sigmoid())) - 1


CURVES = {  # what the gradient of each activation binarizer is the gradient of
    "sign": lambda v: v.clamp(-1, 1),
    "polynomial": lambda v: torch.where(v < 0, 2 * v + v * v, 2 * v - v * v).where(v.abs() < 1, v.sign()),
    "swish": swish,
}
CURVES["react"] = CURVES["polynomial"]


@pytest.mark.parametrize("name", ACTIVATION_BINARIZERS)
def test_activation_gradient_is_that_of_its_curve(name: str) -> None:
    x = torch.linspace(-3, 3, 60, dtype=torch.float64, requires_grad=True)  # no point at a kink
    ACTIVATION_BINARIZERS[name](x).sum().backward()
    step = 1e-6
    expected = (CURVES[name](x + step) - CURVES[name](x - step)) / (2 * step)
    assert torch.allclose(x.grad, expected, atol=1e-8)  # central differences err by step^2 and rounding / step


def test_clipped_gradient_is_zero_from_one_on() -> None:
    x = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    ACTIVATION_BINARIZERS["sign"](x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("name", ["sign", "xnor"])
def test_straight_through_gradient_stops_at_one(name: str) -> None:
    weight = torch.tensor([[-2.0, -1.0, -0.9, 0.0, 0.9, 1.0, 2.0]])
    inside = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]])
    scale = WEIGHT_BINARIZERS[name](weight).scale
    assert torch.equal(gradient(WEIGHT_BINARIZERS[name], weight, torch.ones(1, 7)), scale * inside)


def test_xnor_scale_is_the_minimum() -> None:
    weight = latent(8, 4, 3, 3)
    best = WEIGHT_BINARIZERS["xnor"](weight)
    error = (weight - best.dense()).square().sum()
    for nudge in (0.99, 1.01):
        worse = best._replace(scale=best.scale * nudge)
        assert (weight - worse.dense()).square().sum() > error


def error_of(made: BinaryWeight, weight: Tensor) -> Tensor:
    return (weight - made.dense()).square().flatten(1).sum(1)


def test_alpha_beta_beats_every_split() -> None:
    weight = latent(20, 9)
    expected = [least_error_of_all_splits(filter) for filter in weight]
    assert torch.allclose(error_of(alpha_beta(weight), weight), torch.stack(expected), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 9, 100])
@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_alpha_beta_is_the_best_cut(n: int, shift: float) -> None:
    weight = latent(50, n) + shift
    # A shift of 50 costs two digits of the 16: the mean is taken away before anything is squared.
    assert torch.allclose(error_of(alpha_beta(weight), weight), least_error_of_all_cuts(weight), rtol=1e-10)


@pytest.mark.parametrize(
    ("filter", "alpha", "beta"),
    [
        ([0.1, 0.1, 0.1, 0.9], 0.9, 0.1),  # K = 1
        ([0.9, 0.9, 0.9, 0.1], 0.9, 0.1),  # K = n - 1
        ([0.2, -0.4, 0.2, -0.4], 0.2, -0.4),  # equal values stay together
        ([0.3, 0.3, 0.3, 0.3], 0.3, 0.3),  # nothing to tell apart
        ([-0.7], -0.7, -0.7),  # n = 1
    ],
)
def test_alpha_and_beta_by_hand(filter: list[float], alpha: float, beta: float) -> None:
    made = alpha_beta(torch.tensor([filter], dtype=torch.float64))
    assert [value.item() for value in made.values()] == pytest.approx([alpha, beta])
    assert made.dense()[0].tolist() == pytest.approx(filter)


def test_alpha_beta_class_means_are_the_exact_gradient() -> None:
    weight = latent(3, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: alpha_beta(w, class_means=True, straight_through=False).dense(), weight)


def test_alpha_beta_gradient_is_the_mean_over_the_class() -> None:
    weight = torch.tensor([[0.1, 0.9, 0.2, 0.8]], dtype=torch.float64)
    toward = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    means = gradient(partial(alpha_beta, class_means=True, straight_through=False), weight, toward)
    assert means[0].tolist() == pytest.approx([(1 + 3) / 2, (2 + 4) / 2, (1 + 3) / 2, (2 + 4) / 2])


def test_alpha_beta_gradients_add_up() -> None:
    weight, toward = latent(4, 3, 3, 3, deviation=0.8), latent(4, 3, 3, 3, seed=1)
    means = gradient(partial(alpha_beta, class_means=True, straight_through=False), weight, toward)
    through = gradient(alpha_beta, weight, toward)
    assert torch.allclose(gradient(partial(alpha_beta, class_means=True), weight, toward), means + through)
    assert torch.allclose(through, toward * (weight.abs() < 1))


def test_alpha_beta_without_gradients_is_constant() -> None:
    weight = latent(2, 3, 3, 3).requires_grad_()
    assert not alpha_beta(weight, straight_through=False).dense().requires_grad


def test_irnet_filters_are_balanced_and_scaled_by_powers_of_two() -> None:
    made = irnet(latent(16, 8, 3, 3) + 0.7)
    assert made.sign.mean((1, 2, 3)).abs().max() < 0.3  # a filter all of one sign would have 1
    assert torch.equal(made.scale.log2(), made.scale.log2().round())


@pytest.mark.parametrize("hardness", [0.0, 0.5, 1.0])
def test_irnet_gradient_is_that_of_its_estimator(hardness: float) -> None:
    weight, toward = latent(3, 2, 3, 3), latent(3, 2, 3, 3, seed=1)
    t = 10 ** (2 * hardness - 1)

    def estimator(w: Tensor) -> BinaryWeight:
        u = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True, correction=0)
        made = irnet(w)
        return made._replace(sign=max(1 / t, 1) * torch.tanh(t * u))

    actual = gradient(partial(irnet, hardness=hardness), weight, toward)
    assert torch.allclose(actual, gradient(estimator, weight, toward))


@pytest.mark.parametrize("hardness", [0.0, 0.3, 0.6, 0.9])
def test_group_gradient_is_exact(hardness: float) -> None:
    weight = latent(3, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: group(w, hardness=hardness).dense(), weight)


def test_group_acts_on_the_filter_as_a_whole() -> None:
    weight = latent(1, 2, 3, 3)
    moved = weight.clone()
    moved[0, 0, 0, 0] += 0.1
    assert (group(weight, hardness=0.5).dense() != group(moved, hardness=0.5).dense()).all()


def test_group_starts_near_the_filter_and_ends_in_its_signs() -> None:
    weight = latent(8, 16, 3, 3)
    centred = weight - weight.mean((1, 2, 3), keepdim=True)
    unit = centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt()
    distance = [
        (12 * group(weight, hardness=h).dense() - goal).abs().mean().item()  # the norm of 144 signs is 12
        for h, goal in ((0.0, unit), (0.5, unit.sign()), (0.8, unit.sign()), (torch.tensor(1.0), unit.sign()))
    ]
    assert distance[0] < 0.1
    assert distance[1] > distance[2] > distance[3]
    assert distance[3] < 0.005
    assert torch.equal(group(weight).sign, unit.sign())
    assert torch.allclose(group(weight).scale, torch.tensor(1 / 12, dtype=torch.float64))


@pytest.mark.parametrize("hardness", [0.0, 0.5, 0.99])
def test_group_stays_on_the_sphere(hardness: float) -> None:
    values = group(latent(8, 16, 3, 3), hardness=hardness).dense()
    assert torch.allclose(values.square().sum((1, 2, 3)), torch.ones(8, dtype=torch.float64))


def test_group_learns_without_a_straight_through_estimator() -> None:
    """Signs of a linear classifier are found by plain gradient descent while the hardness rises."""
    goal = latent(1, 32, seed=3).sign()
    goal[0, :16], goal[0, 16:] = 1, -1  # balanced, as every centred filter is
    x = latent(512, 32, seed=4)
    weight = latent(1, 32, seed=5).requires_grad_()
    for step in range(200):
        loss = (x @ group(weight, hardness=step / 200).dense().T - x @ goal.T / 32**0.5).square().mean()
        (slope,) = torch.autograd.grad(loss, weight)
        weight = (weight - slope).detach().requires_grad_()
    assert torch.equal(group(weight).sign, goal)


def test_latent_weights_take_the_binary_magnitude() -> None:
    weight = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    scaled = at_binary_magnitude(weight, torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    assert scaled.tolist() == [[0.5, -1.5], [0.0, 0.0]]
