"""What classifiers answer, as their authors chose to, and the logits in it."""

from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from spaces import line_of
from torch import Tensor, nn
from users_models import Answer

from bnas.errors import ShapeError
from bnas.networks.answers import Classifier, answer_loss, check_logits, logits_of

LOGITS, AUX, FEATURES, MAPS = torch.randn(2, 5), torch.randn(2, 5), torch.randn(2, 3), torch.randn(2, 5, 4, 4)
Outputs = namedtuple("Outputs", ["logits", "aux"])


@dataclass
class Scored:
    features: Tensor
    scores: Tensor


HOLDING: dict[str, Any] = {
    "a tensor": LOGITS,
    "a tuple": (LOGITS,),
    "a list": [LOGITS, AUX],
    "a tuple with fewer features before": (FEATURES, LOGITS),
    "a tuple with maps before": (MAPS, LOGITS),
    "a tuple with labels before": (torch.zeros(2, 5, dtype=torch.long), LOGITS),
    "a mapping": {"out": LOGITS, "aux": AUX},
    "a mapping with logits": {"aux": AUX, "logits": LOGITS},
    "a mapping of a library's own": Answer(loss=None, logits=LOGITS, hidden_states=(MAPS, MAPS)),
    "a named tuple": Outputs(LOGITS, AUX),
    "a named tuple with logits behind": namedtuple("Behind", ["aux", "logits"])(AUX, LOGITS),
    "a dataclass": Scored(FEATURES, LOGITS),
    "an object with logits": SimpleNamespace(aux=AUX, logits=LOGITS),
    "a tuple with more features before": (torch.randn(2, 7), LOGITS),
    "nested": ({"features": FEATURES}, [LOGITS]),
}
LACKING: dict[str, tuple[Any, str]] = {
    "maps": ({"out": MAPS}, "is a dict of [2, 5, 4, 4]; change what the model returns"),
    "too few": ((FEATURES,), "is a tuple of [2, 3]; change"),
    "several that may be it": ((torch.randn(2, 7), torch.randn(2, 6)), "is a tuple of [2, 7], [2, 6]; change"),
    "nothing": (None, "is a NoneType of no tensor; change"),
    "words": ({"text": "cat"}, "is a dict of no tensor; change"),
}


@pytest.mark.parametrize("kind", HOLDING)
def test_logits_are_found_in(kind: str) -> None:
    assert logits_of(HOLDING[kind], classes=5) is LOGITS
    assert check_logits(HOLDING[kind], batch=2, classes=5, where="model m") == 5


@pytest.mark.parametrize("kind", LACKING)
def test_what_holds_none_is_one_line(kind: str) -> None:
    answer, said = LACKING[kind]
    with pytest.raises(ShapeError) as caught:
        check_logits(answer, batch=2, classes=5, where="model m")
    assert line_of(caught).startswith("model m: answer: must be logits [batch, 5], or a tuple or mapping that holds ")
    assert said in line_of(caught)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (MAPS, "5 classes need logits [2, 5] for a batch of 2, but the model gives [2, 5, 4, 4]; change"),
        (LOGITS[:1], "5 classes need logits [2, 5] for a batch of 2, but the model gives [1, 5]; change"),
        (LOGITS.long(), "5 classes need logits [2, 5] for a batch of 2, but the model gives [2, 5] of int64; change"),
        (
            LOGITS.to_sparse(),
            "5 classes need logits [2, 5] for a batch of 2, but the model gives [2, 5], sparse; change",
        ),
        (torch.tensor(0.5), "5 classes need logits [2, 5] for a batch of 2, but the model gives []; change"),
    ],
)
def test_logits_of_another_form_are_one_line(answer: Tensor, said: str) -> None:
    with pytest.raises(ShapeError) as caught:
        check_logits(answer, batch=2, classes=5, where="model m")
    assert line_of(caught).startswith(f"model m: {said}")


def test_a_network_and_its_loss_are_read_alike() -> None:
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return Outputs(x, -x)

    labels = torch.tensor([0, 4])
    assert torch.equal(Classifier(Wrapped(), 5)(LOGITS), LOGITS)
    assert answer_loss(Outputs(LOGITS, AUX), labels, classes=5) == nn.functional.cross_entropy(LOGITS, labels)
