import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from packed import MANY, apart, exact_logits, images_for, small_input, worn, worn_network
from spaces import line_of, make_arch
from torch import Tensor, nn
from torch.export import ExportedProgram
from users_models import MODELS as USERS

from bnas.binarize import WEIGHT_BINARIZERS, BinaryWeight, clipped_sign
from bnas.cost.plan import plan
from bnas.errors import ExportError
from bnas.layers import BinaryConv, RSign
from bnas.networks.models import MODELS, build_model
from bnas.runtime.filters import SignFilters
from bnas.runtime.naive import evaluate
from bnas.runtime.program import Program, rounded
from bnas.runtime.simplify import simplified
from bnas.runtime.steps import Affine, Conv, Threshold, Value
from bnas.select import Decision, Decisions
from bnas.select.conversion import convert
from bnas.ship.lowering import lower, lower_plainly
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace

SPACES = sorted(path.stem for path in Path("search_spaces").glob("*.yaml"))
CLOSE = 1e-5  # arrays are float32; 1e-4 is what must hold
BITS: dict[str, Any] = {"groups": 2, "precision": "binary"}


def same_as_lowered(network: nn.Module, shape: tuple[int, ...], *, batch: int = 3) -> Program:
    """Lower a network and return its program, once it has the same logits, folded or not."""
    images = images_for(shape, batch=batch)
    expected = exact_logits(network, images)
    plain = lower_plainly(network, shape)
    program = rounded(simplified(plain))  # what `lower` returns
    for form in (program, plain):
        assert apart(evaluate(form, images.numpy()), expected) < CLOSE
    return program


def drawn(space: str, count: int) -> list[Architecture]:
    found, random_ = SearchSpace.read(f"search_spaces/{space}.yaml"), random.Random(0)
    return [found.architecture(found.sample(random_)) for _ in range(count)]


@pytest.mark.parametrize("space", SPACES)
def test_networks_of_a_space_keep_their_logits(space: str) -> None:
    for seed, arch in enumerate(drawn(space, 50 if MANY else 2)):
        same_as_lowered(worn_network(arch, seed=seed), arch.input)


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": BITS | {"experts": 3}, "binarizers": {"weight": "xnor", "pad_value": 1}},
        {"stage": BITS | {"experts": 2}, "binarizers": {"weight": "sign", "pad_value": -1}},
        {"stage": BITS | {"stride": 2}, "binarizers": {"weight": "alpha_beta", "pad_value": 0}},
        {"stage": BITS | {"experts": 2}, "binarizers": {"weight": "alpha_beta", "activation": "react"}},
        {"stage": {"precision": "weight", "experts": 3}, "binarizers": {"weight": "irnet"}},
        {"stage": {"precision": "real", "experts": 2, "groups": 4, "kernel": 5}},
        {"stage": BITS | {"kernel": 7, "stride": 3}, "binarizers": {"weight": "group", "activation": "polynomial"}},
        {"stage": BITS | {"kernel": 1, "width": 24}, "squeeze_excite": True, "shortcut": {"kind": "bottleneck"}},
        {"stage": {"width": 24, "stride": 2, "experts": 2}, "squeeze_excite": True, "shortcut": {"kind": "conv"}},
        {"stem": {"kind": "branched", "width": 8, "stride": 4}, "input": [3, 21, 13]},
        {"stem": {"kind": "space_to_depth", "width": 8, "kernel": 1, "stride": 2}},
        {"stem": {"kind": "space_to_depth", "width": 8, "kernel": 3, "stride": 4}, "input": [3, 21, 14]},
        {"stem": {"kind": "thermometer", "width": 8, "levels": 3}, "binarizers": {"weight": "alpha_beta"}},
        {"stem": {"kind": "thermometer", "width": 8, "levels": 1, "stride": 2}, "binarizers": {"pad_value": -1}},
        {"stage": {"width": 20, "stride": 2}, "input": [2, 1, 3]},
        {"classifier": "binary", "binarizers": {"weight": "alpha_beta", "activation": "react"}},
        {"classifier": "weight", "stage": {"width": 24}},
        {"stage": BITS | {"kernel": "1x5", "stride": 2, "experts": 2}, "input": [2, 1, 13]},
        {"stage": {"kernel": "5x1"}, "stem": {"width": 8, "kernel": "1x3"}, "binarizers": {"pad_value": 1}},
        {"stage": BITS | {"stride": 2, "downsample": "max_pool"}, "squeeze_excite": True},
        {"stage": {"stride": 3, "downsample": "max_pool", "experts": 2}, "shortcut": {"kind": "conv"}},
    ],
)
def test_every_part_of_a_network_keeps_its_logits(changes: dict[str, Any]) -> None:
    arch = make_arch(**changes)
    same_as_lowered(worn_network(arch), arch.input)


