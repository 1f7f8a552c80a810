import itertools
from functools import partial
from typing import Any, TypeVar

import pytest
import torch
import torch.nn.functional as F
from reference import naive_expert_conv, naive_norm, naive_prelu, naive_sign, per_image_conv
from spaces import make_arch
from torch import Tensor, nn

from bnas.binarize import BinaryWeight
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.cost.trace.trace_model import trace
from bnas.layers.activations import PReLU, RSign
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.blocks import Block, ConvUnit, Head, Network, SqueezeExcite
from bnas.layers.conv_norm import ConvNorm
from bnas.layers.expert_conv import ExpertConv
from bnas.layers.shortcuts import BottleneckShortcut, CeilingPool, ConvShortcut, RepeatShortcut, shortcut
from bnas.layers.stems import BranchedStem, Thermometer, ThermometerStem, stem
from bnas.networks.build import build

M = TypeVar("M", bound=nn.Module)
SIDES = [1, 2, 7, 8, 9]


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def shaken(module: M) -> M:
    """Return the module in evaluation, with batch norm statistics and slopes that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.normal_(0.5, 0.3, generator=generator)
    return module.eval()


def normed(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var, factor, shift = (
        tensor.view(-1, 1, 1) for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (var + norm.eps).sqrt() * factor + shift


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert torch.allclose(actual, expected, atol=1e-5)  # float32, values of a few units


class TestPool:
    """Average pooling beside a strided convolution."""

    @pytest.mark.parametrize("stride", range(2, 9))
    @pytest.mark.parametrize("side", SIDES)
    def test_its_size_is_that_of_a_strided_conv(self, side: int, stride: int) -> None:
        x = images(1, 4, side, side + 3)
        for kernel in (1, 3, 5):
            assert BinaryConv(4, 4, kernel=kernel, stride=stride)(x).shape == CeilingPool(stride)(x).shape

    @pytest.mark.parametrize("stride", [2, 3, 5])
    def test_a_window_over_the_edge_averages_what_it_holds(self, stride: int) -> None:
        x = images(2, 3, 7, 4)
        pooled = CeilingPool(stride)(x)
        for row in range(pooled.shape[2]):
            for column in range(pooled.shape[3]):
                window = x[:, :, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
                assert_close(pooled[:, :, row, column], window.mean((2, 3)))


class TestShortcuts:
    """What goes round a convolution."""

    @pytest.mark.parametrize(("ins", "outs"), [(4, 4), (4, 8), (4, 10), (4, 3), (6, 16)])
    def test_repeat_takes_the_channels_over_again(self, ins: int, outs: int) -> None:
        x = images(2, ins, 5, 5)
        expected = torch.stack([x[:, channel % ins] for channel in range(outs)], 1)
        assert torch.equal(RepeatShortcut(outs, 1)(x), expected)

    def test_repeat_pools_first(self) -> None:
        x = images(2, 4, 5, 5)
        assert torch.equal(RepeatShortcut(8, 2)(x), CeilingPool(2)(x).repeat(1, 2, 1, 1))

    @pytest.mark.parametrize("kind", ["repeat", "conv", "bottleneck"])
    def test_what_pools_by_the_max_is_that_of_what_is_pooled(self, kind: str) -> None:
        made = [shortcut(8, 12, s, kind=kind, reduction=4, pool="max") for s in (2, 1)]
        (pooled, plain), x = map(shaken, made), images(2, 8, 5, 7)
        plain.load_state_dict(pooled.state_dict())
        assert torch.equal(pooled(x), plain(F.max_pool2d(x, 2, ceil_mode=True)))

    def test_repeat_has_no_parameters(self) -> None:
        assert not list(RepeatShortcut(8, 2).parameters())

    @pytest.mark.parametrize("stride", [1, 2])
    def test_conv_is_pool_conv_norm(self, stride: int) -> None:
        module, x = shaken(ConvShortcut(4, 6, stride)), images(2, 4, 5, 7)
        pooled = F.avg_pool2d(x, stride, ceil_mode=True)
        mixed = torch.einsum("oi,bihw->bohw", module.conv.weight[:, :, 0, 0], pooled)
        assert_close(module(x), normed(module.norm, mixed))

    @pytest.mark.parametrize("stride", [1, 3])
    def test_bottleneck_goes_through_fewer_channels(self, stride: int) -> None:
        module, x = shaken(BottleneckShortcut(8, 6, stride, reduction=4)), images(2, 8, 5, 7)
        y = F.avg_pool2d(x, stride, ceil_mode=True)
        for part, channels in ((module.reduce, 2), (module.expand, 6)):
            y = torch.einsum("oi,bihw->bohw", part.conv.weight[:, :, 0, 0], y)
            assert y.shape[1] == channels
            y = part.act(normed(part.norm, y))
        assert_close(module(x), y)

    @pytest.mark.parametrize("kind", ["repeat", "conv", "bottleneck"])
    def test_nothing_stands_where_nothing_changes(self, kind: str) -> None:
        assert isinstance(shortcut(8, 8, 1, kind=kind, reduction=4), nn.Identity)

    @pytest.mark.parametrize(
        ("kind", "made"), [("repeat", RepeatShortcut), ("conv", ConvShortcut), ("bottleneck", BottleneckShortcut)]
    )
    @pytest.mark.parametrize(("outs", "stride"), [(16, 1), (8, 2), (16, 2)])
    def test_a_kind_stands_where_channels_or_size_change(self, kind: str, made: type, outs: int, stride: int) -> None:
        assert isinstance(shortcut(8, outs, stride, kind=kind, reduction=4), made)


UNIT: dict[str, Any] = {
    "kernel": 3, "stride": 1, "groups": 1, "experts": 1, "precision": "binary", "shortcut_kind": "conv", "reduction": 4,
    "squeeze_excite": False, "weights": "xnor", "activations": "sign", "pad_value": 0, "prelu": True,
    "downsample": "conv", "shortcut_pool": "average",
}  # fmt: skip


def naive_unit(unit: ConvUnit, x: Tensor) -> Tensor:
    """Return what a unit gives in training: batch norm, sign, convolution, PReLU, shortcut."""
    conv, inner = unit.conv, naive_norm(x, unit.norm.weight, unit.norm.bias)
    filters = conv.weight
    if conv.precision == "binary":
        scale = conv.weight.detach().abs().mean((1, 2, 3), keepdim=True)
        inner, filters = naive_sign(inner), conv.alpha.view(-1, 1, 1, 1) * scale * naive_sign(conv.weight)
    y = per_image_conv(
        inner, filters.expand(len(x), *filters.shape), stride=1, groups=conv.groups, pad_value=conv.pad_value
    )
    return naive_prelu(y, unit.act.weight) + unit.shortcut(x)


class TestPReLU:
    """The PReLU whose backward pass is our own."""

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_equals_the_formula(self, layout: torch.memory_format) -> None:
        x = images(5, 4, 3, 7).double().contiguous(memory_format=layout)
        x[0, :, 0, 0] = 0
        slope = torch.tensor([0.25, 0.9, 0.0, -1.5], dtype=torch.float64)
        steps = []
        for way in (PReLU(4).double(), naive_prelu):
            value, slopes = x.clone().requires_grad_(), slope.clone().requires_grad_()
            if isinstance(way, PReLU):
                y = torch.func.functional_call(way, {"weight": slopes}, (value,))
            else:
                y = way(value, slopes)
            steps.append([y, *torch.autograd.grad(y.sin().sum(), (value, slopes))])
        for actual, expected in zip(*steps, strict=True):
            assert torch.allclose(actual, expected, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_gradients_are_those_of_torch(self, dtype: torch.dtype) -> None:
        x, steps = images(5, 4, 3, 7).to(dtype), []
        for layer in (PReLU(4), nn.PReLU(4)):
            value = x.clone().requires_grad_()
            layer.to(dtype)(value).backward(x)
            steps.append((value.grad, layer.weight.grad))
        for actual, expected in zip(*steps, strict=True):
            assert actual.dtype == dtype
            # One rounding of a number below 4, and of a sum of 105 numbers to a value below 64.
            assert torch.allclose(actual, expected, rtol=4 * torch.finfo(dtype).eps)

    def test_autocast_computes_in_bfloat16(self) -> None:
        x = images(5, 4, 3, 7)
        for dtype in (torch.bfloat16, torch.float32):
            steps = []
            for layer in (PReLU(4), nn.PReLU(4)):
                value = x.to(dtype).requires_grad_()
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    y = layer(value)
                y.backward(y.detach())
                assert y.dtype == torch.bfloat16
                assert layer.weight.grad.dtype == torch.float32
                steps.append((y.float(), value.grad.float(), layer.weight.grad))
            for actual, expected in zip(*steps, strict=True):
                assert torch.allclose(actual, expected, rtol=4 * torch.finfo(torch.bfloat16).eps)

    def test_compiled_equals_eager(self) -> None:
        layer, x = PReLU(4), images(5, 4, 3, 7)
        assert torch.equal(torch.compile(layer, backend="aot_eager")(x), layer(x))

    def test_loads_what_torch_saved(self) -> None:
        PReLU(4).load_state_dict(nn.PReLU(4).state_dict())


class TestUnit:
    """Norm, convolution, excitation, PReLU, and the shortcut round them all."""

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"stride": 2},
            {"squeeze_excite": True},
            {"experts": 3, "groups": 2},
            {"experts": 3, "groups": 4, "stride": 2, "squeeze_excite": True},
            {"precision": "weight"},
            {"prelu": False, "pad_value": -1},
            {"prelu": False, "squeeze_excite": True, "precision": "weight"},
        ],
    )
    def test_equals_the_formula(self, settings: dict[str, Any]) -> None:
        unit, x = shaken(ConvUnit(4, 8, **(UNIT | settings))), images(3, 4, 7, 5)
        inner = normed(unit.norm, x)
        y = unit.conv(inner)
        if unit.excite is not None:
            y = y * unit.excite(inner)
        slope = unit.act.weight.view(-1, 1, 1) if settings.get("prelu", True) else 1
        expected = torch.where(y > 0, y, slope * y) + unit.shortcut(x)
        assert_close(unit(x), expected)

    @pytest.mark.parametrize(
        "settings", [{}, {"out_channels": 8}, {"pad_value": -1, "groups": 2}, {"precision": "real"}]
    )
    def test_a_training_step_equals_the_naive_one(self, settings: dict[str, Any]) -> None:
        torch.manual_seed(0)
        unit = ConvUnit(4, **(UNIT | {"out_channels": 4, "shortcut_kind": "repeat"} | settings)).double()
        x = images(6, 4, 7, 5).double().requires_grad_()
        leaves = [x, *unit.parameters()]
        steps = []
        for way in (unit, lambda x: naive_unit(unit, x)):
            y = way(x)
            steps.append([y, *torch.autograd.grad(y.sin().sum(), leaves)])
        for actual, expected in zip(*steps, strict=True):
            assert torch.allclose(actual, expected, rtol=0, atol=1e-10)

    def test_excitation_is_off_unless_asked_for(self) -> None:
        assert ConvUnit(4, 8, **UNIT).excite is None

    def test_one_expert_is_a_plain_conv(self) -> None:
        assert isinstance(ConvUnit(4, 8, **UNIT).conv, BinaryConv)
        assert isinstance(ConvUnit(4, 8, **(UNIT | {"experts": 2})).conv, ExpertConv)

    @pytest.mark.parametrize(("precision", "padded"), [("binary", 1), ("weight", 0), ("real", 0)])
    @pytest.mark.parametrize("experts", [1, 2])
    def test_only_binary_inputs_are_padded_with_a_bit(self, precision: str, padded: int, experts: int) -> None:
        unit = ConvUnit(4, 8, **(UNIT | {"precision": precision, "pad_value": 1, "experts": experts}))
        assert unit.conv.pad_value == padded


def test_squeeze_excite_equals_the_formula() -> None:
    module, x = SqueezeExcite(6, 16), images(3, 6, 4, 5)
    hidden = (x.mean((2, 3)) @ module.squeeze.weight.T).clamp(min=0)
    assert hidden.shape == (3, 16 // 8)
    factors = 1 / (1 + torch.exp(-hidden @ module.expand.weight.T))
    assert_close(module(x), factors.view(3, 16, 1, 1))
    assert [name for name, _ in module.named_parameters()] == ["squeeze.weight", "expand.weight"]


class TestBlock:
    """A unit, and a unit that mixes where groups keep channels apart."""

    def test_without_groups_it_is_its_unit(self) -> None:
        block, x = shaken(Block(4, 8, stride=2)), images(2, 4, 7, 7)
        assert block.mix is None
        assert torch.equal(block(x), block.main(x))

    def test_groups_are_mixed_by_a_pointwise_unit_of_one_group(self) -> None:
        block, x = shaken(Block(4, 8, stride=2, groups=4, kernel=5, experts=2, squeeze_excite=True)), images(2, 4, 7, 7)
        assert block.mix is not None
        mix = block.mix.conv
        assert isinstance(mix, ExpertConv)
        assert (mix.in_channels, mix.out_channels, mix.kernel, mix.stride, mix.groups) == (8, 8, 1, 1, 1)
        assert isinstance(block.mix.shortcut, nn.Identity)
        assert block.mix.excite is not None
        assert torch.equal(block(x), block.mix(block.main(x)))

    @pytest.mark.parametrize("groups", [1, 2])
    def test_with_groups_every_output_channel_sees_every_input_channel(self, groups: int) -> None:
        torch.manual_seed(0)
        block = Block(8, 8, groups=groups, precision="real", shortcut_kind="conv").eval()
        x = images(1, 8, 5, 5).requires_grad_()
        for channel in range(8):
            (grad,) = torch.autograd.grad(block(x)[0, channel].sum(), x)
            assert (grad.abs().sum((0, 2, 3)) > 0).all()

    @pytest.mark.parametrize("kind", ["repeat", "conv", "bottleneck"])
    @pytest.mark.parametrize("stride", [1, 2, 3, 8])
    @pytest.mark.parametrize("side", SIDES)
    def test_conv_and_shortcut_agree_on_every_size(self, side: int, stride: int, kind: str) -> None:
        block = Block(4, 8, stride=stride, groups=2, shortcut_kind=kind).eval()
        rows, columns = len(range(0, side, stride)), len(range(0, side + 4, stride))
        assert block(images(1, 4, side, side + 4)).shape == (1, 8, rows, columns)

    @pytest.mark.parametrize("activations", ["sign", "react"])
    def test_gradients_reach_everything(self, activations: str) -> None:
        torch.manual_seed(0)
        block = Block(
            8, 16, stride=2, groups=2, experts=2, squeeze_excite=True, shortcut_kind="bottleneck",
            activations=activations,
        )  # fmt: skip
        block(images(16, 8, 7, 7)).square().sum().backward()
        silent = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent == []


def naive_expert_unit(unit: ConvUnit, x: Tensor) -> Tensor:
    """Return what a unit with experts and squeeze-excite gives in training, each image with filters of its own."""

    def xnor(theta: Tensor) -> BinaryWeight:
        scale = theta.detach().abs().mean((-3, -2, -1), keepdim=True)
        return BinaryWeight(naive_sign(theta), scale, torch.zeros_like(scale))

    conv, inner = unit.conv, naive_norm(x, unit.norm.weight, unit.norm.bias)
    y = naive_expert_conv(
        inner, conv.weight, conv.alpha, conv.gate.weight, conv.gate.bias, binarize_weight=xnor,
        binarize_input=naive_sign, stride=conv.stride, groups=conv.groups, pad_value=conv.pad_value,
    )  # fmt: skip
    hidden = (inner.mean((2, 3)) @ unit.excite.squeeze.weight.T).clamp(min=0)
    y = y * torch.sigmoid(hidden @ unit.excite.expand.weight.T)[:, :, None, None]
    return naive_prelu(y, unit.act.weight) + unit.shortcut(x)


def test_a_training_step_of_experts_with_squeeze_excite_equals_the_naive_one() -> None:
    torch.manual_seed(0)
    settings = UNIT | {"experts": 3, "groups": 2, "stride": 2, "squeeze_excite": True, "pad_value": -1}
    unit = ConvUnit(4, 8, **settings).double()
    with torch.no_grad():
        unit.conv.gate.weight.mul_(30)
    x = images(24, 4, 7, 5).double().mul(torch.linspace(0.2, 3, 24).view(-1, 1, 1, 1)).requires_grad_()
    assert len(unit.conv.expert_of(unit.norm(x)).unique()) > 1
    steps = []
    for way in (unit, partial(naive_expert_unit, unit)):
        y = way(x)
        steps.append([y, *torch.autograd.grad(y.sin().sum(), [x, *unit.parameters()])])
    for actual, expected in zip(*steps, strict=True):
        assert (actual - expected).abs().max() <= 1e-10 * max(1, expected.abs().max())


class TestReact:
    """The activations of ReActNet in a unit."""

    @pytest.mark.parametrize("shortcut_kind", ["repeat", "conv"])
    def test_equals_the_formula(self, shortcut_kind: str) -> None:
        settings = UNIT | {"activations": "react", "shortcut_kind": shortcut_kind}
        unit, x = shaken(ConvUnit(4, 8, **settings)), images(3, 4, 7, 5)
        before, slope, after = (values.view(-1, 1, 1) for values in (unit.act.before, unit.act.slope, unit.act.after))
        y = unit.conv(normed(unit.norm, x)) - before
        assert_close(unit(x), torch.where(y > 0, y, slope * y) + after + unit.shortcut(x))

    def test_the_bias_of_the_norm_is_the_threshold_of_the_sign(self) -> None:
        unit, x = shaken(ConvUnit(4, 8, **(UNIT | {"activations": "react"}))), images(3, 4, 7, 5)
        sign = RSign(4)
        with torch.no_grad():
            sign.threshold.copy_(-unit.norm.bias)
            shifted = unit.norm.bias.clone()
            unit.norm.bias.zero_()
            unshifted = unit.norm(x)
            unit.norm.bias.copy_(shifted)
        assert torch.equal(unit.conv.binarize_input(unit.norm(x)), sign(unshifted))

    def test_it_costs_two_more_values_a_channel_and_no_macs(self) -> None:
        plain, shifted = (plan(make_arch(binarizers={"activation": name})) for name in ("sign", "react"))
        assert cost(shifted).parameters - cost(plain).parameters == 2 * 16
        assert cost(shifted).ops == cost(plain).ops

    @pytest.mark.parametrize("experts", [1, 2])
    def test_plan_and_trace_agree(self, experts: int) -> None:
        arch = make_arch(stage={"experts": experts, "groups": 2}, binarizers={"activation": "react"})
        assert cost(plan(arch)) == cost(trace(build(arch), arch.input).layers)


class TestEnds:
    """Stems and head."""

    @pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (7, 4), (1, 3)])
    def test_a_conv_stem_is_conv_norm_relu(self, kernel: int, stride: int) -> None:
        module, x = shaken(stem(3, 8, kind="conv", kernel=kernel, stride=stride)), images(2, 3, 9, 7)
        assert isinstance(module, ConvNorm)
        y = normed(module.norm, F.conv2d(x, module.conv.weight, stride=stride, padding=kernel // 2))
        assert_close(module(x), y.clamp(min=0))

    @pytest.mark.parametrize("size", [(32, 32), (30, 25), (1, 5)])
    def test_the_branched_stem_joins_a_conv_branch_and_a_pooled_one(self, size: tuple[int, int]) -> None:
        module, x = shaken(stem(3, 8, kind="branched", kernel=3, stride=4)), images(2, 3, *size)
        assert isinstance(module, BranchedStem)
        first = module.first(x)
        assert first.shape[1:] == (4, -(-size[0] // 2), -(-size[1] // 2))
        joined = torch.cat([module.branch(first), F.max_pool2d(first, 3, 2, 1)], 1)
        assert joined.shape[1:] == (8, -(-size[0] // 4), -(-size[1] // 4))
        assert torch.equal(module(x), module.join(joined))
        assert (module(x) >= 0).all()

    @pytest.mark.parametrize(("size", "block"), [((8, 6), 2), ((9, 7), 3), ((7, 5), 2), ((1, 1), 4)])
    @pytest.mark.parametrize("kernel", [1, 3])
    def test_space_to_depth_makes_channels_of_the_pixels_of_a_block(
        self, size: tuple[int, int], block: int, kernel: int
    ) -> None:
        module, x = shaken(stem(3, 8, kind="space_to_depth", kernel=kernel, stride=block)), images(2, 3, *size)
        rows, columns = (-(-side // block) for side in size)
        depth = torch.zeros(2, 3 * block**2, rows, columns)
        for channel, i, j in itertools.product(range(3), range(block), range(block)):
            seen = x[:, channel, i::block, j::block]
            depth[:, (channel * block + i) * block + j, : seen.shape[1], : seen.shape[2]] = seen
        assert_close(
            module(x), normed(module.norm, F.conv2d(depth, module.conv.weight, padding=kernel // 2)).clamp(min=0)
        )

    @pytest.mark.parametrize("levels", [1, 2, 5])
    def test_a_thermometer_cuts_each_channel_at_its_thresholds(self, levels: int) -> None:
        module, x = shaken(stem(3, 8, kind="thermometer", kernel=3, stride=2, levels=levels)), images(2, 3, 9, 7)
        assert isinstance(module, ThermometerStem)
        cuts = module.thresholds.threshold.view(levels, 3)
        bits = [
            torch.where(x[:, channel] >= cuts[level, channel], 1.0, -1.0)
            for level, channel in itertools.product(range(levels), range(3))
        ]
        y = F.conv2d(torch.stack(bits, 1), module.conv.binary_weight(), stride=2, padding=1)
        assert_close(module(x), normed(module.norm, y).clamp(min=0))

    @pytest.mark.parametrize("levels", [1, 3, 8])
    def test_a_thermometer_begins_with_shares_of_normal_values(self, levels: int) -> None:
        values = torch.randn(4000, generator=torch.Generator().manual_seed(0)).view(1, 1, 40, 100)
        above = (Thermometer(1, levels)(values) >= 0).float().mean((0, 2, 3))
        # standard error of a share: at most 0.5 / sqrt(4000)
        torch.testing.assert_close(above, 1 - torch.arange(1, levels + 1) / (levels + 1), rtol=0, atol=4 * 0.008)

    def test_the_thresholds_of_a_thermometer_learn(self) -> None:
        module, x = stem(3, 8, kind="thermometer", kernel=3, stride=1, levels=4), images(4, 3, 9, 7)
        module(x).square().sum().backward()
        assert (module.thresholds.threshold.grad != 0).all()

    def test_the_head_classifies_the_mean_of_the_normed_map(self) -> None:
        head, x = shaken(Head(6, 5)), images(3, 6, 4, 5)
        expected = normed(head.norm, x).mean((2, 3)) @ head.classifier.weight.T + head.classifier.bias
        assert_close(head(x), expected)

    def test_a_network_gives_the_map_after_each_stage(self) -> None:
        blocks = [[Block(8, 8), Block(8, 8)], [Block(8, 16, stride=2)]]
        network = Network(stem(3, 8, kind="conv", kernel=3, stride=1), blocks, Head(16, 5)).eval()
        x = images(2, 3, 9, 7)
        logits, maps = network.with_maps(x)
        assert torch.equal(logits, network(x))
        assert [tuple(each.shape) for each in maps] == [(2, 8, 9, 7), (2, 16, 5, 4)]
        assert torch.equal(network.head(maps[-1]), logits)
