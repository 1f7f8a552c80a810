import numpy as np
import pytest
import torch
from torch import Tensor

from bnas.binarize import ACTIVATION_BINARIZERS, WEIGHT_BINARIZERS, at_binary_magnitude
from bnas.errors import ShapeError

SHAPES = [(5, 3, 3, 3), (4, 5, 3, 3, 3), (7, 12), (6, 1, 1, 1), (1, 1)]


def latent(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return 0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("name", WEIGHT_BINARIZERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
class TestWeightContract:
    """What every weight binarizer promises."""

    def test_two_values_for_each_filter(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        weight = latent(*shape, dtype=dtype)
        made = WEIGHT_BINARIZERS[name](weight)
        assert made.sign.shape == weight.shape
        assert set(made.sign.unique().tolist()) <= {-1.0, 1.0}
        per_filter = (shape[: -min(3, len(shape) - 1)]) + (1,) * min(3, len(shape) - 1)
        assert made.scale.shape == made.offset.shape == per_filter
        assert made.dense().shape == weight.shape
        assert made.sign.dtype == made.scale.dtype == made.offset.dtype == dtype

    def test_signs_survive_packing(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        made = WEIGHT_BINARIZERS[name](latent(*shape, dtype=dtype))
        bits = np.packbits(made.sign.detach().float().numpy().ravel() > 0)
        signs = np.unpackbits(bits, count=made.sign.numel()).astype(np.float32) * 2 - 1
        again = made._replace(sign=torch.from_numpy(signs).view(shape).to(dtype))
        assert torch.equal(again.dense(), made.dense())


@pytest.mark.parametrize("name", WEIGHT_BINARIZERS)
class TestWeightEdges:
    """What every weight binarizer does at the ends of its domain."""

    @pytest.mark.parametrize("shape", [(5, 3, 3, 3), (6, 1, 1, 1)])
    def test_an_expert_bank_is_as_many_weights(self, name: str, shape: tuple[int, ...]) -> None:
        bank = torch.stack([latent(*shape), latent(*shape).flip(0)])
        together = WEIGHT_BINARIZERS[name](bank).dense()
        for one, weight in zip(together, bank, strict=True):
            assert torch.equal(one, WEIGHT_BINARIZERS[name](weight).dense())

    def test_zeros_count_as_plus_one(self, name: str) -> None:
        made = WEIGHT_BINARIZERS[name](torch.zeros(2, 3, 3, 3))
        assert (made.sign == 1).all()
        assert made.dense().isfinite().all()

    def test_constant_filter_keeps_its_gradient_finite(self, name: str) -> None:
        weight = torch.full((2, 3, 3, 3), -0.5, requires_grad=True)
        made = WEIGHT_BINARIZERS[name](weight)
        made.dense().sin().sum().backward()
        assert made.dense().isfinite().all()
        assert weight.grad.isfinite().all()

    @pytest.mark.parametrize("shape", [(3,), (0, 4), (3, 0, 3, 3), ()])
    def test_weight_without_a_filter_is_refused(self, name: str, shape: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match="weight"):
            WEIGHT_BINARIZERS[name](torch.zeros(shape))


@pytest.mark.parametrize("name", ["sign", "xnor"])
def test_straight_through_gradient_stops_at_one(name: str) -> None:
    weight = torch.tensor([[-2.0, -1.0, -0.9, 0.0, 0.9, 1.0, 2.0]], requires_grad=True)
    made = WEIGHT_BINARIZERS[name](weight)
    made.dense().sum().backward()
    inside = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]])
    assert torch.equal(weight.grad, made.scale * inside)


def test_xnor_scale_is_the_minimum() -> None:
    weight = latent(8, 4, 3, 3)
    best = WEIGHT_BINARIZERS["xnor"](weight)
    error = (weight - best.dense()).square().sum()
    for nudge in (0.99, 1.01):
        worse = best._replace(scale=best.scale * nudge)
        assert (weight - worse.dense()).square().sum() > error


@pytest.mark.parametrize("name", ACTIVATION_BINARIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_activations_become_signs(name: str, dtype: torch.dtype) -> None:
    values = torch.tensor([-torch.inf, -1, -0.1, -0.0, 0.0, 0.1, 1, torch.inf], dtype=dtype, requires_grad=True)
    signs = ACTIVATION_BINARIZERS[name](values)
    assert signs.dtype == dtype
    assert signs.tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]
    signs.sum().backward()
    assert values.grad.isfinite().all()


def test_activation_sign_gradient_is_clipped() -> None:
    values = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    ACTIVATION_BINARIZERS["sign"](values).sum().backward()
    assert values.grad.tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_latent_weights_take_the_binary_magnitude() -> None:
    weight = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    scaled = at_binary_magnitude(weight, torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    assert scaled.tolist() == [[0.5, -1.5], [0.0, 0.0]]
