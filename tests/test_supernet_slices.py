from typing import Any

import pytest
import torch
from spaces import make_arch, make_space
from torch import Tensor, nn

from bnas.errors import SpecError
from bnas.space.arch import BlockSpec
from bnas.space.values import sides
from bnas.supernet import Supernet
from bnas.supernet.shared import SharedUnit, block_diagonal, centre, matrix

STAGE: dict[str, Any] = {
    "width": [16, 32], "groups": [1, 2, 4], "experts": [1, 2, 4], "kernel": [1, 3, 5], "precision": ["binary", "weight"]
}  # fmt: skip
Place = tuple[int, ...]


def images() -> Tensor:
    return torch.randn(6, 3, 9, 7, generator=torch.Generator().manual_seed(1))


def gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def first_unit(supernet: Supernet) -> SharedUnit:
    unit = supernet.get_submodule("stages.0.0.main")
    assert isinstance(unit, SharedUnit)
    return unit


def naive_places(unit: BlockSpec, widest: int) -> list[tuple[Place, Place]]:
    """Return where each of a unit's weights lies in the shared weight: (place in the unit, place in the shared)."""
    places: list[tuple[Place, Place]] = []
    ins, outs, groups = unit.in_channels // unit.groups, unit.out_channels // unit.groups, unit.groups
    tall, wide = sides(unit.kernel)
    below, beside = (widest - tall) // 2, (widest - wide) // 2
    for expert in range(unit.experts):
        for out in range(unit.out_channels):
            group = out // outs
            assert group < groups
            for channel in range(ins):
                for row in range(tall):
                    for column in range(wide):
                        here = (expert, out, channel, row, column)
                        there = (expert, out, group * ins + channel, below + row, beside + column)
                        places.append((here, there))
    return places


def unit_of(**changes: Any) -> BlockSpec:
    (block,) = make_arch(stage=changes).blocks()[0]
    return block


