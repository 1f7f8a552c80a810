from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from spaces import make_arch, rich_space
from torch import Tensor, nn

from bnas.cost.plan import PlannedLayer, plan
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.expert_conv import ExpertConv
from bnas.networks.build import build
from bnas.space.arch import Architecture
from bnas.space.values import Size

TWO_STAGES = [
    {"width": 16, "depth": 2, "stride": 2, "groups": 2},
    {"width": 24, "kernel": 5, "experts": 3, "stride": 3},
]
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two stages": {"stages": TWO_STAGES},
    "conv shortcut, excitation": {"stages": TWO_STAGES, "shortcut": {"kind": "conv"}, "squeeze_excite": True},
    "bottleneck": {"stages": TWO_STAGES, "shortcut": {"kind": "bottleneck", "reduction": 3}},
    "max": {"stages": TWO_STAGES, "shortcut": {"pool": "max"}},
    "conv and max": {"stages": TWO_STAGES, "shortcut": {"kind": "conv", "pool": "max"}},
    "branched": {"stages": TWO_STAGES, "stem": {"kind": "branched", "width": 8, "stride": 4}, "input": [3, 33, 29]},
    "precisions": {"stage": {"precision": ["real", "weight", "binary"], "groups": 4, "experts": 2}},
    "large kernels": {"stem": {"width": 8, "kernel": 7, "stride": 2}, "stage": {"kernel": 9}, "input": [1, 5, 40]},
    "one pixel": {"input": [3, 1, 1], "stages": TWO_STAGES},
    "mixed after two blocks": {"stage": {"depth": 5, "groups": 2, "experts": 2}, "mix_every": 2},
    "poolings": {"stages": [stage | {"downsample": "max_pool"} for stage in TWO_STAGES], "input": [3, 13, 11]},
    "signs": {"binarizers": {"weight": "sign", "pad_value": -1}, "stage": {"experts": 2}},
    **{f"stride {s}": {"stage": {"stride": s}, "stem": {"width": 8, "stride": s}} for s in range(1, 9)},
}


@pytest.fixture(params=NETWORKS)
def arch(request: pytest.FixtureRequest) -> Architecture:
    return make_arch(**NETWORKS[request.param])


def size_of(x: Tensor) -> Size:
    """Return (height, width); a linear layer's vectors are one pixel."""
    return (x.shape[2], x.shape[3]) if x.ndim == 4 else (1, 1)


def sizes_seen(arch: Architecture) -> dict[str, tuple[Size, Size]]:
    """Return the sizes of input and output of every module that ran once, by its name."""
    network = build(arch).eval()
    seen: dict[str, tuple[Size, Size]] = {}

    def watch(name: str, module: nn.Module) -> None:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = (size_of(inputs[0]), size_of(output))

        module.register_forward_hook(note)

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.PReLU | BinaryConv | ExpertConv):
            watch(name, module)
    with torch.no_grad():
        assert network(torch.randn(2, *arch.input)).shape == (2, arch.classes)
    return seen


def test_every_layer_has_the_planned_sizes(arch: Architecture) -> None:
    layers = plan(arch)
    assert sizes_seen(arch) == {layer.name: (layer.in_size, layer.out_size) for layer in layers}


def side(value: int | tuple[int, ...]) -> Size:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def described(layer: PlannedLayer, module: nn.Module) -> PlannedLayer:
    """Return the planned layer with everything that the built module knows in place of what was planned."""
    changes: dict[str, Any] = {}
    if isinstance(module, nn.Conv2d | BinaryConv | ExpertConv):
        kernel = module.kernel_size if isinstance(module, nn.Conv2d) else module.kernel
        changes = {
            "kind": "conv", "in_channels": module.in_channels, "out_channels": module.out_channels,
            "kernel": side(kernel), "stride": side(module.stride), "groups": module.groups,
            "precision": getattr(module, "precision", "real"), "experts": getattr(module, "experts", 1),
        }  # fmt: skip
    elif isinstance(module, nn.Linear):
        changes = {"kind": "linear", "in_channels": module.in_features, "out_channels": module.out_features}
        changes["real_values"] = 0 if module.bias is None else module.bias.numel()
    elif isinstance(module, nn.BatchNorm2d):
        changes = {"kind": "norm", "in_channels": module.num_features, "out_channels": module.num_features}
    elif isinstance(module, nn.PReLU):
        changes = {"kind": "activation", "in_channels": module.num_parameters, "out_channels": module.num_parameters}
    return replace(layer, **changes)


def test_every_planned_layer_is_a_module_with_the_planned_channels(arch: Architecture) -> None:
    network = build(arch)
    for layer in plan(arch):
        assert described(layer, network.get_submodule(layer.name)) == layer


def test_every_weight_is_planned(arch: Architecture) -> None:
    network = build(arch)
    planned = {f"{layer.name}.weight": layer.weights for layer in plan(arch) if layer.weights}
    weights = {name: p.numel() for name, p in network.named_parameters() if p.ndim > 1}
    assert weights == planned


def test_every_parameter_belongs_to_a_planned_layer(arch: Architecture) -> None:
    names = {layer.name for layer in plan(arch)}
    assert {name.rpartition(".")[0] for name, _ in build(arch).named_parameters()} == names


@pytest.mark.parametrize("seed", range(8))
def test_plan_and_network_agree_on_any_architecture(seed: int) -> None:
    space = rich_space(shortcut={"kind": "bottleneck"}, squeeze_excite=True, input=[2, 11, 14])
    arch = space.architecture(space.sample(Random(seed)))
    network = build(arch)
    assert sizes_seen(arch) == {layer.name: (layer.in_size, layer.out_size) for layer in plan(arch)}
    for layer in plan(arch):
        assert described(layer, network.get_submodule(layer.name)) == layer


def test_binarizers_are_those_of_the_description() -> None:
    binarizers = {"weight": "sign", "activation": "sign", "pad_value": 1}
    network = build(make_arch(binarizers=binarizers, stage={"groups": 2}))
    convs = [module for module in network.modules() if isinstance(module, BinaryConv)]
    assert len(convs) == 2
    assert {(conv.weights, conv.activations, conv.pad_value) for conv in convs} == {("sign", "sign", 1)}


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build(make_arch()).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_network_learns() -> None:
    torch.manual_seed(0)
    network = build(make_arch(stages=TWO_STAGES, shortcut={"kind": "conv"}))
    images, labels = torch.randn(40, 3, 9, 7), torch.arange(40) % 5
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
