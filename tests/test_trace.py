"""What a traced model's layers are."""

import itertools
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from packed import MANY
from spaces import STEMS, WHOLE, later_space
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bnas.cost.plan import PlannedLayer, plan
from bnas.cost.totals import cost
from bnas.cost.trace.trace_model import trace
from bnas.errors import ShapeError
from bnas.layers.binarized import binarize_
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.binary_layer import BinaryLinear
from bnas.layers.expert_conv import ExpertConv
from bnas.networks.build import build
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace

SHORTCUTS = ("repeat", "conv", "bottleneck")
SAMPLES = 500 if MANY else 50  # architectures of a space that lets everything be chosen
SHIPPED = 500 if MANY else 6  # architectures of each space that is shipped
TWINS = 100 if MANY else 10  # architectures of each space
WEIGHT = nn.Parameter(torch.eye(3), requires_grad=False)


def small_space(*, stem: str = "conv", shortcut: str = "conv", **changes: Any) -> SearchSpace:
    """Return a space with every kind of choice, over odd sizes."""
    stage = {
        "depth": [1, 2], "width": [8, 16], "groups": [1, 2, 4], "experts": [1, 3], "kernel": [1, 3],
        "stride": [1, 2], "precision": ["real", "weight", "binary"],
    }  # fmt: skip
    space = {"input": [3, 13, 11], "classes": 10, "shortcut": {"kind": shortcut}, "stem": STEMS[stem]}
    return SearchSpace.model_validate(space | {"stages": [stage, stage]} | changes)


def shipped_spaces() -> dict[str, SearchSpace]:
    """Return the spaces in search_spaces/, by name."""
    return {
        file.stem: SearchSpace.read(file) for file in sorted(Path(__file__).parents[1].glob("search_spaces/*.yaml"))
    }


SHIPPED_SPACES = shipped_spaces()


def float_twin(arch: Architecture) -> Architecture:
    """Return the same network with real weights and inputs."""
    stages = tuple(s.model_copy(update={"precision": ("real",) * s.depth}) for s in arch.stages)
    return arch.model_copy(update={"stages": stages})


def torch_macs(model: nn.Module, *shapes: tuple[int, ...]) -> int:
    """Return what torch's own counter says, which takes a MAC as two operations."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(*(torch.zeros(1, *shape) for shape in shapes))
    return int(counter.get_total_flops()) // 2


def module(forward: Callable[..., Any], **parts: nn.Module | nn.Parameter) -> nn.Module:
    """Return a module with these parts, whose forward gets itself and the inputs."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, *inputs: Tensor) -> Any:
            return forward(self, *inputs)

    return Made()


def one(model: nn.Module, shape: tuple[int, ...]) -> PlannedLayer:
    """Return the only layer of a model."""
    (layer,) = trace(model, shape).layers
    return layer


