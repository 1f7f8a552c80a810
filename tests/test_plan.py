import pytest
from spaces import make_arch

from bnas.cost.plan import PlannedLayer, narrowed, plan, scale_values, squeezed
from bnas.space.arch import Architecture
from bnas.space.values import shrunk

HEIGHT, WIDTH = 9, 7  # of the images of make_arch
HALF = 5, 4  # after a stride of 2, rounded up


def by_name(arch: Architecture) -> dict[str, PlannedLayer]:
    layers = {layer.name: layer for layer in plan(arch)}
    assert len(layers) == len(plan(arch)), "two layers of one name"
    return layers


def conv_macs(ins: int, outs: int, kernel: int, size: tuple[int, int], *, groups: int = 1) -> int:
    return outs * (ins // groups) * kernel * kernel * size[0] * size[1]


class TestBlock:
    """One block of 8 -> 16 channels at stride 2, counted by hand."""

    def test_plain(self) -> None:
        layers = by_name(make_arch(stage={"stride": 2}))
        assert list(layers) == [
            "stem.conv", "stem.norm",
            "stages.0.0.main.norm", "stages.0.0.main.conv", "stages.0.0.main.act",
            "head.norm", "head.classifier",
        ]  # fmt: skip
        conv = layers["stages.0.0.main.conv"]
        assert (conv.role, conv.kind, conv.precision) == ("main", "conv", "binary")
        assert (conv.in_size, conv.out_size) == ((HEIGHT, WIDTH), HALF)
        assert (conv.kernel, conv.stride) == ((3, 3), (2, 2))
        assert conv.macs == conv.bops == 16 * (8 * 3 * 3) * (5 * 4)
        assert conv.weights == 16 * 8 * 3 * 3
        assert conv.bytes == conv.weights // 8 + 4 * 16  # one scale a filter

    def test_its_norm_sees_the_input_and_its_activation_the_output(self) -> None:
        layers = by_name(make_arch(stage={"stride": 2}))
        norm, act = layers["stages.0.0.main.norm"], layers["stages.0.0.main.act"]
        assert (norm.out_channels, norm.out_size, norm.real_values) == (8, (HEIGHT, WIDTH), 2 * 8)
        assert (act.out_channels, act.out_size, act.real_values) == (16, HALF, 16)
        assert norm.macs == act.macs == norm.weights == act.weights == 0

    @pytest.mark.parametrize("precision", ["real", "weight"])
    def test_real_inputs_are_flops(self, precision: str) -> None:
        conv = by_name(make_arch(stage={"precision": precision}))["stages.0.0.main.conv"]
        assert (conv.bops, conv.flops) == (0, conv_macs(8, 16, 3, (HEIGHT, WIDTH)))
        weights = 16 * 8 * 3 * 3
        assert conv.bytes == (4 * weights if precision == "real" else weights // 8 + 4 * 16)

    def test_a_max_pooling_takes_the_stride_from_the_convolution(self) -> None:
        layers = by_name(make_arch(stage={"stride": 2, "downsample": "max_pool"}, shortcut={"kind": "conv"}))
        conv, act = layers["stages.0.0.main.conv"], layers["stages.0.0.main.act"]
        assert (conv.in_size, conv.out_size, conv.stride) == ((HEIGHT, WIDTH), (HEIGHT, WIDTH), (1, 1))
        assert conv.bops == 16 * (8 * 3 * 3) * (9 * 7)
        assert (act.in_size, layers["stages.0.0.main.shortcut.conv"].in_size) == (HALF, HALF)
        assert not [name for name in layers if "pool" in name]

    def test_repeat_shortcut_costs_nothing(self) -> None:
        layers = by_name(make_arch(stage={"stride": 2}, shortcut={"kind": "repeat"}))
        assert not [name for name in layers if "shortcut" in name]

    def test_conv_shortcut(self) -> None:
        layers = by_name(make_arch(stage={"stride": 2}, shortcut={"kind": "conv"}))
        conv, norm = layers["stages.0.0.main.shortcut.conv"], layers["stages.0.0.main.shortcut.norm"]
        assert (conv.role, conv.precision) == ("shortcut", "real")
        assert (conv.in_size, conv.out_size) == (HALF, HALF)  # pooled before
        assert conv.macs == conv.flops == 16 * 8 * (5 * 4)
        assert conv.bytes == 4 * 16 * 8
        assert norm.real_values == 2 * 16

    @pytest.mark.parametrize(("reduction", "hidden"), [(4, 2), (3, 2), (100, 1)])
    def test_bottleneck_shortcut(self, reduction: int, hidden: int) -> None:
        layers = by_name(make_arch(stage={"stride": 2}, shortcut={"kind": "bottleneck", "reduction": reduction}))
        shortcut = [layer for name, layer in layers.items() if ".shortcut." in name]
        assert [layer.name.partition(".shortcut.")[2] for layer in shortcut] == [
            "reduce.conv", "reduce.norm", "reduce.act", "expand.conv", "expand.norm", "expand.act",
        ]  # fmt: skip
        assert [layer.flops for layer in shortcut] == [hidden * 8 * 20, 0, 0, 16 * hidden * 20, 0, 0]
        assert [layer.real_values for layer in shortcut] == [0, 2 * hidden, hidden, 0, 2 * 16, 16]

    @pytest.mark.parametrize("kind", ["repeat", "conv", "bottleneck"])
    def test_a_shortcut_that_changes_nothing_has_no_layers(self, kind: str) -> None:
        same = make_arch(stage={"width": 8, "stride": 1}, shortcut={"kind": kind})
        assert not [layer for layer in plan(same) if layer.role == "shortcut"]

    def test_only_the_first_block_of_a_stage_has_stride_and_shortcut(self) -> None:
        layers = plan(make_arch(stage={"stride": 2, "depth": 3}, shortcut={"kind": "conv"}))
        assert [layer.name for layer in layers if layer.role == "shortcut"] == ["stages.0.0.main.shortcut.conv"]
        mains = [layer for layer in layers if layer.role == "main"]
        assert [layer.stride for layer in mains] == [(2, 2), (1, 1), (1, 1)]
        assert [layer.in_channels for layer in mains] == [8, 16, 16]
        assert {layer.out_size for layer in mains} == {HALF}

    def test_groups_divide_macs_and_end_with_a_mixing_conv(self) -> None:
        layers = by_name(make_arch(stage={"stride": 2, "groups": 4}, shortcut={"kind": "conv"}))
        main, mix = layers["stages.0.0.main.conv"], layers["stages.0.0.mix.conv"]
        assert main.bops == 16 * (8 // 4 * 3 * 3) * (5 * 4)
        assert main.weights == 16 * (8 // 4 * 3 * 3)
        assert (mix.role, mix.groups, mix.kernel, mix.stride) == ("mix", 1, (1, 1), (1, 1))
        assert mix.bops == 16 * 16 * (5 * 4)
        assert layers["stages.0.0.mix.norm"].real_values == 2 * 16
        assert layers["stages.0.0.mix.act"].real_values == 16
        assert not [name for name in layers if "mix.shortcut" in name]  # it goes round as it is

    @pytest.mark.parametrize(("every", "mixed"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3]), (3, [2]), (5, [4]), (6, [])])
    def test_groups_are_mixed_after_every_so_many_blocks(self, every: int, mixed: list[int]) -> None:
        arch = make_arch(stage={"depth": 5, "groups": 2}, mix_every=every)
        names = [layer.name for layer in plan(arch) if layer.role == "mix"]
        assert names == [f"stages.0.{block}.mix.conv" for block in mixed]

    def test_one_group_needs_no_mixing(self) -> None:
        assert not [layer for layer in plan(make_arch()) if layer.role == "mix"]

    def test_experts_multiply_weights_but_not_macs(self) -> None:
        one, four = (by_name(make_arch(stage={"experts": n})) for n in (1, 4))
        name = "stages.0.0.main.conv"
        assert four[name].bops == one[name].bops
        assert four[name].weights == 4 * one[name].weights
        assert four[name].bytes == 4 * (16 * 8 * 9) // 8 + 4 * (4 * 16)  # each expert has its own scales
        gate = four[f"{name}.gate"]
        assert (gate.role, gate.kind, gate.precision) == ("gate", "linear", "real")
        assert (gate.flops, gate.weights, gate.bytes) == (8 * 4, 8 * 4, 4 * (8 * 4 + 4))
        assert f"{name}.gate" not in one

    def test_the_mixing_conv_has_experts_too(self) -> None:
        layers = by_name(make_arch(stage={"experts": 3, "groups": 2}))
        assert layers["stages.0.0.mix.conv"].weights == 3 * 16 * 16
        assert layers["stages.0.0.mix.conv.gate"].flops == 16 * 3

    def test_squeeze_excite_is_two_linear_layers_a_conv(self) -> None:
        layers = by_name(make_arch(stage={"groups": 2}, squeeze_excite=True))
        excite = {name: layer for name, layer in layers.items() if layer.role == "squeeze_excite"}
        assert {name: layer.flops for name, layer in excite.items()} == {
            "stages.0.0.main.excite.squeeze": 8 * (16 // 8),
            "stages.0.0.main.excite.expand": (16 // 8) * 16,
            "stages.0.0.mix.excite.squeeze": 16 * (16 // 8),
            "stages.0.0.mix.excite.expand": (16 // 8) * 16,
        }
        assert {layer.real_values for layer in excite.values()} == {0}  # no bias

    @pytest.mark.parametrize("kernel", [1, 3, 5, 31])
    def test_the_kernel_side_enters_squared(self, kernel: int) -> None:
        conv = by_name(make_arch(stage={"kernel": kernel}))["stages.0.0.main.conv"]
        assert conv.bops == 16 * 8 * kernel**2 * HEIGHT * WIDTH
        assert conv.out_size == (HEIGHT, WIDTH)


class TestStemAndHead:
    """The real layers at both ends."""

    def test_one_conv(self) -> None:
        layers = by_name(make_arch(stem={"width": 8, "kernel": 5, "stride": 2}))
        conv = layers["stem.conv"]
        assert (conv.role, conv.precision) == ("stem", "real")
        assert conv.flops == 8 * (3 * 5 * 5) * (5 * 4)
        assert layers["stem.norm"].real_values == 2 * 8

    def test_branched(self) -> None:
        arch = make_arch(stem={"kind": "branched", "width": 8, "stride": 4}, input=[3, 30, 25])
        flops = {layer.name: layer.flops for layer in plan(arch) if layer.role == "stem"}
        half, quarter = 15 * 13, 8 * 7  # positions after strides of 2 and of 4, rounded up
        assert flops == {
            "stem.first.conv": 4 * (3 * 3 * 3) * half,
            "stem.branch.0.conv": 2 * 4 * half,
            "stem.branch.1.conv": 4 * (2 * 3 * 3) * quarter,
            "stem.join.conv": 8 * 8 * quarter,
        }
        assert by_name(arch)["stages.0.0.main.conv"].in_size == (8, 7)

    @pytest.mark.parametrize(("kernel", "block"), [(1, 2), (3, 2), (1, 4)])
    def test_space_to_depth(self, kernel: int, block: int) -> None:
        layers = by_name(make_arch(stem={"kind": "space_to_depth", "width": 8, "kernel": kernel, "stride": block}))
        conv, size = layers["stem.conv"], shrunk((HEIGHT, WIDTH), block)
        assert (conv.role, conv.precision, conv.in_size, conv.out_size) == ("stem", "real", size, size)
        assert conv.flops == 8 * (3 * block**2 * kernel**2) * (size[0] * size[1])
        assert layers["stages.0.0.main.conv"].in_size == size

    def test_space_to_depth_reads_each_pixel_once(self) -> None:
        usual, depth = (
            make_arch(input=[3, 32, 32], stem={"kind": kind, "width": 8, "kernel": kernel, "stride": 2})
            for kind, kernel in (("conv", 3), ("space_to_depth", 1))
        )
        assert by_name(usual)["stem.conv"].flops / by_name(depth)["stem.conv"].flops == 9 / 4

    @pytest.mark.parametrize("levels", [1, 8])
    @pytest.mark.parametrize(("weight", "values"), [("xnor", 8), ("alpha_beta", 16)])
    def test_thermometer(self, levels: int, weight: str, values: int) -> None:
        stem = {"kind": "thermometer", "width": 8, "kernel": 3, "stride": 2, "levels": levels}
        layers = by_name(make_arch(stem=stem, binarizers={"weight": weight}))
        conv, thresholds = layers["stem.conv"], layers["stem.thresholds"]
        assert (conv.role, conv.precision) == ("stem", "binary")
        assert conv.bops == 8 * (3 * levels * 3 * 3) * (5 * 4)
        assert conv.flops == 0
        assert (conv.weights, conv.real_values) == (8 * 3 * levels * 3 * 3, values)
        assert (thresholds.in_channels, thresholds.out_channels, thresholds.real_values) == (3, 3 * levels, 3 * levels)

    def test_a_network_with_a_thermometer_has_no_real_macs_but_the_classifiers(self) -> None:
        arch = make_arch(stem={"kind": "thermometer", "width": 8, "levels": 4})
        assert [layer.name for layer in plan(arch) if layer.flops] == ["head.classifier"]

    def test_head(self) -> None:
        classifier = by_name(make_arch())["head.classifier"]
        assert (classifier.flops, classifier.weights, classifier.real_values) == (16 * 5, 16 * 5, 5)
        assert by_name(make_arch())["head.norm"].real_values == 2 * 16


class TestPublished:
    """Networks whose op counts are in the literature."""

    def test_binary_resnet18(self) -> None:
        # All 3x3 convolutions of ResNet-18 binary: four to a stage, one shortcut round each.
        stages = [{"width": w, "stride": s, "depth": 4} for w, s in ((64, 1), (128, 2), (256, 2), (512, 2))]
        arch = make_arch(input=[3, 224, 224], classes=1000, stem={"width": 64, "kernel": 7, "stride": 4}, stages=stages)
        assert sum(layer.bops for layer in plan(arch)) == 1_676_279_808

    @staticmethod
    def expert_network() -> Architecture:
        shapes = zip((128, 256, 512, 1024), (4, 8, 8, 16), (1, 2, 2, 2), (2, 4, 12, 4), strict=True)
        return make_arch(
            input=[3, 224, 224],
            classes=1000,
            stem={"kind": "branched", "width": 64, "stride": 4},
            stages=[{"width": w, "groups": g, "stride": s, "depth": d, "experts": 4} for w, g, s, d in shapes],
            mix_every=2,
            squeeze_excite=True,
            shortcut={"kind": "bottleneck"},
        )

    def test_expert_network(self) -> None:
        # Blocks 1-2-6-2 of two 3x3 convolutions and one 1x1: 1.7e9 BOPs in the paper.
        stages = [(64, 128, 4, 56, 1), (128, 256, 8, 28, 2), (256, 512, 8, 14, 6), (512, 1024, 16, 7, 2)]
        bops = 0
        for ins, outs, groups, side, blocks in stages:
            first, others = ins // groups, (2 * blocks - 1) * (outs // groups)
            bops += outs * (first + others) * 3 * 3 * side**2 + blocks * outs * outs * side**2
        assert sum(layer.bops for layer in plan(self.expert_network())) == bops
        assert bops == pytest.approx(1.7e9, rel=0.01)


class TestSizes:
    """One rule for every size: divided by the stride, rounded up."""

    @pytest.mark.parametrize("stride", range(1, 9))
    @pytest.mark.parametrize("side", [1, 2, 7, 8, 9, 32])
    def test_sizes_round_up(self, side: int, stride: int) -> None:
        positions = len(range(0, side, stride))
        assert shrunk((side, 3 * side), stride) == (positions, len(range(0, 3 * side, stride)))

    def test_each_stage_starts_from_the_size_before(self) -> None:
        arch = make_arch(input=[1, 11, 13], stem={"width": 8, "stride": 2}, stages=[{"width": 8, "stride": 3}] * 2)
        mains = [layer for layer in plan(arch) if layer.role == "main"]
        assert [(layer.in_size, layer.out_size) for layer in mains] == [((6, 7), (2, 3)), ((2, 3), (1, 1))]


def test_a_hidden_width_is_never_zero() -> None:
    assert [squeezed(channels) for channels in (1, 7, 8, 17, 64)] == [1, 1, 1, 2, 8]
    assert [narrowed(channels, 4) for channels in (1, 3, 4, 9, 64)] == [1, 1, 1, 2, 16]


def test_bytes_round_up_to_whole_bytes() -> None:
    conv = PlannedLayer("c", "main", "conv", 3, 5, (1, 1), (1, 1), (3, 3), precision="binary")
    assert conv.bytes == 17  # 5 * 3 * 3 * 3 = 135 bits


def test_scales_that_deployed_weights_keep() -> None:
    assert scale_values("real", "xnor", experts=4, out_channels=16) == 0
    assert scale_values("binary", "xnor", experts=4, out_channels=16) == 4 * 16
    assert scale_values("weight", "sign", experts=4, out_channels=16) == 16  # alpha alone, which experts share
    assert scale_values("binary", "irnet", experts=4, out_channels=16) == 4 * 16
    assert scale_values("binary", "group", experts=4, out_channels=16) == 16  # times 1 / sqrt(weights of a filter)
    assert scale_values("binary", "my.module:method", experts=4, out_channels=16) == 2 * 4 * 16  # and offsets


def test_the_same_architecture_is_planned_equally() -> None:
    assert plan(make_arch()) == plan(make_arch())
