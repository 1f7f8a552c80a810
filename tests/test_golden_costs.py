"""Published counts, to the digit, with the arithmetic written out."""

import itertools
from functools import cache
from pathlib import Path

import pytest
import torch

from bnas.cost.plan import plan
from bnas.cost.totals import Cost, by_stage, cost
from bnas.cost.trace.trace_model import trace
from bnas.networks.build import build
from bnas.networks.models import MODELS, build_model
from bnas.space.arch import Architecture

EXPERT_NET = Architecture.read(Path(__file__).parents[1] / "architectures" / "expert_net.yaml")


@cache
def cost_of(name: str, precision: str = "real", last: str | None = None) -> Cost:
    with torch.device("meta"):
        model = build_model(name, precision=precision, last=last)
    return cost(trace(model, MODELS[name].input).layers)


class TestAlexNet:
    """Prabhu et al., Hybrid Binary Networks (arXiv:1804.03867), table of AlexNet.

    Their op counts take the last layer as binary in every column; their memory takes it as real but in the last.
    """

    conv1 = 96 * 3 * 11 * 11 * 55 * 55
    conv2 = 256 * 96 * 5 * 5 * 27 * 27
    conv3_to_5 = (384 * 256 + 384 * 384 + 256 * 384) * 3 * 3 * 13 * 13
    fc6, fc7, fc8 = 9216 * 4096, 4096 * 4096, 4096 * 1000
    weights_conv1 = 96 * 3 * 11 * 11
    weights_between = 256 * 96 * 5 * 5 + (384 * 256 + 384 * 384 + 256 * 384) * 3 * 3 + fc6 + fc7

    def test_real(self) -> None:
        made = cost_of("alexnet")
        assert made.ops == self.conv1 + self.conv2 + self.conv3_to_5 + self.fc6 + self.fc7 + self.fc8
        assert round(made.ops / 1e6, 2) == 1135.26

    def test_all_binary(self) -> None:
        made = cost_of("alexnet", "binary", last="binary")
        assert made.ops == self.conv1 + (self.conv2 + self.conv3_to_5 + self.fc6 + self.fc7 + self.fc8) / 64
        assert round(made.ops / 1e6, 2) == 121.51

    def test_hybrid_keeps_real_inputs_of_fc6_and_fc7(self) -> None:
        made = cost_of("alexnet", "hybrid", last="binary")
        assert made.ops == self.conv1 + self.fc6 + self.fc7 + (self.conv2 + self.conv3_to_5 + self.fc8) / 64
        assert round(made.ops / 1e6, 2) == 175.18

    @pytest.mark.parametrize("preset", ["weight", "binary", "hybrid", "hybrid-last"])
    def test_memory_with_a_real_last_layer(self, preset: str) -> None:
        real = self.weights_conv1 + self.fc8
        total = real + self.weights_between
        made = cost_of("alexnet", preset)
        assert made.weight_saving == 32 * total / (32 * real + self.weights_between)
        assert round(made.weight_saving, 2) == 10.48

    def test_memory_with_a_binary_last_layer(self) -> None:
        real, binary = self.weights_conv1, self.weights_between + self.fc8
        made = cost_of("alexnet", "hybrid", last="weight")
        assert made.weight_saving == 32 * (real + binary) / (32 * real + binary)
        assert round(made.weight_saving, 2) == 31.46