@pytest.mark.parametrize("weights", WEIGHT_BINARIZERS)
def test_filters_have_as_many_scales_and_offsets_as_are_counted(weights: str) -> None:
    stage = {"experts": 3, "precision": "weight"}
    arch = make_arch(stage=stage, classifier="weight", binarizers={"weight": weights})
    network = worn_network(arch)
    with torch.no_grad():
        network.get_parameter("stages.0.0.main.conv.weight")[0, :, 0, 0, 0] = 30  # beside which the others are small
    filters = [step.filters for step in lower_plainly(network, arch.input).steps if isinstance(step, Conv)]
    kept = [f.scale.size + (0 if f.offset is None else f.offset.size) for f in filters if isinstance(f, SignFilters)]
    conv, classifier = (layer.real_values for layer in plan(arch) if layer.precision == "weight")
    assert kept == [conv, classifier - arch.classes]  # which has a bias too


USUALLY = {  # of each network one preset; together all presets, and both kinds of weights
    "lenet5": ("weight", "xnor"),
    "vgg_small": ("binary", "alpha_beta"),
    "resnet18": ("hybrid-last", "xnor"),
    "resnet34": ("binary", "xnor"),
    "resnet18_cifar": ("real", "xnor"),
    "wrn28_10": ("weight", "xnor"),
    "alexnet": ("hybrid", "xnor"),
    "googlenet": ("weight", "alpha_beta"),
    "squeezenet": ("hybrid", "alpha_beta"),
    "sketch_a_net": ("binary", "alpha_beta"),
    "resnet20_cifar": ("binary", "xnor"),
    "cnv": ("binary", "xnor"),
    "tfc": ("binary", "alpha_beta"),
    "sfc": ("weight", "xnor"),
    "lfc": ("binary", "xnor"),
}
ALL = [
    (name, preset, weights) for name in MODELS for preset in MODELS[name].presets for weights in ("xnor", "alpha_beta")
]
REFERENCES = ALL if MANY else [(name, *USUALLY[name]) for name in MODELS]


@pytest.mark.parametrize(("name", "preset", "weights"), REFERENCES)
def test_reference_networks_keep_their_logits(name: str, preset: str, weights: str) -> None:
    torch.manual_seed(0)
    network = worn(build_model(name, precision=preset, weights=weights))
    same_as_lowered(network, small_input(name), batch=2)


CONVERTIBLE = [name for name, model in USERS.items() if len(model.inputs) == 1 and len(model.inputs[0]) == 3]
NOT_LOWERED = {"inception", "transformer", "einsum", "autoencoder", "volumes", "pruned", "in place"}


@pytest.mark.parametrize("precision", ["real", "weight", "binary"])
@pytest.mark.parametrize("name", sorted(set(CONVERTIBLE) - NOT_LOWERED))
def test_converted_models_of_users_keep_their_logits(name: str, precision: str) -> None:
    same_as_lowered(converted(name, precision), USERS[name].inputs[0])


def converted(name: str, precision: str) -> nn.Module:
    torch.manual_seed(0)
    model = USERS[name].make()
    kinds = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)
    paths = [path for path, module in model.named_modules() if type(module) in kinds and path not in USERS[name].real]
    chosen = {path: Decision(precision=precision, norm=True) for path in paths if name != "shared"}
    return worn(convert(model, Decisions(layers=chosen)) if precision != "real" else model)


def _weights(like: Tensor, *shape: int) -> Tensor:
    outs, ins, side = shape
    return torch.arange(outs * ins * side**2).view(outs, ins, side, side).to(like).sub(20.5).div(30).sin()


class Calling(nn.Module):
    """A model of one function."""

    def __init__(self, function: Any, **parts: nn.Module) -> None:
        super().__init__()
        self.function, self.fc = function, nn.Linear(3, 2)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(self, x))