class TestSlices:
    """Which of the shared weights a unit takes."""

    @pytest.mark.parametrize(
        "unit",
        [
            unit_of(), unit_of(groups=2), unit_of(groups=8), unit_of(kernel=1), unit_of(kernel=5, groups=4),
            unit_of(experts=3), unit_of(experts=2, groups=4, kernel=1), unit_of(kernel="1x3"),
            unit_of(groups=2, kernel="5x1"),
        ],
    )  # fmt: skip
    def test_equal_naive_loops(self, unit: BlockSpec) -> None:
        shared = torch.randn(3, 24, 16, 5, 5)
        taken = centre(shared[: unit.experts, : unit.out_channels, : unit.in_channels], unit.kernel)
        taken = block_diagonal(taken, unit.groups)
        assert taken.shape == (unit.experts, 16, 8 // unit.groups, *sides(unit.kernel))
        places = naive_places(unit, 5)
        assert len(places) == taken.numel()
        assert all(taken[here] == shared[there] for here, there in places)

    def test_a_grouped_conv_is_a_dense_one_with_zeros_off_the_diagonal(self) -> None:
        dense, x = torch.randn(1, 12, 8, 3, 3), torch.randn(2, 8, 5, 5)
        masked = torch.zeros_like(dense)
        for group in range(4):
            rows, columns = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
            masked[:, rows, columns] = dense[:, rows, columns]
        grouped = nn.functional.conv2d(x, block_diagonal(dense, 4)[0], padding=1, groups=4)
        assert torch.allclose(grouped, nn.functional.conv2d(x, masked[0], padding=1), atol=1e-5)

    def test_a_kernel_as_wide_as_the_shared_one_is_all_of_it(self) -> None:
        weight = torch.randn(2, 3, 3, 5, 5)
        assert centre(weight, 5) is weight
        assert torch.equal(centre(weight, 1), weight[..., 2:3, 2:3])


class TestGradients:
    """A step touches what its sub-network uses, and nothing else."""

    @pytest.mark.parametrize(
        "choice",
        [
            {"width": 16}, {"width": 32, "groups": 4}, {"width": 16, "kernel": 1}, {"width": 16, "kernel": 5},
            {"width": 16, "experts": 2, "groups": 2}, {"width": 32, "experts": 4, "kernel": 3, "precision": "weight"},
        ],
    )  # fmt: skip
    def test_they_reach_only_the_used_slices(self, choice: dict[str, Any]) -> None:
        torch.manual_seed(0)
        supernet = Supernet(make_space(stem={"width": [8, 16]}, stage=STAGE))
        arch = make_arch(stage=choice)
        alone = supernet.extract(arch)
        x = images()
        for logits in (alone(x), supernet(x, arch)):
            logits.square().sum().backward()
        unit = arch.blocks()[0][0]
        shared = first_unit(supernet).weight
        own = gradient(alone.get_parameter("stages.0.0.main.conv.weight"))
        own = own if unit.experts > 1 else own[None]
        expected = torch.zeros_like(shared)
        for here, there in naive_places(unit, 5):
            expected[there] = own[here]
        assert own.abs().sum() > 0
        assert torch.equal(gradient(shared), expected)

    def test_they_reach_no_variant_of_another_choice(self) -> None:
        torch.manual_seed(0)
        supernet = Supernet(make_space(stem={"width": [8, 16]}, stage=STAGE, shortcut={"kind": "conv"}))
        arch = make_arch(stage={"width": 16, "groups": 2, "experts": 2}, shortcut={"kind": "conv"})
        supernet(images(), arch).square().sum().backward()
        touched = {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}
        main, mix, block = "stages.0.0.main", "stages.0.0.mix", "stages.0.0"
        norms = {"stems.8_3.norm", f"{main}.norms.binary_8", f"{mix}.norms.binary_16", "head_norms.16"}
        norms |= {f"{block}.shortcut.norms.8_16"}
        assert touched == {
            "stems.8_3.conv.weight", f"{block}.shortcut.conv.weight", "classifier.weight", "classifier.bias",
            f"{main}.weight", f"{main}.slope", f"{main}.gate.weight", f"{main}.gate.bias",
            f"{main}.alphas.binary_8_16_2_3",
            f"{mix}.weight", f"{mix}.slope", f"{mix}.gate.weight", f"{mix}.gate.bias",
            f"{mix}.alphas.binary_16_16_1_1",
            *(f"{norm}.{leaf}" for norm in norms for leaf in ("weight", "bias")),
        }  # fmt: skip

    def test_narrow_networks_leave_the_rest_of_what_is_shared(self) -> None:
        torch.manual_seed(0)
        supernet = Supernet(make_space(stem={"width": [8, 16]}, stage=STAGE, squeeze_excite=True))
        arch = make_arch(stage={"width": 16, "experts": 2}, squeeze_excite=True)
        alone = supernet.extract(arch)
        for logits in (alone(images()), supernet(images(), arch)):
            logits.square().sum().backward()
        narrow = {  # of the shared parameter, what a network of 8 -> 16 channels and two experts uses
            "slope": ("act.weight", (slice(16),)),
            "gate.weight": ("conv.gate.weight", (slice(2), slice(8))),
            "gate.bias": ("conv.gate.bias", (slice(2),)),
            "excite.squeeze.weight": ("excite.squeeze.weight", (slice(16 // 8), slice(8))),
            "excite.expand.weight": ("excite.expand.weight", (slice(16), slice(16 // 8))),
        }
        unit = first_unit(supernet)
        for name, (plain, used) in narrow.items():
            grad = gradient(unit.get_parameter(name))
            expected = torch.zeros_like(grad)
            expected[used] = gradient(alone.get_parameter(f"stages.0.0.main.{plain}"))
            assert torch.equal(grad, expected), name
        classifier = gradient(supernet.classifier.weight)
        assert torch.equal(classifier[:, :16], gradient(alone.get_parameter("head.classifier.weight")))
        assert classifier[:, 16:].abs().sum() == 0


@pytest.mark.parametrize("batch", [1, 7])
def test_a_slice_of_a_matrix_multiplies_as_its_copy_does(batch: int) -> None:
    # On some processors these sizes sum in another order where rows lie apart.
    weight, x = torch.randn(264, 379), torch.randn(batch, 150)
    taken = matrix(weight, 13, 150)
    assert torch.equal(taken, weight[:13, :150])
    assert torch.equal(nn.functional.linear(x, taken), nn.functional.linear(x, taken.detach().clone()))


@pytest.mark.parametrize("change", [{"depth": 3}, {"width": 12}, {"kernel": 5}])
def test_of_what_is_not_in_the_space_no_network_is_made(change: dict[str, Any]) -> None:
    supernet = Supernet(make_space(stage={"depth": [1, 2], "width": [8, 16], "kernel": [1, 3]}))
    with pytest.raises(SpecError, match=r"stages|deeper"):
        supernet.extract(make_arch(stage={"width": 8} | change))