class TestBuiltNetworks:
    """What `build` makes has the layers that `plan` says."""

    @pytest.mark.parametrize(("stem", "shortcut"), list(itertools.product(STEMS, SHORTCUTS)))
    def test_every_kind_of_choice(self, stem: str, shortcut: str) -> None:
        random = Random(f"{stem} {shortcut}")
        for squeeze_excite, weight, mix_every, prelu in (
            (False, "sign", 1, True), (True, "xnor", 2, True), (True, "sign", 1, False)
        ):  # fmt: skip
            binarizers = {"weight": weight, "pad_value": random.choice((-1, 0, 1))}
            space = small_space(
                stem=stem,
                shortcut=shortcut,
                squeeze_excite=squeeze_excite,
                mix_every=mix_every,
                binarizers=binarizers,
                prelu=prelu,
            )
            arch = space.architecture(space.sample(random))
            traced = trace(build(arch), arch.input)
            assert traced.layers == plan(arch)
            assert not traced.uncounted

    def test_what_is_chosen_once_for_the_whole_network(self) -> None:
        space = later_space(**WHOLE)
        for seed in range(6):
            arch = space.architecture(space.sample(Random(seed)))
            assert trace(build(arch), arch.input).layers == plan(arch)

    @pytest.mark.parametrize("shortcut", SHORTCUTS)
    @pytest.mark.parametrize("seed", range(4))
    def test_what_later_builds_let_choose(self, shortcut: str, seed: int) -> None:
        space = later_space(shortcut={"kind": shortcut}, squeeze_excite=seed % 2 == 0)
        arch = space.architecture(space.sample(Random(seed)))
        traced = trace(build(arch), arch.input)
        assert traced.layers == plan(arch)
        assert not traced.uncounted

    @pytest.mark.slow
    @pytest.mark.parametrize("stem", STEMS)
    @pytest.mark.parametrize("weight", ["xnor", "alpha_beta"])
    def test_cost_of_every_stem(self, stem: str, weight: str) -> None:
        space, random = small_space(stem=stem, shortcut="repeat", binarizers={"weight": weight}), Random(stem)
        for _ in range(SAMPLES // 2):
            arch = space.architecture(space.sample(random))
            assert cost(trace(build(arch), arch.input).layers) == cost(plan(arch)), arch

    @pytest.mark.slow
    @pytest.mark.parametrize("name", SHIPPED_SPACES)
    def test_cost_of_the_shipped_spaces(self, name: str) -> None:
        space, random = SHIPPED_SPACES[name], Random(0)
        for _ in range(SHIPPED):
            arch = space.architecture(space.sample(random))
            assert cost(trace(build(arch), arch.input).layers) == cost(plan(arch)), arch

    @pytest.mark.parametrize("space", [small_space(squeeze_excite=True), *SHIPPED_SPACES.values()])
    def test_macs_of_the_float_twin_are_torchs_own(self, space: SearchSpace) -> None:
        random = Random(1)
        for _ in range(TWINS):
            twin = float_twin(space.architecture(space.sample(random)))
            assert cost(plan(twin)).macs == torch_macs(build(twin), twin.input)

    @pytest.mark.slow
    @pytest.mark.parametrize("shortcut", SHORTCUTS)
    def test_cost_of_what_later_builds_let_choose(self, shortcut: str) -> None:
        changes = {"shortcut": {"kind": shortcut}, "squeeze_excite": shortcut == "conv"}
        space, random = later_space(**WHOLE if shortcut == "repeat" else changes), Random(shortcut)
        for _ in range(SAMPLES):
            arch = space.architecture(space.sample(random))
            assert cost(trace(build(arch), arch.input).layers) == cost(plan(arch)), arch


class TestLayers:
    """Convolutions and linear layers of every build, with MACs by hand and by torch's counter."""

    @pytest.mark.parametrize(
        ("model", "shape", "macs"),
        [
            (nn.Conv1d(4, 8, 3, stride=2, padding=1), (4, 17), 8 * 4 * 3 * 9),
            (nn.Conv2d(3, 6, (3, 5), stride=(2, 1)), (3, 9, 11), 6 * 3 * 15 * 4 * 7),
            (nn.Conv2d(8, 8, 3, groups=8, padding="same"), (8, 9, 7), 8 * 9 * 9 * 7),
            (nn.Conv2d(8, 4, 3, groups=2), (8, 5, 5), 4 * (8 // 2) * 9 * 3 * 3),
            (nn.Conv2d(2, 4, 3, dilation=2), (2, 9, 9), 4 * 2 * 9 * 5 * 5),
            (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), (2, 6, 6), 4 * 2 * 9 * 6 * 6),
            (nn.ConvTranspose1d(8, 6, 3, stride=2), (8, 5), 8 * 6 * 3 * 5),
            (nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2, output_padding=1), (8, 5, 4), 8 * (6 // 2) * 9 * 5 * 4),
            (nn.Linear(5, 7), (5,), 5 * 7),
            (nn.Linear(5, 7), (3, 2, 5), 3 * 2 * 5 * 7),
        ],
    )
    def test_macs(self, model: nn.Module, shape: tuple[int, ...], macs: int) -> None:
        layer = one(model, shape)
        assert layer.macs == layer.flops == macs == torch_macs(model, shape)
        assert layer.weights + layer.real_values == sum(parameter.numel() for parameter in model.parameters())

    def test_shapes_are_those_of_one_image(self) -> None:
        layer = one(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), (4, 9, 6))
        assert (layer.in_channels, layer.out_channels, layer.in_size, layer.out_size) == (4, 8, (9, 6), (5, 3))
        assert (layer.kernel, layer.stride, layer.groups) == ((3, 3), (2, 2), 2)

    @pytest.mark.parametrize("precision", ["real", "weight", "binary"])
    def test_binary_layers_say_their_precision(self, precision: str) -> None:
        conv = one(BinaryConv(4, 8, stride=2, groups=2, precision=precision), (4, 5, 5))
        linear = one(BinaryLinear(6, 4, bias=True, precision=precision), (3, 6))
        scales = 0 if precision == "real" else 1
        assert (conv.precision, conv.macs, conv.weights) == (precision, 8 * 2 * 9 * 3 * 3, 8 * 2 * 9)
        assert (conv.in_size, conv.out_size, conv.real_values) == ((5, 5), (3, 3), 8 * scales)
        assert (linear.precision, linear.macs, linear.weights) == (precision, 3 * 6 * 4, 6 * 4)
        assert linear.real_values == 4 * scales + 4
        assert (conv.bops > 0) == (linear.bops > 0) == (precision == "binary")

    def test_experts_multiply_weights_not_macs(self) -> None:
        conv, gate = trace(ExpertConv(4, 8, experts=3, weights="sign"), (4, 5, 5)).layers
        assert (conv.experts, conv.bops, conv.weights) == (3, 8 * 4 * 9 * 5 * 5, 3 * 8 * 4 * 9)
        assert (gate.role, gate.flops, gate.real_values) == ("gate", 4 * 3, 3)

    @pytest.mark.parametrize(
        ("layer", "shape", "bops"),
        [
            (BinaryConv(3, 4), (3, 5, 7), 4 * 27 * 5 * 7),
            (ExpertConv(3, 4, experts=2), (3, 5, 7), 4 * 27 * 5 * 7),
            (BinaryLinear(3, 4), (3,), 4 * 3),
        ],
    )
    def test_binary_layers_count_every_window_of_an_image(
        self, layer: nn.Module, shape: tuple[int, ...], bops: int
    ) -> None:
        windows = module(lambda m, x: m.layer(torch.cat([x, x, x])), layer=layer)
        assert cost(trace(windows, shape).layers).bops == 3 * bops

    def test_a_binary_convolution_of_an_image_without_a_batch(self) -> None:
        layer = one(module(lambda m, x: m.conv(x[0]), conv=BinaryConv(3, 4, stride=2)), (3, 5, 7))
        assert (layer.in_size, layer.out_size, layer.bops) == ((5, 7), (3, 4), 4 * 27 * 3 * 4)

    def test_norms_fold_and_slopes_stay(self) -> None:
        model = nn.Sequential(nn.BatchNorm2d(4), nn.PReLU(4), nn.BatchNorm2d(4, affine=False), nn.LayerNorm(6))
        layers = trace(model, (4, 5, 6)).layers
        assert [(layer.kind, layer.real_values) for layer in layers] == [
            ("norm", 2 * 4), ("activation", 4), ("norm", 2 * 4), ("norm", 2 * 6)
        ]  # fmt: skip
        assert cost(layers).macs == 0


class TestWeights:
    """Every parameter is in one layer, once."""

    def test_a_module_called_twice_has_its_weights_once(self) -> None:
        model = module(
            lambda m, x: m.norm(m.conv(m.norm(m.conv(x)))), conv=nn.Conv2d(3, 3, 3, padding=1), norm=nn.BatchNorm2d(3)
        )
        layers = trace(model, (3, 8, 8)).layers
        assert [layer.name for layer in layers] == ["conv", "norm", "conv", "norm"]
        assert [layer.macs for layer in layers] == [3 * 3 * 9 * 64, 0] * 2
        assert [layer.weights + layer.real_values for layer in layers] == [81 + 3, 6, 0, 0]

    @pytest.mark.parametrize("make", [BinaryConv, ExpertConv])
    def test_a_binary_layer_called_twice_has_its_weights_once(self, make: Callable[..., nn.Module]) -> None:
        conv = make(4, 4)
        once, twice = (cost(trace(nn.Sequential(*[conv] * n), (4, 5, 5)).layers) for n in (1, 2))
        assert twice.bops == 2 * once.bops
        assert (twice.bytes, twice.parameters) == (once.bytes, once.parameters)

    def test_tied_weights_count_once(self) -> None:
        model = module(lambda m, x: m.b(m.a(x)), a=nn.Linear(6, 6), b=nn.Linear(6, 6))
        model.b.weight = model.a.weight  # type: ignore[union-attr]
        made = cost(trace(model, (6,)).layers)
        assert (made.macs, made.weights, made.parameters) == (2 * 36, 36, 36 + 6 + 6)

    def test_a_normalised_weight_is_folded(self) -> None:
        model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
        made = cost(trace(model, (3, 5, 5)).layers)
        assert (made.weights, made.parameters) == (4 * 3 * 9, 4 * 3 * 9 + 4)

    def test_a_normalised_weight_in_parts_counts_as_the_parts_of_a_plain_one(self) -> None:
        def in_parts(w: Tensor, x: Tensor) -> Tensor:
            return F.linear(x, w[:4]) + F.linear(x, w[4:8]) + F.linear(x, w[8:]) + F.linear(x, w[:4])

        weight = nn.Parameter(torch.randn(12, 6))
        plain, normed = (
            cost(trace(module(lambda m, x, change=change: in_parts(change(m.w), x), w=weight), (6,)).layers)
            for change in (lambda w: w, F.normalize)
        )
        assert (normed.weights, normed.parameters, normed.bytes) == (12 * 6, 12 * 6, plain.bytes)

    @pytest.mark.parametrize("tied", [False, True])
    @pytest.mark.parametrize("normed", [False, True])
    def test_recurrent_weights_count_once_however_they_are_held(self, *, tied: bool, normed: bool) -> None:
        first, second = nn.LSTM(5, 5, batch_first=True), nn.LSTM(5, 5, batch_first=True)
        if tied:
            second.weight_hh_l0, second.bias_ih_l0 = first.weight_hh_l0, first.bias_ih_l0
        if normed:
            nn.utils.parametrizations.weight_norm(first, "weight_ih_l0")
        made = cost(trace(module(lambda m, x: m.b(m.a(x)[0])[0], a=first, b=second), (3, 5)).layers)
        assert made.parameters == 2 * (2 * 100 + 40) - tied * (100 + 20)

    def test_a_binary_layer_with_the_weights_of_another_keeps_its_own_scales(self) -> None:
        first, second = BinaryConv(8, 8), BinaryConv(8, 8)
        second.weight = first.weight
        made = cost(trace(nn.Sequential(first, second), (8, 5, 5)).layers)
        assert (made.parameters, made.bytes) == (576 + 2 * 8, 576 // 8 + 2 * 8 * 4)

    def test_a_binary_layer_with_a_normalised_weight_is_one_of_bits(self) -> None:
        plain, normed = BinaryConv(8, 8), nn.utils.parametrizations.weight_norm(BinaryConv(8, 8))
        assert cost(trace(normed, (8, 5, 5)).layers) == cost(trace(plain, (8, 5, 5)).layers)

    @pytest.mark.parametrize("kind", [BinaryConv, ExpertConv, nn.BatchNorm2d])
    def test_a_subclass_that_computes_more_has_what_it_adds(self, kind: type[nn.Module]) -> None:
        class More(kind):  # type: ignore[misc, valid-type]
            def forward(self, x: Tensor) -> Tensor:
                return F.conv2d(super().forward(x), self.more)

        sizes = (4,) if kind is nn.BatchNorm2d else (4, 4)
        made, alone = More(*sizes), cost(trace(kind(*sizes), (4, 5, 5)).layers)
        made.more = nn.Parameter(torch.randn(4, 4, 1, 1))
        counted = cost(trace(made, (4, 5, 5)).layers)
        assert (counted.flops, counted.bops) == (alone.flops + 4 * 4 * 25, alone.bops)
        parameters = sum(parameter.numel() for parameter in made.parameters())
        assert parameters <= counted.parameters <= parameters + 4  # a scale that xnor has beside alpha

    def test_weights_chosen_from_a_bank_leave_the_others_counted(self) -> None:
        model = module(lambda m, x: F.linear(x, m.bank[torch.tensor([2])][0]), bank=nn.Parameter(torch.randn(8, 5, 6)))
        made = cost(trace(model, (6,)).layers)
        assert (made.macs, made.parameters) == (5 * 6, 8 * 5 * 6)

    def test_a_layer_that_failed_and_was_passed_over_is_not_counted(self) -> None:
        def first_that_works(m: Any, x: Tensor) -> Tensor:
            try:
                y = m.binary(x)
            except RuntimeError:
                y = m.real(x)
            return F.conv2d(y, m.last)

        parts = {"binary": BinaryConv(7, 4), "real": nn.Conv2d(3, 4, 1), "last": nn.Parameter(torch.randn(4, 4, 1, 1))}
        made = cost(trace(module(first_that_works, **parts), (3, 4, 4)).layers)
        assert (made.flops, made.bops) == ((3 * 4 + 4 * 4) * 16, 0)

    def test_a_layer_of_bits_may_get_an_empty_batch(self) -> None:
        bits = binarize_(nn.Linear(8, 4), precision="weight")
        model = module(lambda m, x: m.real(x) + m.bits(x[:0]).sum(), real=nn.Linear(8, 4), bits=bits)
        assert cost(trace(model, (8,)).layers).macs == 32

    def test_filters_that_take_one_input_as_it_is_are_no_bits(self) -> None:
        conv, linear = nn.Conv2d(8, 8, 3, bias=False), nn.Linear(8, 8, bias=False)
        nn.init.dirac_(conv.weight)
        nn.init.eye_(linear.weight)
        assert one(conv, (8, 5, 5)).precision == one(linear, (8,)).precision == "real"

    def test_parameters_beside_layers_count(self) -> None:
        model = module(lambda m, x: m.linear(x + m.place), linear=nn.Linear(6, 2), place=nn.Parameter(torch.zeros(6)))
        assert cost(trace(model, (6,)).layers).parameters == 6 * 2 + 2 + 6

    def test_an_embedding_has_values_and_no_macs(self) -> None:
        model = module(lambda m, x: m.table(x.long().abs() % 10), table=nn.Embedding(10, 4))
        layer = one(model, (5,))
        assert (layer.name, layer.kind, layer.real_values, layer.macs) == ("table", "values", 40, 0)


class TestFunctions:
    """Products that no module of their own does."""

    @pytest.mark.parametrize(
        ("forward", "weight", "shape", "macs"),
        [
            (lambda m, x: F.conv2d(x, m.w, padding=1), (4, 3, 3, 3), (3, 5, 5), 4 * 27 * 25),
            (lambda m, x: F.linear(x, m.w), (4, 6), (3, 6), 3 * 24),
            (lambda m, x: x @ m.w, (6, 4), (2, 3, 6), 6 * 24),
            (lambda m, x: torch.matmul(m.w, x), (5, 8), (8, 7), 5 * 8 * 7),
            (lambda m, x: torch.einsum("bchw,oc->bohw", x, m.w), (4, 3), (3, 5, 5), 4 * 3 * 25),
            (lambda m, x: torch.einsum("bhnd,hdk->bhnk", x, m.w), (5, 4, 6), (5, 9, 4), 5 * 9 * 4 * 6),
            (lambda m, x: torch.einsum("bn,noi->boi", x.softmax(1), m.w), (3, 4, 5), (3,), 3 * 4 * 5),
        ],
    )
    def test_a_parameter_is_the_weight(
        self, forward: Callable[..., Tensor], weight: tuple[int, ...], shape: tuple[int, ...], macs: int
    ) -> None:
        model = module(forward, w=nn.Parameter(torch.randn(weight)))
        layer = one(model, shape)
        assert layer.macs == macs == torch_macs(model, shape)
        assert layer.weights == model.w.numel()  # type: ignore[union-attr, operator]

    def test_inference_mode_hides_nothing(self) -> None:
        def forward(m: Any, x: Tensor) -> Tensor:
            with torch.inference_mode():
                y = m.conv(x).flatten(2).transpose(1, 2)
                return F.scaled_dot_product_attention(y, y, y) @ m.w

        traced = trace(module(forward, conv=nn.Conv2d(3, 4, 1), w=nn.Parameter(torch.randn(4, 5))), (3, 6, 6))
        assert [layer.macs for layer in traced.layers] == [4 * 3 * 36, 36 * 4 * 36, 36 * 36 * 4, 36 * 4 * 5]
        assert not traced.uncounted

    def test_two_activations_have_no_weight(self) -> None:
        layer = one(module(lambda m, x: x @ x.transpose(1, 2)), (7, 5))
        assert (layer.kind, layer.macs, layer.weights) == ("matmul", 7 * 5 * 7, 0)

    @pytest.mark.parametrize("train", [True, False])
    def test_attention(self, train: bool) -> None:
        model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).train(train)
        traced = trace(model, (10, 16))
        attention = 2 * 10 * 10 * 16
        assert cost(traced.layers).macs == 10 * (16 * 48 + 16 * 16 + 2 * 16 * 32) + attention
        assert cost(traced.layers).parameters == sum(parameter.numel() for parameter in model.parameters())
        assert not traced.uncounted

    def test_attention_over_another_sequence(self) -> None:
        attention = nn.MultiheadAttention(16, 4, batch_first=True)
        traced = trace(module(lambda m, x, y: m.attention(x, y, y)[0], attention=attention), [(10, 16), (7, 16)])
        assert cost(traced.layers).macs == 10 * 16 * 16 * 2 + 7 * 16 * 32 + 2 * 10 * 7 * 16
        assert cost(traced.layers).parameters == sum(parameter.numel() for parameter in attention.parameters())

    def test_one_image_cut_into_windows_counts_every_window(self) -> None:
        model = module(lambda m, x: m.conv(torch.cat([x[..., :4], x[..., 4:]])), conv=nn.Conv2d(3, 4, 3))
        assert one(model, (3, 8, 8)).macs == 2 * 4 * 27 * 6 * 2 == torch_macs(model, (3, 8, 8))

    def test_what_data_decide_is_followed(self) -> None:
        model = module(lambda m, x: m.conv(x) if x.sum().item() < 1e9 else x, conv=nn.Conv2d(3, 4, 1))
        assert one(model, (3, 8, 8)).macs == 4 * 3 * 64


class TestActivations:
    """How many bytes are alive while a layer runs."""

    def test_a_plain_layer_holds_its_input_and_output(self) -> None:
        assert one(nn.Conv2d(3, 5, 1), (3, 4, 4)).activation_bytes == 4 * (3 + 5) * 16

    def test_a_shortcut_is_held(self) -> None:
        model = module(
            lambda m, x: x + m.b(F.relu(m.a(x))), a=nn.Conv2d(4, 6, 1), b=nn.Conv2d(6, 4, 1)
        )  # fmt: skip
        first, second = trace(model, (4, 3, 3)).layers
        assert first.activation_bytes == 4 * 9 * (4 + 6)  # what it holds is its own input
        assert second.activation_bytes == 4 * 9 * (6 + 4 + 4)
        assert cost([first, second]).activation_bytes == 4 * 9 * (6 + 4 + 4)

    def test_a_binary_input_is_packed(self) -> None:
        assert one(BinaryConv(16, 4), (16, 3, 3)).activation_bytes == 16 * 9 // 8 + 4 * 4 * 9


class OwnLSTM(nn.LSTM):
    """What a subclass computes is seen only as it runs."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[0]


class Packed(nn.Module):
    """Two sequences of 5 and 3 steps, of which a batch of one image is made."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        sequences = nn.utils.rnn.pack_padded_sequence(x[0].unflatten(0, (5, 2)), torch.tensor([5, 3]))
        return self.gru(sequences)[0].data


def stepped(cell: nn.Module, steps: int = 3) -> nn.Module:
    """A cell that a loop calls."""

    def forward(m: Any, x: Tensor) -> Tensor:
        state = None
        for _ in range(steps):
            state = m.cell(x, state)
        return state[0] if isinstance(state, tuple) else state

    return module(forward, cell=cell)


COMPLEX = torch.randn(4, 5, dtype=torch.complex64)
# A model, the shape of its input, and what a hand counts: its MACs, its weights, its other values.
BY_HAND: dict[str, tuple[nn.Module, tuple[int, ...], int, int, int]] = {
    "conv of volumes": (nn.Conv3d(2, 4, 3), (2, 5, 6, 7), 4 * 2 * 27 * 3 * 4 * 5, 4 * 2 * 27, 4),
    "... with stride and groups": (
        nn.Conv3d(4, 8, (1, 2, 3), stride=(1, 2, 1), groups=2, bias=False), (4, 3, 4, 5),
        8 * 2 * 6 * 3 * 2 * 3, 8 * 2 * 6, 0,
    ),
    "transposed conv of volumes": (nn.ConvTranspose3d(2, 4, 3), (2, 5, 6, 7), 2 * 5 * 6 * 7 * 4 * 27, 2 * 4 * 27, 4),
    "RNN": (nn.RNN(4, 5), (7, 4), 7 * 5 * (4 + 5), 5 * (4 + 5), 2 * 5),
    "RNN without bias": (nn.RNN(4, 5, bias=False), (7, 4), 7 * 5 * (4 + 5), 5 * (4 + 5), 0),
    "LSTM": (nn.LSTM(4, 5), (7, 4), 7 * 4 * 5 * (4 + 5), 4 * 5 * (4 + 5), 2 * 20),
    "LSTM, two layers both ways": (
        nn.LSTM(4, 5, 2, bidirectional=True), (7, 4),
        2 * 7 * 20 * (4 + 5) + 2 * 7 * 20 * (10 + 5), 2 * 20 * (4 + 5) + 2 * 20 * (10 + 5), 4 * 2 * 20,
    ),
    "LSTM, projected": (
        nn.LSTM(4, 5, proj_size=3), (7, 4), 7 * (20 * (4 + 3) + 5 * 3), 20 * (4 + 3) + 5 * 3, 2 * 20
    ),
    "LSTM in double": (nn.LSTM(4, 5).double(), (7, 4), 7 * 4 * 5 * (4 + 5), 4 * 5 * (4 + 5), 2 * 20),
    "GRU": (nn.GRU(4, 5), (7, 4), 7 * 3 * 5 * (4 + 5), 3 * 5 * (4 + 5), 2 * 15),
    "GRU over a packed batch": (Packed(), (10, 4), (5 + 3) * 3 * 6 * (4 + 6), 3 * 6 * (4 + 6), 2 * 18),
    "RNN cell": (stepped(nn.RNNCell(4, 5)), (4,), 3 * 5 * (4 + 5), 5 * (4 + 5), 2 * 5),
    "LSTM cell": (stepped(nn.LSTMCell(4, 5)), (4,), 3 * 20 * (4 + 5), 20 * (4 + 5), 2 * 20),
    "GRU cell": (stepped(nn.GRUCell(4, 5)), (4,), 3 * 15 * (4 + 5), 15 * (4 + 5), 2 * 15),
    # (a + bi)(c + di) is four real products, and each value is two.
    "complex linear": (
        module(lambda m, x: m.fc(torch.complex(x, x)).abs(), fc=nn.Linear(4, 5, dtype=torch.complex64)), (4,),
        4 * 4 * 5, 2 * 4 * 5, 2 * 5,
    ),
    "complex product": (
        module(lambda m, x: (torch.complex(x, x) @ m.w).abs(), w=nn.Parameter(COMPLEX)), (4,), 4 * 4 * 5, 2 * 4 * 5, 0
    ),
    # Torch makes three real convolutions of a complex one.
    "complex conv": (
        module(lambda m, x: m.conv(torch.complex(x, x)).abs(), conv=nn.Conv2d(4, 5, 3, dtype=torch.complex64)),
        (4, 6, 6), 3 * 5 * 4 * 9 * 16, 2 * 5 * 4 * 9, 2 * 5,
    ),
    "words": (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5)), (7,), 7 * 4 * 5, 4 * 5, 9 * 4 + 5),
    "a bag of words": (nn.Sequential(nn.EmbeddingBag(9, 4), nn.Linear(4, 5)), (7,), 4 * 5, 4 * 5, 9 * 4 + 5),
}  # fmt: skip