@pytest.mark.parametrize(
    "function",
    [
        lambda _, x: F.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True).mean((2, 3)),
        lambda _, x: F.avg_pool2d(x, (2, 3), (2, 1), padding=(1, 0), count_include_pad=False).mean((2, 3)),
        lambda _, x: F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True).amax((2, 3)),
        lambda _, x: F.adaptive_avg_pool2d(x, (3, None)).mean((2, 3)),
        lambda _, x: F.hardswish(x).mean(3, keepdim=True).mean((2, 3)),
        lambda _, x: (F.silu(x) - 0.5 * torch.tanh(2 - x)).mean((-1, -2)),
        lambda _, x: F.leaky_relu(x.clamp(min=-1), 0.3).mean((2, 3), keepdim=True).flatten(1),
        lambda _, x: F.hardtanh(F.relu6(3 * x)).sub_(1).neg().mean((2, 3)),
        lambda _, x: (x / torch.tensor([1.0, 2.0, -3.0]).view(3, 1, 1)).mean((2, 3)),
        lambda _, x: torch.cat(x.chunk(3, 1)[::-1], 1).mean((2, 3)),
        lambda _, x: torch.cat([x[:, 1:], x[:, -3:-2]], dim=1).amax((2, 3)),
        lambda _, x: x[:, :, ::2, ::3].mean((2, 3)),
        lambda _, x: x.mean(2)[:, :, ::4].mean(2),
        lambda _, x: F.pad(x[:, :2], (0, 0, 0, 0, 1, 0)).mean((2, 3)),
        lambda _, x: F.max_pool2d(F.pad(x[:, :2], (1, 0, 0, 2, 1, 0)), 2).mean((2, 3)),
        lambda _, x: F.pad(x.mean(2), (2, 3)).mean(2),
        lambda _, x: F.pixel_unshuffle(x, 1).mean((2, 3)),
        lambda _, x: F.pixel_unshuffle(F.pad(x, (1, 0)), 2).amax((2, 3))[:, 4:7],
        lambda _, x: F.conv2d(F.pixel_unshuffle(F.pad(x, (0, 1)), 2), _weights(x, 3, 12, 3), padding=1).mean((2, 3)),
        lambda _, x: F.conv2d(F.pixel_unshuffle(F.pad(x, (0, 2)), 3), _weights(x, 3, 27, 1), stride=2).mean((2, 3)),
        lambda _, x: F.conv2d(F.pad(x, (0, 1, 2, 3)), _weights(x, 3, 3, 3), padding=2, stride=2).mean((2, 3)),
        lambda _, x: F.conv2d(F.conv2d(x, _weights(x, 3, 3, 3)), _weights(x, 3, 3, 1), padding=1).mean((2, 3)),
        lambda _, x: F.pad(x[:, 1:2], (0, 0, 0, 0, 1, 1), value=-0.5).amax((2, 3)),
        lambda _, x: F.pad(x.mean((2, 3))[:, :1], (0, 2), value=3.0),
        lambda _, x: x.repeat(1, 2, 1, 1)[:, 2:5].mean((2, 3)),
        lambda _, x: (x * torch.sigmoid(x.mean((2, 3), keepdim=True))).mean((2, 3)),
        lambda _, x: F.conv2d(x, torch.arange(36).view(3, 3, 2, 2).to(x) / 9, padding="same").mean((2, 3)),
        lambda _, x: x.double().mean((2, 3)).to(x.dtype),
        lambda _, x: F.conv2d(x, torch.arange(27).view(3, 1, 3, 3).to(x), groups=3, dilation=2).mean((2, 3)),
    ],
)
def test_operators_mean_what_torch_means(function: Any) -> None:
    torch.manual_seed(0)
    same_as_lowered(Calling(function).eval(), (3, 6, 7))


@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_pixels_that_only_move_go_into_the_convolution_that_reads_them(size: tuple[int, int], kernel: int) -> None:
    stem = {"kind": "space_to_depth", "width": 8, "kernel": kernel, "stride": 2}
    program = same_as_lowered(worn_network(make_arch(stem=stem, input=[3, *size])), (3, *size))
    first = program.steps[0]
    assert isinstance(first, Conv)
    assert first.filters.shape == (1, 8, 3, 2 * kernel, 2 * kernel)
    assert (first.inputs, first.stride) == ((0,), (2, 2))


def test_blocks_that_do_not_make_up_the_image_stay_where_they_are() -> None:
    weight = torch.eye(12).view(12, 3, 2, 2)  # of seven columns it leaves out the last, which no padding may show
    model = Calling(
        lambda _, x: F.conv2d(F.conv2d(x, weight.to(x), stride=2), _weights(x, 3, 12, 3), padding=1).mean((2, 3))
    )
    assert same_as_lowered(model.eval(), (3, 6, 6)).steps[0].stride == (2, 2)
    assert len(same_as_lowered(model.eval(), (3, 6, 7)).steps) == 1 + len(same_as_lowered(model, (3, 6, 6)).steps)


