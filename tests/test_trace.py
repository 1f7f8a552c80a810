"""What a traced model's layers are."""

import itertools
from random import Random

import pytest
import torch

from bnas.cost import cost
from bnas.network import build
from bnas.plan import plan
from bnas.space import SearchSpace
from bnas.trace import trace

SHORTCUTS = ("repeat", "conv", "bottleneck")


def small_space(*, stem: str, shortcut: str, squeeze_excite: bool, weight: str, pad_value: int) -> SearchSpace:
    """Return a space with every kind of choice, over odd sizes."""
    first = {"stride": 4} if stem == "branched" else {"kernel": [3, 5], "stride": [1, 2]}
    stage = {
        "depth": [1, 2], "width": [8, 16], "groups": [1, 2, 4], "experts": [1, 3], "kernel": [1, 3],
        "stride": [1, 2], "precision": ["real", "weight", "binary"],
    }  # fmt: skip
    return SearchSpace.model_validate({
        "input": [3, 13, 11], "classes": 10, "shortcut": {"kind": shortcut}, "squeeze_excite": squeeze_excite,
        "stem": {"kind": stem, "width": [8, 16], **first},
        "stages": [stage, stage], "binarizers": {"weight": weight, "pad_value": pad_value},
    })  # fmt: skip


@pytest.mark.parametrize(("stem", "shortcut"), list(itertools.product(("conv", "branched"), SHORTCUTS)))
def test_built_network_has_the_planned_layers(stem: str, shortcut: str) -> None:
    random = Random(f"{stem} {shortcut}")
    for squeeze_excite, weight in itertools.product((False, True), ("sign", "xnor")):
        space = small_space(
            stem=stem,
            shortcut=shortcut,
            squeeze_excite=squeeze_excite,
            weight=weight,
            pad_value=random.choice((-1, 0, 1)),
        )
        arch = space.architecture(space.sample(random))
        traced = trace(build(arch), arch.input)
        assert traced.layers == plan(arch)
        assert cost(traced.layers) == cost(plan(arch))
        assert not traced.uncounted


def test_tracing_leaves_the_model_and_the_random_numbers_alone() -> None:
    space = small_space(stem="conv", shortcut="conv", squeeze_excite=True, weight="xnor", pad_value=1)
    network = build(space.largest()).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    usage = [buffer.clone() for buffer in network.buffers()]
    random = torch.get_rng_state()
    trace(network, (3, 13, 11))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training and not module._forward_hooks for module in network.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(map(torch.equal, usage, network.buffers()))
