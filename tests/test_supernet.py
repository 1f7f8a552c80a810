import copy
import math
from functools import cache
from random import Random
from typing import Any

import pytest
import torch
from spaces import STEMS, WHOLE, later_space, make_arch, make_space, rich_space
from torch import Tensor

from bnas.cost.plan import plan
from bnas.errors import SpecError
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.expert_conv import ExpertConv
from bnas.networks.build import build
from bnas.space.arch import Architecture
from bnas.space.recipe import Stage
from bnas.space.space import SearchSpace
from bnas.supernet import Supernet
from bnas.supernet.shared import SharedUnit
from bnas.train.optimizers import groups_of

SPACES: dict[str, dict[str, Any]] = {
    "repeat": {},
    "conv": {"shortcut": {"kind": "conv"}, "squeeze_excite": True},
    "bottleneck": {"shortcut": {"kind": "bottleneck", "reduction": 3}, "binarizers": {"weight": "sign"}},
    "max": {"shortcut": {"pool": "max"}},
    "bottleneck and max": {"shortcut": {"kind": "bottleneck", "pool": "max"}},
    "padded with -1": {"binarizers": {"pad_value": -1}, "squeeze_excite": True, "mix_every": 2},
    "without PReLU": {"prelu": False, "binarizers": {"pad_value": -1}},
    "shifted": {"binarizers": {"activation": "react"}, "squeeze_excite": True},
    "branched": {"stem": STEMS["branched"], "input": [3, 33, 29]},
    "space to depth": {"stem": STEMS["space_to_depth"], "input": [3, 13, 11]},
    "several": {"stem": STEMS["several"], "input": [3, 13, 11]},
    "thermometer": {"stem": STEMS["thermometer"], "binarizers": {"weight": "alpha_beta", "pad_value": 1}},
}
LATER: dict[str, dict[str, Any]] = {
    "pooled": {},
    "pooled, conv": {"shortcut": {"kind": "conv"}, "squeeze_excite": True},
}
LATER["whole"] = WHOLE
DRAWS = 4


@cache
def trained(name: str) -> Supernet:
    """Return a supernet whose weights and statistics have all moved from where they start. Copy it to change it."""
    torch.manual_seed(0)
    supernet = Supernet(rich_space(**SPACES[name]) if name in SPACES else later_space(**LATER[name]))
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.mul_(1 + 0.2 * torch.randn(parameter.shape)).add_(0.05 * torch.randn(parameter.shape))
        for key, buffer in supernet.named_buffers():
            if key.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape))
    return supernet


def first_unit(supernet: Supernet, stage: int) -> SharedUnit:
    unit = supernet.get_submodule(f"stages.{stage}.0.main")
    assert isinstance(unit, SharedUnit)
    return unit


def images_for(space: SearchSpace) -> Tensor:
    return torch.randn(6, *space.input, generator=torch.Generator().manual_seed(1))


def draws(space: SearchSpace) -> list[Architecture]:
    """Return the smallest, the largest and some drawn architectures."""
    drawn = [space.architecture(space.sample(Random(seed))) for seed in range(DRAWS)]
    return [space.smallest(), space.largest(), *drawn]


@pytest.mark.parametrize("weights", ["xnor", "sign", "alpha_beta", "irnet", "group"])
def test_every_shape_begins_with_outputs_of_one_size(weights: str) -> None:
    """Effective weights have about the variance 1 / fan-in, whatever slice of the shared ones they are."""
    torch.manual_seed(0)
    supernet = Supernet(rich_space(binarizers={"weight": weights})).eval()
    sizes = []
    for arch in draws(supernet.space):
        for conv in supernet.extract(arch).modules():
            if isinstance(conv, BinaryConv | ExpertConv) and conv.alpha is not None:
                weight = conv.binary_weight()
                sizes.append((weight.square().mean() * math.prod(weight.shape[-3:])).sqrt().item())
    assert min(sizes) > 0.6
    assert max(sizes) < 1.2


def moving(supernet: Supernet) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in supernet.named_buffers()}