def test_the_bits_of_a_thermometer_are_thresholds_of_the_image() -> None:
    program = same_as_lowered(worn_network(make_arch(stem={"kind": "thermometer", "width": 8, "levels": 4})), (3, 9, 7))
    assert [type(step).__name__ for step in program.steps[:3]] == ["Channels", "Threshold", "Conv"]
    assert program.values[2] == Value("bits", 12, 9, 7)


def test_images_of_one_dimension_are_rows() -> None:
    model = nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 4, 3, padding="same", dilation=2), nn.MaxPool1d(2, stride=3), nn.ReLU(),
        nn.Conv1d(4, 4, 4, stride=2, padding=1, groups=2), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
    )  # fmt: skip
    same_as_lowered(model.eval(), (3, 1, 31))


def test_writing_in_place_changes_what_was_named_before() -> None:
    def function(_: nn.Module, x: Tensor) -> Tensor:
        y = 2 * x
        z = y[:, :2]
        y.add_(1)
        return torch.cat([z, y[:, 2:]], 1).mean((2, 3))

    def of_the_sum(_: nn.Module, x: Tensor) -> Tensor:
        y = 2 * x
        z = y.add_(x)
        y.mul_(0.5)
        return (z + y).mean((2, 3))

    for written in (function, of_the_sum):
        same_as_lowered(Calling(written).eval(), (3, 4, 4))


def test_what_nothing_else_reads_is_written_without_torch_rewriting_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExportedProgram, "run_decompositions", lambda *_: pytest.fail("takes three times as long"))
    same_as_lowered(worn_network(make_arch(stage={"depth": 2}, squeeze_excite=True)), (3, 9, 7))
    same_as_lowered(Calling(lambda _, x: (2 * x).add_(x).mul_(x).sub_(1).mean((2, 3))).eval(), (3, 4, 4))


def test_a_learned_sign_becomes_a_threshold() -> None:
    torch.manual_seed(0)
    parts = {"sign": RSign(3), "conv": BinaryConv(3, 3, precision="binary", pad_value=1)}
    model = worn(Calling(lambda self, x: self.conv(self.sign(x)).mean((2, 3)), **parts))
    program = same_as_lowered(model, (3, 5, 5))
    assert not any(isinstance(step, Affine) for step in program.steps)


def _with_gradients(x: Tensor) -> Tensor:
    with torch.enable_grad():
        return x.mean((2, 3))