class TestResNet:
    """He et al. (arXiv:1512.03385); the same paper on hybrids; Liu et al., Bi-Real Net (arXiv:1808.00278), table 4."""

    conv1 = 64 * 3 * 7 * 7 * 112 * 112
    # 3x3 of 64 channels at 56x56; each stage halves the sides and doubles the channels, so a convolution costs the same
    same = 64 * 64 * 3 * 3 * 56 * 56
    shortcuts = 3 * 128 * 64 * 28 * 28
    fc = 512 * 1000

    def three_by_three(self, depths: tuple[int, ...]) -> int:
        """Return the MACs of all 3x3: the first of a stage that halves the sides costs half."""
        return sum(2 * depth * self.same - (self.same // 2 if stage else 0) for stage, depth in enumerate(depths))

    @pytest.mark.parametrize(
        ("name", "depths", "published"), [("resnet18", (2, 2, 2, 2), 1.81e9), ("resnet34", (3, 4, 6, 3), 3.66e9)]
    )
    def test_real(self, name: str, depths: tuple[int, ...], published: float) -> None:
        made = cost_of(name)
        assert made.ops == self.conv1 + self.three_by_three(depths) + self.shortcuts + self.fc
        assert float(f"{made.ops:.3g}") == published

    @pytest.mark.parametrize(
        ("name", "depths", "published"),
        [
            ("resnet18", (2, 2, 2, 2), 11_689_512),
            ("resnet34", (3, 4, 6, 3), 21_797_672),
            ("resnet18_cifar", (2, 2, 2, 2), 11_173_962),
        ],
    )
    def test_parameters(self, name: str, depths: tuple[int, ...], published: int) -> None:
        # as the model zoos print them: weights, the classifier's biases, and two values a channel of batch norm
        stem, classes = (3 * 64 * 3 * 3, 10) if name == "resnet18_cifar" else (3 * 64 * 7 * 7, 1000)
        total = stem + 2 * 64 + 513 * classes
        for before, width, depth in zip((64, 64, 128, 256), (64, 128, 256, 512), depths, strict=True):
            total += 9 * before * width + (2 * depth - 1) * 9 * width**2 + 2 * depth * 2 * width
            total += before * width + 2 * width if before != width else 0
        made = cost_of(name)
        assert made.parameters == total == published
        assert made.float32_bytes == made.bytes == 4 * total

    def test_binary_resnet20_for_small_images(self) -> None:
        # table 6 there: 0.27M parameters; 1.07M ops in the tables of binary networks on CIFAR-10
        made = cost_of("resnet20_cifar", "binary")
        stages = [(16, 16, 32), (16, 32, 16), (32, 64, 8)]
        inner = sum(9 * side**2 * (before * width + 5 * width**2) for before, width, side in stages)
        assert made.bops == inner == 40_108_032
        assert made.flops == 3 * 16 * 9 * 32**2 + 64 * 10 == 443_008
        assert round(made.ops / 1e6, 2) == 1.07
        real = cost_of("resnet20_cifar")
        assert real.ops == inner + made.flops
        convs = 3 * 16 * 9 + sum(9 * (before * width + 5 * width**2) for before, width, _ in stages)
        assert real.parameters == convs + 2 * (7 * 16 + 6 * 32 + 6 * 64) + 65 * 10 == 269_722

    def test_real_resnet18_in_millions(self) -> None:
        assert round(cost_of("resnet18").ops / 1e6) == 1814

    def test_binary_resnet18(self) -> None:
        made = cost_of("resnet18", "binary")
        assert made.bops == self.three_by_three((2, 2, 2, 2)) == 1_676_279_808
        assert made.flops == self.conv1 + self.shortcuts + self.fc
        assert int(made.ops / 1e6) == 163  # Bi-Real Net: 1.63e8

    def test_binary_resnet34(self) -> None:
        assert float(f"{cost_of('resnet34', 'binary').ops:.3g}") == 1.93e8  # Bi-Real Net

    @pytest.mark.parametrize(("last", "published"), [("real", 13.42), ("weight", 31.22)])
    def test_memory_of_resnet18(self, last: str, published: float) -> None:
        first, fc = 64 * 3 * 7 * 7, 512 * 1000
        shortcuts = 64 * 128 + 128 * 256 + 256 * 512
        widths = (64, 64, 128, 256, 512)
        inner = shortcuts + sum(9 * (a * b + 3 * b * b) for a, b in itertools.pairwise(widths))
        real, binary = (first + fc, inner) if last == "real" else (first, inner + fc)
        made = cost_of("resnet18", "hybrid", last=last)
        assert made.weight_saving == 32 * (real + binary) / (32 * real + binary)
        assert round(made.weight_saving, 2) == published


class TestFinn:
    """Umuroglu et al., FINN (arXiv:1612.07119): networks whose every weight is one bit."""

    # ins, outs, side of the output: 3x3 without padding, so each convolution takes two off
    convs = ((64, 64, 28), (64, 128, 12), (128, 128, 10), (128, 256, 3), (256, 256, 1))
    dense = 256 * 512 + 512 * 512 + 512 * 10

    def test_cnv(self) -> None:
        made = cost_of("cnv", "binary")
        assert made.flops == made.mixed_flops == 3 * 64 * 9 * 30**2 == 1_555_200
        inner = sum(9 * ins * outs * side**2 for ins, outs, side in self.convs)
        assert made.bops == inner + self.dense == 57_906_176
        assert round(made.ops / 1e6, 2) == 2.46

    def test_cnv_has_193_kilobytes_of_weights(self) -> None:
        made = cost_of("cnv", "binary")
        weights = 9 * (3 * 64 + sum(ins * outs for ins, outs, _ in self.convs)) + self.dense
        assert made.weights == made.binary_weights == weights == 1_542_848
        assert round(weights / 8 / 1000) == 193
        filters = 2 * (64 + 128 + 256) + 2 * 512
        # a scale a filter, the classifier's too; a norm after each layer, one more after the first; biases
        assert made.parameters == weights + (filters + 10) + 2 * (filters + 64) + 10

    @pytest.mark.parametrize(
        ("name", "hidden", "bops"), [("tfc", 64, 59_008), ("sfc", 256, 334_336), ("lfc", 1024, 2_910_208)]
    )
    def test_fully_connected(self, name: str, hidden: int, bops: int) -> None:
        made = cost_of(name, "binary")
        assert made.bops == 784 * hidden + 2 * hidden**2 + 10 * hidden == bops
        assert made.flops == 0
        assert made.weights == made.binary_weights == bops
        scales, norms = 3 * hidden + 10, 3 * 2 * hidden
        assert made.parameters == bops + scales + norms + 10
        assert made.bytes == bops // 8 + 4 * (scales + norms + 10)


class TestExpertNetwork:
    """Bulat et al., High-Capacity Expert Binary Networks (arXiv:2010.03558), table 1: 1.7e9 BOPs."""

    def test_bops(self) -> None:
        stages = [(64, 128, 4, 1, 56), (128, 256, 8, 2, 28), (256, 512, 8, 6, 14), (512, 1024, 16, 2, 7)]
        bops = 0
        for before, width, groups, blocks, side in stages:
            first = before * width // groups * 9 * side**2
            others = (2 * blocks - 1) * width * width // groups * 9 * side**2
            mixing = blocks * width * width * side**2
            bops += first + others + mixing
        assert cost(plan(EXPERT_NET)).bops == bops == 1_706_786_816
        assert float(f"{bops:.2g}") == 1.7e9

    def test_experts_cost_no_more_bops_but_four_times_the_weights(self) -> None:
        four, one = cost(plan(EXPERT_NET)), cost(plan(EXPERT_NET.with_one_expert()))
        assert four.bops == one.bops
        assert four.binary_weights == 4 * one.binary_weights
        gates = sum(layer.macs for layer in plan(EXPERT_NET) if layer.role == "gate")
        assert four.flops == one.flops + gates

    def test_the_built_network_is_the_planned_one(self) -> None:
        with torch.device("meta"):
            network = build(EXPERT_NET)
        assert trace(network, EXPERT_NET.input).layers == plan(EXPERT_NET)


class TestGoogLeNet:
    """Szegedy et al. (arXiv:1409.4842), table 1, in millions; conv1, 4a and 5a there do not follow from its sizes."""

    published = {  # noqa: RUF012 (read only)
        "inception3a": 128, "inception3b": 304, "inception4b": 88, "inception4c": 100, "inception4d": 119,
        "inception4e": 170, "inception5b": 71, "fc": 1,
    }  # fmt: skip

    def test_parts(self) -> None:
        with torch.device("meta"):
            parts = by_stage(trace(build_model("googlenet"), MODELS["googlenet"].input).layers)
        assert {name: round(parts[name].ops / 1e6) for name in self.published} == self.published
        assert round((parts["conv2_reduce"] + parts["conv2"]).ops / 1e6) == 360
        one, three, five, pool = 192 * 64, 192 * 96 + 96 * 128 * 9, 192 * 16 + 16 * 32 * 25, 192 * 32
        assert parts["inception3a"].ops == (one + three + five + pool) * 28 * 28


class TestOthers:
    """Parameters and operations that other papers print."""

    def test_vgg_small(self) -> None:
        # 0.61e9 FLOPs real and 0.013e9 OPs binary in the tables of binary networks on CIFAR-10
        first, fc = 3 * 128 * 9 * 32**2, 512 * 4 * 4 * 10
        inner = 9 * (128 * 128 * 32**2 + (128 + 256) * 256 * 16**2 + (256 + 512) * 512 * 8**2)
        assert cost_of("vgg_small").ops == first + inner + fc
        assert cost_of("vgg_small", "binary").ops == first + inner / 64 + fc
        assert [round(cost_of("vgg_small", p).ops / 1e9, 3) for p in ("real", "binary")] == [0.608, 0.013]

    def test_wide_resnet_has_36_5_million_parameters(self) -> None:
        # Zagoruyko and Komodakis, table 4
        made = cost_of("wrn28_10")
        convs = 27 * 16 + sum(
            9 * a * b + 7 * 9 * b * b + a * b for a, b in ((16, 160), (160, 320), (320, 640))
        )  # fmt: skip
        norms = 2 * (16 + 160) + 2 * 6 * 160 + 2 * (160 + 320) + 2 * 6 * 320 + 2 * (320 + 640) + 2 * 6 * 640 + 2 * 640
        assert made.weights == convs + 640 * 10
        groups = ((16, 160, 32), (160, 320, 16), (320, 640, 8))
        macs = sum((9 * a * b + 7 * 9 * b * b + a * b) * side**2 for a, b, side in groups)
        assert made.ops == 27 * 16 * 32**2 + macs + 640 * 10 == 5_243_328_768
        assert made.parameters == convs + norms + 641 * 10 == 36_479_194
        assert round(made.parameters / 1e6, 1) == 36.5

    def test_sketch_a_net_has_8_5_million_parameters(self) -> None:
        # Yu et al., section 4: 8.5 million
        convs = 64 * 15**2 + 64 * 128 * 5**2 + (128 * 256 + 2 * 256 * 256) * 9
        assert cost_of("sketch_a_net").weights == convs + 256 * 7**2 * 512 + 512 * 512 + 512 * 250
        assert round(cost_of("sketch_a_net").weights / 1e6, 1) == 8.5

    def test_squeezenet_has_the_parameters_of_its_table_part_by_part(self) -> None:
        # Iandola et al., table 1, with a bias for each filter where ours has batch norm
        with torch.device("meta"):
            parts = by_stage(trace(build_model("squeezenet"), MODELS["squeezenet"].input).layers)
        fires = [squeeze + 2 * (4 * squeeze) for squeeze in (16, 16, 32, 32, 48, 48, 64, 64)]
        published = [14_208, 11_920, 12_432, 45_344, 49_440, 104_880, 111_024, 188_992, 197_184, 513_000]
        assert list(parts) == ["conv1", *(f"fire{index}" for index in range(2, 10)), "conv10"]
        assert [
            part.weights + biases for part, biases in zip(parts.values(), (96, *fires, 1000), strict=True)
        ] == published
        assert sum(published) == 1_248_424

    def test_lenet(self) -> None:
        conv1, conv2, fc3, fc4 = 25 * 32, 25 * 32 * 64, 64 * 4 * 4 * 512, 512 * 10
        assert cost_of("lenet5").ops == conv1 * 24**2 + conv2 * 8**2 + fc3 + fc4
        real, binary = conv1 + fc4, conv2 + fc3
        assert cost_of("lenet5", "weight").weight_saving == 32 * (real + binary) / (32 * real + binary)