@pytest.mark.parametrize("name", [*SPACES, *LATER])
class TestExtract:
    """A sub-network and its extract are the same network."""

    def test_gives_the_same_logits_in_evaluation(self, name: str) -> None:
        supernet = trained(name).eval()
        x = images_for(supernet.space)
        with torch.no_grad():
            for arch in draws(supernet.space):
                assert torch.equal(supernet.extract(arch)(x), supernet(x, arch))

    def test_gives_the_same_logits_and_statistics_in_training(self, name: str) -> None:
        supernet = copy.deepcopy(trained(name)).train()
        x = images_for(supernet.space)
        for arch in draws(supernet.space):
            alone = supernet.extract(arch)
            assert alone.training
            assert torch.equal(alone(x), supernet(x, arch))
            again = supernet.extract(arch)
            for (key, buffer), other in zip(alone.named_buffers(), again.buffers(), strict=True):
                assert torch.equal(buffer, other), key

    def test_one_image_gives_the_same_logits(self, name: str) -> None:
        supernet = trained(name).eval()
        x = images_for(supernet.space)[:1]
        with torch.no_grad():
            for arch in draws(supernet.space):
                assert torch.equal(supernet.extract(arch)(x), supernet(x, arch))

    def test_loads_into_a_built_network(self, name: str) -> None:
        supernet = trained(name).eval()
        x = images_for(supernet.space)
        with torch.no_grad():
            for arch in draws(supernet.space):
                alone, built = supernet.extract(arch), build(arch).eval()
                built.load_state_dict(alone.state_dict(), strict=True)
                assert torch.equal(built(x), alone(x))

    def test_is_a_copy(self, name: str) -> None:
        supernet = copy.deepcopy(trained(name)).eval()
        x, arch = images_for(supernet.space), supernet.space.largest()
        alone = supernet.extract(arch)
        with torch.no_grad():
            before = alone(x)
            for tensor in [*supernet.parameters(), *supernet.buffers()]:
                tensor.zero_()
            assert torch.equal(alone(x), before)

    def test_has_all_that_the_plan_has(self, name: str) -> None:
        supernet = trained(name)
        for arch in draws(supernet.space):
            names = {key.rpartition(".")[0] for key, _ in supernet.extract(arch).named_parameters()}
            assert names == {layer.name for layer in plan(arch)}


class TestBatchNorm:
    """Statistics are kept apart for each precision and width."""

    def test_a_step_moves_only_its_own(self) -> None:
        torch.manual_seed(0)
        supernet = Supernet(rich_space(shortcut={"kind": "conv"})).train()
        before = moving(supernet)
        arch = supernet.space.smallest()  # one block a stage: 8 channels, groups of 4; then 16 in 2
        supernet(images_for(supernet.space), arch)
        moved = {name for name, buffer in moving(supernet).items() if not torch.equal(buffer, before[name])}
        norms = [
            "stems.8_3.norm",
            "stages.0.0.main.norms.binary_8", "stages.0.0.mix.norms.binary_8", "stages.0.0.shortcut.norms.8_8",
            "stages.1.0.main.norms.binary_8", "stages.1.0.mix.norms.binary_16", "stages.1.0.shortcut.norms.8_16",
            "head_norms.16",
        ]  # fmt: skip
        leaves = ("running_mean", "running_var", "num_batches_tracked")
        usages = {"stages.1.0.main.usage_2", "stages.1.0.mix.usage_2"}  # of the stage with two experts
        assert moved == {f"{norm}.{leaf}" for norm in norms for leaf in leaves} | usages

    def test_a_step_leaves_a_network_of_other_widths_as_it_was(self) -> None:
        torch.manual_seed(0)
        space = make_space(stem={"width": [8, 16]}, stage={"width": [16, 32], "depth": [1, 2], "kernel": [1, 3]})
        supernet = Supernet(space)
        x = images_for(space)
        other = make_arch(stem={"width": 16}, stage={"width": 32, "depth": 2})
        with torch.no_grad():
            before = supernet.eval()(x, other)
            supernet.train()(x, make_arch(stage={"width": 16, "depth": 2}))
            assert torch.equal(supernet.eval()(x, other), before)

    def test_a_step_leaves_the_same_network_of_other_precision_as_it_was(self) -> None:
        torch.manual_seed(0)
        supernet = Supernet(make_space(stage={"precision": ["binary", "weight", "real"]})).train()
        norms = first_unit(supernet, 0).norms
        supernet(images_for(supernet.space), make_arch(stage={"precision": "weight"}))
        assert {name: int(norm.get_buffer("num_batches_tracked")) for name, norm in norms.items()} == {
            "binary_8": 0, "weight_8": 1, "real_8": 0,
        }  # fmt: skip

    def test_evaluation_moves_nothing(self) -> None:
        supernet = trained("conv").eval()
        before = moving(supernet)
        for arch in draws(supernet.space):
            supernet(images_for(supernet.space), arch)
        assert all(torch.equal(buffer, before[name]) for name, buffer in moving(supernet).items())