REFUSED = {
    "a sign of 0 that is 0": (lambda _, x: torch.sign(x).mean((2, 3)), "aten.sign.default has no step"),
    "channels that change places": (lambda _, x: x.transpose(1, 2).mean((2, 3))[:, :3], "has no step"),
    "pixels that are left out": (lambda _, x: x[:, :, 1::2].mean((2, 3)), "a slice of dimension 2 from 1 to 6"),
    "pixels of another value": (lambda _, x: F.pad(x, (1, 1), value=0.5).mean((2, 3)), "of pixels with 0 does"),
    "pixels over again": (lambda _, x: F.pad(x, (1, 1, 0, 0), "reflect").mean((2, 3)), "has no step"),
    "fewer channels by padding": (lambda _, x: F.pad(x, (0, 0, 0, 0, 2, -2)).mean((2, 3)), "has no step"),
    "images that are mixed": (lambda _, x: (x - x.mean(0, keepdim=True)).mean((2, 3)), "mixes channels or images"),
    "a choice by value": (lambda _, x: (x if x.sum() > 0 else -x).mean((2, 3)), "torch.export"),
    "weights from the image": (lambda _, x: F.linear(x.mean((2, 3)), x.mean((2, 3))[:1].repeat(3, 1)), "has no step"),
    "windows of several sizes": (lambda _, x: F.adaptive_avg_pool2d(x, 4).mean((2, 3)), "several sizes"),
    "values that are rounded": (lambda _, x: (9 * x).to(torch.int32).to(x.dtype).mean((2, 3)), "rounds them"),
    "a block with gradients": (lambda _, x: _with_gradients(x), "switches of gradients, out of forward"),
    "dropout that never ends": (lambda _, x: F.dropout(x).mean((2, 3)), "write F.dropout.*training=self.training"),
    "places of a pooling": (
        lambda _, x: sum(F.max_pool2d(x, 2, return_indices=True)).mean((2, 3)),
        "where a pooling found its values",
    ),
    "a vector beside an image": (lambda _, x: (x + x.mean((1, 2))[:, None, None]).mean((2, 3)), "mixes channels"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_has_no_steps_is_refused_by_reason(case: str) -> None:
    function, reason = REFUSED[case]
    with pytest.raises(ExportError, match=reason) as caught:
        lower(Calling(function).eval(), (3, 6, 6))
    assert line_of(caught).startswith("the model: cannot be lowered")


@pytest.mark.parametrize(
    ("name", "where"), [("inception", "far"), ("einsum", "the model"), ("autoencoder", "up"), ("transformer", "")]
)
@pytest.mark.parametrize("precision", ["real", "binary"])
def test_a_model_with_such_a_part_is_refused_by_its_path(name: str, where: str, precision: str) -> None:
    with pytest.raises(ExportError) as caught:
        lower(converted(name, precision), USERS[name].inputs[0])
    assert line_of(caught).startswith(where)


def layerwise(latent: Tensor) -> BinaryWeight:
    """One scale for all filters of a layer."""
    return BinaryWeight(clipped_sign(latent), latent.detach().abs().mean())


def bankwise(latent: Tensor) -> BinaryWeight:
    """One scale for all filters of an expert."""
    binary = layerwise(latent)
    return binary._replace(scale=latent.detach().abs().mean((-4, -3, -2, -1), keepdim=True))


def by_input(latent: Tensor) -> BinaryWeight:
    """One scale for each input channel, which no packed filter has."""
    return layerwise(latent)._replace(scale=latent.detach().abs().mean((-2, -1), keepdim=True))


@pytest.mark.parametrize("binarizer", ["layerwise", "bankwise"])
@pytest.mark.parametrize("experts", [1, 4])
def test_a_binarizer_may_have_fewer_scales_than_filters(binarizer: str, experts: int) -> None:
    binarizers = {"weight": f"{Path(__file__).absolute()}:{binarizer}"}
    same_as_lowered(
        worn_network(make_arch(stage=BITS | {"experts": experts, "width": 4}, binarizers=binarizers)), (3, 9, 7)
    )


def test_a_binarizer_has_no_more_scales_than_filters() -> None:
    network = worn_network(make_arch(binarizers={"weight": f"{Path(__file__).absolute()}:by_input"}))
    with pytest.raises(
        ExportError, match=r"by_input' gives values \[.*\] for filters .*, where one a filter is needed"
    ):
        lower(network, (3, 9, 7))


@pytest.mark.parametrize(("variance", "eps", "said"), [(0.0, 0.0, "of 0, its"), (-1.0, 1e-5, "of -0.99999, its")])
def test_a_batch_norm_that_divides_by_nothing_is_refused(variance: float, eps: float, said: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=eps), nn.Flatten())
    network[1].running_var.fill_(variance)
    with pytest.raises(ExportError, match=rf"^1: cannot be lowered: a batch norm divides by the root {said}"):
        lower(network.eval(), (3, 3, 3))


def noisy(values: Tensor) -> Tensor:
    return torch.sign(values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"real_weights": True}, "real_weights = False"),
        ({"real_inputs": True}, "real_inputs = False"),
        ({"binarize_input": noisy}, "is not the sign"),
    ],
)
def test_a_layer_that_is_not_in_its_final_form_is_refused(change: dict[str, Any], reason: str) -> None:
    network = worn_network(make_arch())
    for name, value in change.items():
        setattr(network.get_submodule("stages.0.0.main.conv"), name, value)
    with pytest.raises(ExportError, match=rf"^stages\.0\.0\.main\.conv: .*{reason}"):
        lower(network, (3, 9, 7))


def test_a_batch_norm_without_statistics_of_its_own_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    with pytest.raises(ExportError, match=r"^1: cannot be lowered"):
        lower(network.eval(), (3, 3, 3))


def test_lowering_leaves_the_model_as_it_is() -> None:
    network = worn_network(make_arch(stage={"experts": 2})).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    lower(network, (3, 9, 7))
    assert network.training
    assert not any("forward" in vars(module) for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_between_bits_and_bits_stand_whole_numbers() -> None:
    torch.manual_seed(0)
    program = lower(worn(build_model("vgg_small", precision="binary")), (3, 32, 32))
    whole = [step for step in program.steps if isinstance(step, Conv) and isinstance(step.filters, SignFilters)]
    compared = [step for step in program.steps if isinstance(step, Threshold) and np.all(np.ceil(step.at) == step.at)]
    unpooled = 2  # of its binary convolutions, those that another follows without a pooling between
    assert sum(bool((step.filters.scale == 1).all()) for step in whole) == len(compared) == unpooled  # type: ignore[union-attr]
