"""Which layers see a model's input, and which its answer is made of: whatever stands between that is no weight."""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from users_models import Answer

from bnas.select import LayerFacts, Rules, fixed_layers
from bnas.select.conversion import survey

Change = Callable[[Any, Tensor], Tensor]
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Changed(nn.Module):
    """Two convolutions and a head behind a change of the input."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change
        self.one, self.two, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 4)
        self.norm, self.scale = nn.BatchNorm2d(3), nn.Parameter(torch.ones(3, 1, 1))
        self.mask, self.mix = nn.Parameter(torch.rand(3, 8, 8)), nn.Parameter(torch.rand(3, 3))
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(self.change(self, x)).relu())
        return self.fc(x.relu().mean((2, 3)))


def sliced(m: Any, x: Tensor) -> Tensor:
    x[:, 0] = x[:, 0] * 2
    x[:, 1:] -= 1
    return x


def copied_into_a_batch(m: Any, x: Tensor) -> Tensor:
    batch = x[0].new_zeros(len(x), 3, 10, 12)
    for place, image in enumerate(x):
        batch[place, :, :8, :8].copy_(image)
    return batch


def written_elsewhere(m: Any, x: Tensor) -> Tensor:
    return torch.mul(x, 2, out=torch.empty_like(x))


def in_a_buffer_of_its_own(m: Any, x: Tensor) -> Tensor:
    kept = torch.zeros_like(x)
    kept[:] = x
    return kept.add_(1)


FIRST: dict[str, Change] = {
    "nothing": lambda m, x: x,
    "a subtraction": lambda m, x: x - m.mean,
    "a subtraction in place": lambda m, x: x.sub_(m.mean),
    "a chain in place": lambda m, x: x.sub_(0.5).div_(0.25).clamp_(-1, 1),
    "a slice that is assigned": sliced,
    "a copy into a batch": copied_into_a_batch,
    "a result written elsewhere": written_elsewhere,
    "a buffer of its own": in_a_buffer_of_its_own,
    "a norm": lambda m, x: m.norm(x),
    "a norm, then in place": lambda m, x: m.norm(x).clamp_(-2, 2),
    "a learned scale": lambda m, x: x * m.scale,
    "a learned scale in place": lambda m, x: x.mul_(m.scale),
    "padding and flipping": lambda m, x: F.pad(x.flip(-1), (1, 1, 2, 2), mode="reflect"),
    "another type and back": lambda m, x: x.double().mul_(2).float(),
    "channels put together": lambda m, x: torch.cat([x[:, :1], x[:, 1:]], 1),
    "a resizing": lambda m, x: F.interpolate(x, size=(12, 12), mode="bilinear"),
}
NOT_FIRST: dict[str, Change] = {
    "learned weights": lambda m, x: x * m.mask,
    "learned weights in place": lambda m, x: x.mul_(m.mask),
    "learned weights into what was the input": lambda m, x: x.copy_(x * m.mask),
    "a learned mix of channels": lambda m, x: torch.einsum("bchw,dc->bdhw", x, m.mix),
}


def facts(model: nn.Module) -> dict[str, LayerFacts]:
    return {layer.name: layer for layer in survey(model, [IMAGES.clone()]).layers}


@pytest.mark.filterwarnings("ignore:not counted")
@pytest.mark.parametrize("change", [*FIRST, *NOT_FIRST])
def test_the_first_layer_is_the_one_that_sees_the_input(change: str) -> None:
    layers = facts(Changed((FIRST | NOT_FIRST)[change]))
    assert layers["one"].sees_input == (change in FIRST)
    assert not layers["two"].sees_input
    assert not layers["fc"].sees_input


def test_what_a_model_does_to_its_input_is_done_to_a_copy() -> None:
    before = IMAGES.clone()
    survey(Changed(FIRST["a chain in place"]), [IMAGES])
    assert torch.equal(IMAGES, before)


Pair = namedtuple("Pair", ["main", "aux"])


@dataclass
class Both:
    scores: Tensor
    more: Tensor


class Headed(nn.Module):
    """A backbone with two heads, whose answer is made by a function."""

    def __init__(self, answer: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer
        self.stem, self.body, self.side = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.one, self.two, self.head = nn.Linear(6, 4), nn.Linear(6, 4), nn.Conv2d(6, 4, 1)
        self.norm, self.gate = nn.BatchNorm1d(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        return self.answer(self, self.stem(x).relu())


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


# How an answer is made -> the layers that it comes from.
LAST: dict[str, tuple[Callable[[Any, Tensor], Any], set[str]]] = {
    "logits": (lambda m, x: m.one(pooled(m.body(x))), {"one"}),
    "log-softmax": (lambda m, x: m.one(pooled(m.body(x))).log_softmax(1), {"one"}),
    "softmax in place of nothing": (lambda m, x: F.softmax(m.one(pooled(x)), 1).clamp_(1e-3, 1), {"one"}),
    "tanh": (lambda m, x: m.one(pooled(x)).tanh() * 3, {"one"}),
    "softplus, shifted in place": (lambda m, x: F.softplus(m.one(pooled(x))).add_(1), {"one"}),
    "a norm behind": (lambda m, x: m.norm(m.one(pooled(m.body(x)))), {"one"}),
    "a convolution, pooled": (lambda m, x: pooled(m.head(m.body(x))), {"head"}),
    "two heads": (lambda m, x: (m.one(pooled(x)), m.two(pooled(x))), {"one", "two"}),
    "two log-softmax heads": (
        lambda m, x: {"a": m.one(pooled(x)).log_softmax(1), "b": m.two(pooled(x)).log_softmax(1)}, {"one", "two"}
    ),
    "a sum of heads": (lambda m, x: m.one(pooled(x)) + m.two(pooled(m.body(x))), {"one", "two"}),
    "heads side by side": (lambda m, x: torch.cat([m.one(pooled(x)), m.two(pooled(x))], 1).softmax(1), {"one", "two"}),
    "an auxiliary head": (lambda m, x: Pair(m.two(pooled(m.body(x))), m.one(pooled(x))), {"one", "two"}),
    "a mapping of its own": (lambda m, x: Answer(logits=m.one(pooled(x)).relu()), {"one"}),
    "a dataclass": (lambda m, x: Both(m.one(pooled(x)), m.two(pooled(x)).exp()), {"one", "two"}),
    "an object with logits": (lambda m, x: SimpleNamespace(logits=m.one(pooled(x)) / 2), {"one"}),
    "logits and the features behind them": (
        lambda m, x: (lambda y: (m.one(pooled(y)), y))(m.body(x).relu()), {"one"}
    ),
    "features alone": (lambda m, x: m.body(x).relu(), {"body"}),
    "a residual block alone": (lambda m, x: (m.body(x).relu() + m.side(x)).relu(), {"body", "side"}),
    "a head that is gated by itself": (lambda m, x: (lambda y: y * y.sigmoid())(m.one(pooled(x))), {"one"}),
    "a head behind a head": (lambda m, x: m.gate(m.one(pooled(x)).tanh()), {"gate"}),
    "the place of the largest": (lambda m, x: m.one(pooled(x)).argmax(1), {"one"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAST)
def test_the_last_layers_are_those_that_the_answer_is_made_of(kind: str) -> None:
    answer, expected = LAST[kind]
    model = Headed(answer)
    with pytest.warns(UserWarning, match="values are not used on this input"):
        layers = facts(model)
    assert {name for name, layer in layers.items() if layer.gives_output} == expected


def test_every_head_has_the_precision_of_the_last_layer() -> None:
    model = Headed(LAST["two log-softmax heads"][0])
    with pytest.warns(UserWarning, match="values are not used on this input"):
        layers = list(facts(model).values())
    fixed = fixed_layers(layers, Rules(last="weight"))
    assert {name: fixed[name].precision for name in ("one", "two")} == {"one": "weight", "two": "weight"}