class TestExperts:
    """Training starts with one expert, which is then given to all."""

    def test_any_network_runs_with_one_expert(self) -> None:
        supernet = trained("conv").eval()
        x = images_for(supernet.space)
        for arch in draws(supernet.space):
            one = arch.with_one_expert()
            with torch.no_grad():
                assert torch.equal(supernet(x, one), supernet.extract(one)(x))

    def test_all_experts_are_copies_of_the_first(self) -> None:
        supernet = copy.deepcopy(trained("repeat"))
        firsts = [m.weight[0].clone() for m in supernet.modules() if isinstance(m, SharedUnit)]
        supernet.copy_first_expert()
        weights = [m.weight for m in supernet.modules() if isinstance(m, SharedUnit)]
        assert max(len(weight) for weight in weights) == 4
        for first, weight in zip(firsts, weights, strict=True):
            assert all(torch.equal(expert, first) for expert in weight)

    def test_what_an_optimizer_knows_of_the_first_is_copied_too(self) -> None:
        supernet = copy.deepcopy(trained("repeat"))
        unit = max((m for m in supernet.modules() if isinstance(m, SharedUnit)), key=lambda m: len(m.weight))
        optimizer = torch.optim.AdamW([unit.weight], lr=0.1)
        unit.weight.grad = torch.zeros_like(unit.weight)
        unit.weight.grad[0] = 1.0
        optimizer.step()
        supernet.copy_first_expert([optimizer.state])
        unit.weight.grad.zero_()
        optimizer.step()  # by what it has gathered
        assert all(torch.equal(expert, unit.weight[0]) for expert in unit.weight)

    def test_after_the_copy_all_networks_compute_what_one_expert_did(self) -> None:
        supernet = copy.deepcopy(trained("repeat")).eval()
        supernet.copy_first_expert()
        x = images_for(supernet.space)
        many = supernet.space.largest()
        one = many.with_one_expert()
        assert {stage.experts for stage in many.stages} == {3, 4}
        with torch.no_grad():  # an expert sees its images only, and sums over a batch may be ordered by its size
            assert torch.allclose(supernet(x, many), supernet(x, one), atol=1e-4)

    def test_the_copy_keeps_the_gradient_of_the_weights(self) -> None:
        supernet = copy.deepcopy(trained("repeat"))
        supernet.copy_first_expert()
        supernet(images_for(supernet.space), supernet.space.largest()).sum().backward()
        grad = first_unit(supernet, 1).weight.grad
        assert grad is not None
        assert grad.abs().sum() > 0


