"""The other transformations that were tried for `group` keep the promises that it makes."""

from pathlib import Path

import pytest
import torch

from bnas.binarize import WeightBinarizer, is_annealed, weight_binarizer

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(params=["power", "clip"])
def transform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WeightBinarizer:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return weight_binarizer(f"group_transforms:{request.param}")


def latent() -> torch.Tensor:
    return torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_begins_at_the_standardised_filter_and_ends_in_signs(transform: WeightBinarizer) -> None:
    weight = latent()
    u = weight - weight.mean((1, 2, 3), keepdim=True)
    u = u / u.square().mean((1, 2, 3), keepdim=True).sqrt()
    assert is_annealed(transform)
    norm = 54**0.5  # of as many signs
    assert torch.allclose(transform(weight, hardness=0.0).dense(), u / norm)
    assert torch.allclose(transform(weight).dense(), u.sign() / norm)
    assert torch.allclose(transform(weight, hardness=torch.tensor(1.0)).dense(), u.sign() / norm)


@pytest.mark.parametrize("hardness", [0.0, 0.5, 0.9])
def test_its_gradient_is_exact_and_it_stays_on_the_sphere(transform: WeightBinarizer, hardness: float) -> None:
    weight = latent().requires_grad_()
    values = transform(weight, hardness=hardness).dense()
    assert torch.allclose(values.square().sum((1, 2, 3)), torch.ones(4, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda w: transform(w, hardness=hardness).dense(), weight)


@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("hardness", [0.5, 1.0])
def test_a_constant_filter_is_finite(transform: WeightBinarizer, value: float, hardness: float) -> None:
    weight = torch.full((2, 3, 3, 3), value, requires_grad=True)
    values = transform(weight, hardness=hardness).dense()
    assert values.isfinite().all()
    if hardness < 1:
        values.sum().backward()
        assert weight.grad.isfinite().all()