@pytest.mark.parametrize("kind", BY_HAND)
@pytest.mark.filterwarnings("error:not counted")
def test_is_counted_as_by_hand(kind: str) -> None:
    model, shape, macs, weights, others = BY_HAND[kind]
    like = [torch.zeros(1, *shape, dtype=torch.long)] if "words" in kind else []
    counted = cost(trace(model, shape, like=like).layers)
    assert (counted.macs, counted.weights, counted.parameters) == (macs, weights, weights + others)


def test_a_deformable_convolution_counts_as_one_and_boxes_are_no_layers() -> None:
    """By operators of these names, as torchvision has them."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(
        "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, int sh, int sw, int ph, "
        "int pw, int dh, int dw, int groups, int offset_groups, bool use_mask) -> Tensor"
    )
    library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    library.impl("deform_conv2d", lambda x, w, *_: x.new_zeros(1, len(w), 3, 2), "CPU")
    library.impl("nms", lambda boxes, scores, threshold: scores.argsort(), "CPU")

    def forward(m: Any, x: Tensor) -> Tensor:
        offset = x.new_zeros(1, 18, 3, 2)
        y = torch.ops.torchvision.deform_conv2d(x, m.weight, offset, offset, m.bias, 2, 3, 1, 1, 1, 1, 2, 1, False)
        return y, torch.ops.torchvision.nms(y[0, 0], y[0, 1, :, 0], 0.5)

    parts = {"weight": nn.Parameter(torch.randn(6, 2, 3, 3)), "bias": nn.Parameter(torch.zeros(6))}
    traced = trace(module(forward, **parts), (4, 5, 5))
    assert traced.uncounted == ()
    layer = traced.layers[0]
    assert (layer.macs, layer.weights, layer.groups, layer.stride) == (6 * 2 * 9 * 3 * 2, 6 * 2 * 9, 2, (2, 3))


class OwnBinaryConv(nn.Conv2d):
    """One bit as other libraries have it: real weights that the forward binarizes, at the scale of each filter."""

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.where(self.weight >= 0, 1.0, -1.0) * self.weight.abs().mean((1, 2, 3), keepdim=True)
        return F.conv2d(torch.where(x >= 0, 1.0, -1.0), weight, self.bias, self.stride, self.padding)


class OwnBinaryLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.where(x >= 0, 1.0, -1.0), torch.where(self.weight >= 0, 1.0, -1.0), self.bias)


class ByAbsoluteValue(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(weight >= 0, 0.3, -0.1)


def parametrized() -> nn.Module:
    conv = nn.Conv2d(4, 6, 3)
    nn.utils.parametrize.register_parametrization(conv, "weight", ByAbsoluteValue())
    return conv


def stored(layer: nn.Module, kind: Callable[[Tensor], Tensor]) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(kind(layer.weight))
    return layer


# A layer, its precision, and the values that are kept beside its bits and biases.
ONE_BIT: dict[str, tuple[nn.Module, str, int]] = {
    "binarized in forward": (OwnBinaryConv(4, 6, 3, padding=1), "binary", 6),
    "linear": (nn.Sequential(nn.Flatten(), OwnBinaryLinear(4 * 25, 6)), "binary", 0),
    "parametrized, two values": (parametrized(), "weight", 2 * 6),
    "stored as signs": (stored(nn.Conv2d(4, 6, 3), torch.sign), "weight", 0),
    "transposed": (stored(nn.ConvTranspose2d(4, 6, 3, groups=2), torch.sign), "weight", 0),
    "real": (nn.Conv2d(4, 6, 3), "real", 0),
    "ternary": (stored(nn.Conv2d(4, 6, 3), lambda w: w.sign() * (w.abs() > 0.05)), "real", 0),
    "all alike": (stored(nn.Conv2d(4, 6, 3), torch.ones_like), "real", 0),
    "nothing but zeros": (stored(nn.Conv2d(4, 6, 3), torch.zeros_like), "real", 0),
    "two weights a filter": (nn.Conv2d(4, 6, 1, groups=2), "real", 0),
}


@pytest.mark.parametrize("kind", ONE_BIT)
def test_one_bit_is_seen_by_values_whoever_made_it(kind: str) -> None:
    torch.manual_seed(0)
    model, precision, beside = ONE_BIT[kind]
    (layer,) = (layer for layer in trace(model, (4, 5, 5)).layers if layer.macs)
    assert (layer.precision, layer.real_values) == (precision, beside + 6)


def test_padding_before_the_convolution_leaves_its_input_one_bit() -> None:
    conv = stored(nn.Conv2d(4, 6, 3), torch.sign)
    assert one(module(lambda m, x: m.conv(F.pad(x.sign(), (1,) * 4)), conv=conv), (4, 5, 5)).precision == "binary"
    assert one(module(lambda m, x: m.conv(x.sign() * (x > 0)), conv=conv), (4, 5, 5)).precision == "weight"


@pytest.mark.parametrize("slices", [((0, 4), (0, 6)), ((0, 4), (2, 6)), ((0, 6), (1, 3), (2, 5))])
def test_slices_of_one_weight_with_values_in_common_are_counted_once(slices) -> None:
    class Slim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 5))

        def forward(self, x):
            return torch.stack([F.linear(x, self.weight[a:b]).sum(-1) for a, b in slices], 1)

    found = cost(trace(Slim(), (5,))[0])
    assert (found.parameters, found.bytes) == (30, 120)
    assert found.flops == 5 * sum(b - a for a, b in slices)


class TestUncounted:
    """Nothing is zero in silence."""

    @pytest.mark.parametrize(
        ("model", "shapes", "path", "operator"),
        [
            (module(lambda m, x: torch.sparse.mm(x[0].to_sparse_csr(), m.w), w=WEIGHT), [(5, 3)], "", "_to_sparse_csr"),
            (module(lambda m, x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))), [(3,)], "", "cond"),
            (module(lambda m, x: (x[:, None] * m.w).sum(-1), w=WEIGHT), [(3,)], "", "sum"),
            (module(lambda m, x: (x[:, None] * m.w).mean(-1), w=WEIGHT), [(3,)], "", "mean"),
            (module(lambda m, x: F.cosine_similarity(x, x.flip(1))), [(3,)], "", "sum"),
            (module(lambda m, x: torch.tensor(x.tolist())), [(3,)], "", "output"),
            (module(lambda m, x: torch.from_numpy(x.numpy() @ m.w.numpy()), w=nn.Buffer(WEIGHT)), [(3,)], "", "output"),
            (nn.Sequential(OwnLSTM(4, 5, batch_first=True)), [(7, 4)], "0", "mkldnn_rnn_layer"),
            (
                module(
                    lambda m, x: m.bag(x.new_zeros(1, 3, dtype=torch.long), per_sample_weights=x),
                    bag=nn.EmbeddingBag(5, 4, mode="sum"),
                ),
                [(3,)],
                "bag",
                "_embedding_bag",
            ),
            (nn.Bilinear(3, 4, 5), [(3,), (4,)], "", "_trilinear"),
            (module(lambda m, x: torch.fft.rfft(x).real), [(8,)], "", "_fft_r2c"),
            (module(lambda m, x: torch.cdist(x, x)), [(4, 3)], "", "_cdist_forward"),
            (module(lambda m, x: x, spare=nn.Linear(3, 3)), [(3,)], "spare", "parameters"),
            (module(lambda m, x: x @ (m.a @ m.a), a=nn.Parameter(torch.eye(3))), [(3,)], "", "mm"),
        ],
    )
    def test_is_listed_and_warned_of(
        self, model: nn.Module, shapes: list[tuple[int, ...]], path: str, operator: str
    ) -> None:
        with pytest.warns(UserWarning, match="not counted: .*" + operator):
            traced = trace(model, shapes)
        assert (traced.uncounted[0].path, traced.uncounted[0].operator) == (path, operator)

    @pytest.mark.parametrize(
        ("forward", "operator"),
        [
            (lambda m, x: (x[:, None] * m.w).flatten(2).sum(2), "sum"),
            (lambda m, x: (x[:, None] * m.w + 0.0).sum((2, 3, 4)), "sum"),
            (lambda m, x: (x[:, None] * m.w).permute(0, 2, 3, 4, 1).reshape(1, -1, 5).sum(1), "sum"),
            (lambda m, x: F.hardswish(x * m.w[0]).mean((2, 3)), "mean"),
            (lambda m, x: F.avg_pool2d(x * m.w[0], 8), "avg_pool2d"),
            (lambda m, x: F.adaptive_avg_pool2d(F.batch_norm(x * m.w[0], *WEIGHT[:2]), 2), "_adaptive_avg_pool2d"),
            (lambda m, x: torch.cat([x, (x * m.w[0]).unbind(1)[0][:, None]], 1).sum((2, 3)), "sum"),
            (lambda m, x: F.pad(x * m.w[0], (1, 1)).cumsum(-1), "cumsum"),
            (lambda m, x: x.clone().mul_(m.w[0]).sum(), "sum"),
            (lambda m, x: torch.addcmul(x, x, m.w[0]).sum(), "sum"),
            (lambda m, x: (x * m.w[0]).mean(0).sum(), "sum"),
            (lambda m, x: x.new_zeros(3, 8).index_add(0, torch.arange(3), (x * m.w[0])[0, :, 0]), "index_add"),
        ],
    )
    def test_products_are_followed_to_where_they_are_summed(
        self, forward: Callable[..., Tensor], operator: str
    ) -> None:
        model = module(forward, w=nn.Parameter(torch.randn(5, 3, 8, 8)))
        with pytest.warns(UserWarning, match=f"not counted: .*{operator}: it adds up products of single values"):
            trace(model, (3, 8, 8))

    def test_a_buffer_of_sparse_weights_is_listed(self) -> None:
        model = module(lambda m, x: torch.sparse.mm(m.w, x[0]), w=nn.Buffer(torch.eye(4).to_sparse()))
        with pytest.warns(UserWarning, match="not counted: the model itself: _sparse_addmm"):
            assert trace(model, (4, 5)).layers == ()

    @pytest.mark.parametrize(
        "forward",
        [
            lambda m, x: (x * x.mean((2, 3), keepdim=True).sigmoid()).mean((2, 3)),  # squeeze-excite, then a pooling
            lambda m, x: (x * torch.ones(4, 1, 1)).sum((-2, -1)),
            lambda m, x: (x * x).sum() + (2 * x).mean(),
            lambda m, x: x / (x * x).mean(1, keepdim=True).sqrt(),
            lambda m, x: F.adaptive_avg_pool2d((x * x.mean((2, 3), keepdim=True)).relu() + x, 1),
            lambda m, x: (x * x.mean((2, 3), keepdim=True)).flatten(2).contiguous().mean(2),
            lambda m, x: (x * torch.ones(4, 1, 1)).reshape(2, 2, 5, 5).mean((2, 3)),
            lambda m, x: F.avg_pool2d(x * x.sigmoid(), 5) + (x * F.relu6(x + 3) / 6).mean(),
            lambda m, x: F.avg_pool2d(x * x.mean((2, 3), keepdim=True), 2).mean((2, 3)),
            lambda m, x: (x * x.mean((2, 3), keepdim=True)).mean(3).mean(2),
            lambda m, x: torch.cat([x * x.mean((2, 3), keepdim=True), x], 1).repeat(1, 2, 1, 1).mean((2, 3)),
            lambda m, x: F.conv2d(x * x.flip(1), torch.ones(2, 4, 1, 1)).mean((2, 3)),
        ],
    )
    @pytest.mark.filterwarnings("error:not counted")
    def test_scaled_sums_and_norms_are_no_sums_of_products(self, forward: Callable[..., Tensor]) -> None:
        assert trace(module(forward), (4, 5, 5)).uncounted == ()

    def test_an_operator_of_the_users_own_is_listed(self) -> None:
        @torch.library.custom_op("bnas_test::twice", mutates_args=())
        def twice(x: Tensor) -> Tensor:
            return x * 2

        with pytest.warns(UserWarning, match="bnas_test::twice"):
            trace(module(lambda m, x: twice(x)), (3,))

    @pytest.mark.parametrize(
        "layer",
        [
            nn.Hardswish(), nn.LogSigmoid(), nn.GLU(1), nn.ReLU(inplace=True), nn.LPPool2d(2, 2), nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(3), nn.Upsample(scale_factor=2, mode="bicubic"), nn.PixelShuffle(2),
            nn.ChannelShuffle(2), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LocalResponseNorm(2), nn.Softmax(1),
            nn.ReflectionPad2d(1), nn.Unfold(3), nn.Dropout2d(), nn.AlphaDropout(),
        ],
    )  # fmt: skip
    @pytest.mark.filterwarnings("error:not counted")
    def test_what_the_convention_leaves_out_is_no_news(self, layer: nn.Module) -> None:
        assert trace(layer, (4, 8, 8)).uncounted == ()


class TestTheModel:
    """It stays as it was, whatever it is."""

    def test_mode_buffers_hooks_and_random_numbers_stay(self) -> None:
        network = build(small_space(squeeze_excite=True).largest()).train()
        network.stem.eval()
        modes = [part.training for part in network.modules()]
        before = [tensor.clone() for tensor in (*network.parameters(), *network.buffers())]
        random = torch.get_rng_state()
        trace(network, (3, 13, 11))
        assert torch.equal(torch.get_rng_state(), random)
        assert [part.training for part in network.modules()] == modes
        assert all(map(torch.equal, before, (*network.parameters(), *network.buffers())))
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())

    def test_what_forward_remembers_stays(self) -> None:
        def forward(m: Any, x: Tensor) -> Tensor:
            m.calls = getattr(m, "calls", 0) + 1
            m.last = m.conv(x)
            return m.last

        model = module(forward, conv=nn.Conv2d(3, 4, 1))
        last = model(torch.zeros(1, 3, 2, 2))  # has a gradient, which deepcopy refuses
        assert one(model, (3, 5, 5)).macs == 4 * 3 * 25
        assert model.calls == 1
        assert model.last is last

    def test_a_failing_model_stays_too(self) -> None:
        model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(4, 4, 1))
        with pytest.raises(ShapeError):
            trace(model, (3, 5, 5))
        assert model.training
        assert not model._forward_pre_hooks

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_any_dtype(self, dtype: torch.dtype) -> None:
        assert one(nn.Conv2d(3, 4, 3).to(dtype), (3, 5, 5)).macs == 4 * 27 * 9

    def test_without_memory_for_weights(self) -> None:
        arch = small_space().largest()
        with torch.device("meta"):
            network = build(arch)
        assert trace(network, arch.input).layers == plan(arch)
        assert all(parameter.is_meta for parameter in network.parameters())

    def test_compiled(self) -> None:
        model = torch.compile(nn.Sequential(nn.Conv2d(3, 4, 3)))
        assert one(model, (3, 5, 5)).macs == 4 * 27 * 9  # type: ignore[arg-type]


class TestBadInput:
    """One line that says where, and what to do."""

    @pytest.mark.parametrize(
        ("model", "shape", "expected"),
        [
            (
                nn.Sequential(nn.Flatten(), nn.Linear(3, 3)),
                (4, 8, 8),
                "trace: the model fails on an input of 4x8x8, in 1: mat1 and mat2 shapes cannot be multiplied",
            ),
            (nn.Conv2d(3, 4, 1), (0, 8, 8), "input shape: sides must be positive whole numbers, as in (3, 224, 224)"),
            (nn.Conv2d(3, 4, 1), (), "input shape: sides must be positive whole numbers, as in (3, 224, 224)"),
            (nn.Conv2d(3, 4, 1), (3, 8.5, 8), "input shape: sides must be positive whole numbers"),
            (nn.Conv2d(3, 4, 1), "3x8x8", "input shape: sides must be positive whole numbers"),
            (nn.Conv2d(3, 4, 1), 8, "input shape: sides must be positive whole numbers"),
            (nn.Conv2d(1, 4, 1), (1, 8192, 8192), "trace: an input of (1, 8192, 8192) has more than 16,777,216 values"),
            (
                nn.Conv2d(3, 4, 1),
                (3, 10**6, 10**6),
                "trace: an input of (3, 1000000, 1000000) has more than 16,777,216",
            ),
            (nn.Conv2d(3, 4, 1), (3, 10**5000, 8), "trace: an input of a tuple too long to show has more than 16,777"),
            (
                module(lambda m, x, y: x + y),
                (3, 8, 8),
                "trace: the model fails on an input of 3x8x8: TestBadInput.<lambda>() missing 1 required",
            ),
            (nn.LazyConv2d(4, 1), (3, 8, 8), "trace: the model has lazy layers without a size yet"),
            (module(lambda m, x: m.conv(x)), (3, 8, 8), "trace: the model fails on an input of 3x8x8: 'Made' object"),
        ],
    )
    def test_says_what_is_wrong(self, model: nn.Module, shape: Any, expected: str) -> None:
        with pytest.raises(ShapeError) as caught:
            trace(model, shape)
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_a_model_that_holds_itself_is_refused(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 4, 1))
        model.add_module("twin", model)
        with pytest.raises(ShapeError, match="one of its modules holds itself"):
            trace(model, (3, 2, 2))

    def test_a_scripted_model_is_refused(self) -> None:
        scripted = torch.jit.trace(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 2, 2), check_trace=False)
        with pytest.raises(ShapeError, match=r"give the nn\.Module that it was made of"):
            trace(scripted, (3, 2, 2))