class TestRealWeights:
    """A teacher computes with the latent weights; nobody else does after it."""

    def test_they_are_the_latent_weights(self) -> None:
        supernet = trained("conv").eval()
        x, arch = images_for(supernet.space), make_arch(
            stages=[{"width": 16, "precision": "weight"}, {"width": 16, "kernel": 5, "stride": 3, "experts": 2}],
            shortcut={"kind": "conv"}, squeeze_excite=True,
        )  # fmt: skip
        alone = supernet.extract(arch)
        for module in alone.modules():
            if isinstance(module, BinaryConv | ExpertConv):
                module.real_weights = True
        with torch.no_grad():
            taught = supernet(x, arch, real_weights=True)
            assert torch.equal(taught, alone(x))
            assert not torch.equal(taught, supernet(x, arch))

    def test_they_are_not_remembered(self) -> None:
        supernet = trained("repeat").eval()
        x, arch = images_for(supernet.space), supernet.space.smallest()
        with torch.no_grad():
            before = supernet(x, arch)
            supernet(x, arch, real_weights=True)
            assert torch.equal(supernet.extract(arch)(x), before)
            assert torch.equal(supernet(x, arch), before)


class TestModule:
    """The supernet is an ordinary module."""

    def test_its_weights_load_into_another(self) -> None:
        supernet = trained("bottleneck").eval()
        x = images_for(supernet.space)
        again = Supernet(supernet.space).eval()
        again.load_state_dict(supernet.state_dict())
        with torch.no_grad():
            for arch in draws(supernet.space):
                assert torch.equal(again(x, arch), supernet(x, arch))

    def test_a_copy_is_independent(self) -> None:
        supernet = trained("conv").eval()
        x, arch = images_for(supernet.space), supernet.space.largest()
        with torch.no_grad():
            before = supernet(x, arch)
            other = copy.deepcopy(supernet)
            other.classifier.weight.zero_()
            other.train()(x, arch)
            assert torch.equal(supernet(x, arch), before)

    def test_running_it_draws_no_random_number(self) -> None:
        supernet = copy.deepcopy(trained("repeat")).eval()
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        supernet(images_for(supernet.space), supernet.space.largest())
        supernet.extract(supernet.space.smallest())
        assert torch.equal(torch.rand(4), expected)

    def test_it_keeps_few_skeletons(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bnas.supernet.supernet.CAPACITY", 5)
        supernet = copy.deepcopy(trained("repeat")).eval()
        x = images_for(supernet.space)
        with torch.no_grad():
            for arch in draws(supernet.space):
                assert torch.equal(supernet(x, arch), supernet.extract(arch)(x))
        assert len(supernet._skeletons._parts) <= 5

    def test_skeletons_hold_no_weights(self) -> None:
        supernet = copy.deepcopy(trained("repeat")).eval()
        supernet(images_for(supernet.space), supernet.space.largest())
        parts = supernet._skeletons._parts.values()
        assert {p.device.type for part in parts for p in part.parameters()} == {"meta"}


def test_annealed_binarizers_share_no_weights() -> None:
    with pytest.raises(SpecError, match=r"binarizers\.weight: group is annealed, so it shares no weights with others"):
        Supernet(rich_space(binarizers={"weight": ["xnor", "group"]}))
    Supernet(rich_space(binarizers={"weight": "group"}))


def test_a_network_that_leaves_an_absent_stage_out_has_no_weights() -> None:
    space = make_space(stages=[{"depth": 1, "width": 8}, {"depth": [0, 1], "width": 8}, {"depth": 1, "width": 8}])
    whole, supernet = space.smallest(), Supernet(space)
    assert [stage.depth for stage in whole.stages] == [1, 0, 1]
    short = whole.model_copy(update={"stages": (whole.stages[0], whole.stages[2])})
    with pytest.raises(SpecError, match=r"^stages: the architecture has 2, the space 3; .* write one .* with depth 0"):
        supernet.extract(short)


def test_a_stage_that_is_always_real_decays_as_it_does_alone() -> None:
    space = make_space(stages=[{"depth": 1, "width": 8, "precision": "real"}, {"depth": 1, "width": 16}])
    supernet = Supernet(space)
    decayed, _ = groups_of(supernet, Stage(epochs=1, weight_decay=0.1))
    assert any(first_unit(supernet, 0).weight is weight for weight in decayed["params"])
    assert all(first_unit(supernet, 1).weight is not weight for weight in decayed["params"])
