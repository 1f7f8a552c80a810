"""LazyAdamW against its formula, entry by entry, and against torch's AdamW where every entry has a gradient."""

import pytest
import torch
from reference import naive_lazy_adamw
from torch import Tensor, nn
from torch.optim import AdamW

from bnas.space.arch import Architecture
from bnas.supernet import Supernet
from bnas.train.lazy_adamw import LazyAdamW
from tests.tiny import tiny_space


def gradients(*, share: float, steps: int = 12) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(5, 3, 2, generator=generator, dtype=torch.float64) for _ in range(steps)]
    return [g * (torch.rand(g.shape, generator=generator) < share) for g in drawn]


def moved(make, steps: list[Tensor]) -> Tensor:
    weight = nn.Parameter(torch.linspace(-1, 1, 30, dtype=torch.float64).view(5, 3, 2))
    optimizer = make([weight])
    for gradient in steps:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_it_moves_as_its_formula_says(decay: float, share: float) -> None:
    steps = gradients(share=share)
    found = moved(lambda params: LazyAdamW(params, lr=0.02, weight_decay=decay), steps)
    start = torch.linspace(-1, 1, 30, dtype=torch.float64).view(5, 3, 2)
    assert torch.allclose(found, naive_lazy_adamw(start, steps, rate=0.02, decay=decay), atol=1e-12)


def test_it_is_adamw_where_every_entry_has_a_gradient() -> None:
    steps = gradients(share=1.0)
    lazy = moved(lambda params: LazyAdamW(params, lr=0.02, weight_decay=0.1), steps)
    torch_s = moved(lambda params: AdamW(params, lr=0.02, weight_decay=0.1), steps)
    assert torch.allclose(lazy, torch_s, atol=1e-12)


def test_its_state_goes_on_in_adamw_and_back() -> None:
    weight = nn.Parameter(torch.randn(4, 4))
    weight.grad = torch.randn(4, 4)
    lazy, torch_s = LazyAdamW([weight]), AdamW([weight])
    lazy.step()
    torch_s.load_state_dict({"state": lazy.state_dict()["state"], "param_groups": torch_s.state_dict()["param_groups"]})
    torch_s.step()
    assert {key: value.shape for key, value in lazy.state[weight].items()} == {
        key: value.shape for key, value in torch_s.state[weight].items()
    }


def test_weights_that_a_step_of_a_supernet_does_not_use_stay() -> None:
    torch.manual_seed(0)
    space = tiny_space()
    supernet = Supernet(space)
    optimizer = LazyAdamW(supernet.parameters(), lr=0.1, weight_decay=0.1)

    def step(arch: Architecture) -> None:
        optimizer.zero_grad()
        supernet(torch.randn(8, 1, 8, 8), arch).square().sum().backward()
        optimizer.step()

    for _ in range(3):
        step(space.largest())
    before = supernet.get_parameter("stages.1.0.main.weight").detach().clone()
    for _ in range(3):
        step(space.smallest())  # 8 of 16 filters, in two groups of 2 of the 8 channels that there are
    after = supernet.get_parameter("stages.1.0.main.weight").detach()
    used = torch.zeros_like(after, dtype=torch.bool)
    used[0, :4, :2], used[0, 4:8, 2:4] = True, True
    assert torch.equal(after[~used], before[~used])
    assert not torch.equal(after[used], before[used])
