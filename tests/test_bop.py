"""Bop against its algorithm, step by step."""

import pytest
import torch
from torch import Tensor

from bnas.train.optimizers import Bop


def weight(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def step(optimizer: Bop, of: Tensor, *gradient: float) -> list[float]:
    of.grad = torch.tensor(gradient, dtype=of.dtype)
    optimizer.step()
    return of.tolist()


def test_a_weight_flips_where_the_gradient_has_its_sign_and_is_beyond_the_threshold() -> None:
    w = weight(0.5, 0.5, 0.5, -0.5, -0.5, -0.5)
    flipped = step(Bop([w], adaptivity=1.0, threshold=1.0), w, 2.0, -2.0, 0.9, 2.0, -2.0, -0.9)
    assert flipped == [-0.5, 0.5, 0.5, -0.5, 0.5, -0.5]


def test_the_threshold_itself_is_not_beyond_it() -> None:
    w = weight(0.5)
    assert step(Bop([w], adaptivity=1.0, threshold=1.0), w, 1.0) == [0.5]


def test_the_gradient_is_averaged_over_steps() -> None:
    w = weight(1.0)
    optimizer = Bop([w], adaptivity=0.5, threshold=0.7)
    assert step(optimizer, w, 1.0) == [1.0]  # average 0.5
    assert step(optimizer, w, 1.0) == [-1.0]  # 0.75
    assert step(optimizer, w, 1.0) == [-1.0]  # 0.875, which now agrees with the weight
    assert step(optimizer, w, -4.0) == [1.0]  # -1.5625


def test_a_weight_of_zero_has_no_other_side() -> None:
    w = weight(0.0)
    assert step(Bop([w], adaptivity=1.0, threshold=0.0), w, 5.0) == [0.0]


def test_weights_without_a_gradient_stay() -> None:
    idle, busy = weight(1.0), weight(1.0)
    optimizer = Bop([idle, busy], adaptivity=1.0, threshold=0.0)
    assert step(optimizer, busy, 1.0) == [-1.0]
    assert idle.tolist() == [1.0]


def test_a_gradient_that_is_not_a_number_flips_nothing() -> None:
    w = weight(1.0, -1.0)
    assert step(Bop([w], adaptivity=1.0, threshold=0.0), w, torch.nan, torch.nan) == [1.0, -1.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_magnitudes_stay_in_every_dtype(dtype: torch.dtype) -> None:
    w = torch.linspace(-2, 2, 33).to(dtype).requires_grad_()
    before = w.detach().abs()
    optimizer = Bop([w], adaptivity=0.25, threshold=1e-3)
    for _ in range(5):
        w.grad = torch.randn(33, generator=torch.Generator().manual_seed(0)).to(dtype)
        optimizer.step()
    assert w.dtype == dtype
    assert torch.equal(w.detach().abs(), before)


def test_it_goes_on_from_its_state() -> None:
    runs = []
    for interrupted in (False, True):
        w = weight(1.0)
        optimizer = Bop([w], adaptivity=0.5, threshold=0.7)
        step(optimizer, w, 1.0)
        if interrupted:
            state = optimizer.state_dict()
            optimizer = Bop([w], adaptivity=0.1, threshold=9.0)
            optimizer.load_state_dict(state)
        runs.append(step(optimizer, w, 1.0))
    assert runs == [[-1.0], [-1.0]]


def test_a_closure_gives_the_loss() -> None:
    w = weight(1.0)
    optimizer = Bop([w], adaptivity=1.0, threshold=0.0)

    def loss() -> float:
        w.grad = None
        value = (3 * w).sum()
        value.backward()
        return value.item()

    assert optimizer.step(loss) == 3.0
    assert w.item() == -1.0
