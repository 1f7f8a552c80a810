"""QONNX files, executed by qonnx; `test_fpga.py` has FINN and hls4ml themselves."""

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import finished_run, manifest_of
from fpga_networks import MEAN, STD, like_cnv, three_layers
from packed import MANY, apart, exact_logits, far_apart, worn, worn_network
from programs import random_program
from spaces import line_of, make_arch
from test_deploy import shipped
from test_lowering import SPACES, drawn
from torch import nn

from bnas.api.exporting import export
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import ExportError
from bnas.networks.model_spec import ModelSpec
from bnas.runtime import Card
from bnas.runtime.filters import RealFilters, SignFilters
from bnas.runtime.naive import MEANINGS, evaluate, every_slot
from bnas.runtime.program import Program
from bnas.runtime.steps import Concat, Conv, Pool, Threshold, Value
from bnas.ship.lowering import lower
from bnas.ship.targets import refusal
from bnas.space.arch import Architecture
from bnas.space.deploy import deployable
from bnas.space.recipe import Recipe, Stage

pytest.importorskip("onnx")
pytest.importorskip("qonnx")

from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.util.inference_cost import inference_cost

from bnas.ship.onnx_files.channels_last import channels_last
from bnas.ship.onnx_files.hls4ml_config import configuration, whole_number
from bnas.ship.onnx_files.means import corrections, mean_as_conv, without_means
from bnas.ship.onnx_files.qonnx_steps import FORMS, PIXELS, Form, of_pixels, qonnx_model
from bnas.ship.onnx_files.ranges import ranges
from bnas.ship.qonnx_export import executed

RECIPE = Recipe(stages=(Stage(epochs=1),))
FINN, HLS4ML = FORMS["finn"], FORMS["hls4ml"]
HERE = Path(__file__).parent


def pixels_for(shape: tuple[int, ...], batch: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, *shape)).astype(np.float32)


def normalised(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 255 - MEAN) / STD


def program_of(network: nn.Module, shape: tuple[int, int, int]) -> Program:
    return of_pixels(lower(network, shape), Card((MEAN,) * shape[0], (STD,) * shape[0]))


def kinds(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 7, 9])
def test_models_compute_what_the_program_means(seed: int) -> None:
    program, pixels = random_program(seed), pixels_for(random_program(seed).input)
    channels = program.input[0]
    model = qonnx_model(of_pixels(program, Card((MEAN,) * channels, (STD,) * channels)), Form(), batch=len(pixels))
    assert apart(executed(model, pixels), evaluate(program, normalised(pixels))) < 1e-4


@pytest.mark.parametrize("seed", range(30))
def test_no_value_leaves_its_range(seed: int) -> None:
    program = random_program(seed)
    slots = every_slot(program, pixels_for(program.input))
    for found, bound in zip(slots, ranges(program, *PIXELS), strict=True):
        low, high = (part.reshape(1, -1, 1, 1) for part in bound)
        slack = 1e-5 * np.maximum(1, np.maximum(-low, high))
        assert ((found >= low - slack) & (found <= high + slack)).all()


def grouped(groups: int) -> tuple[nn.Module, tuple[int, int, int]]:
    arch = make_arch(stage={"groups": groups}, binarizers={"pad_value": -1})
    return worn_network(arch), arch.input


def test_groups_are_convolutions_side_by_side_for_finn_each_with_its_own_signs() -> None:
    network, shape = grouped(4)
    program, pixels = program_of(network, shape), pixels_for(shape)
    model = qonnx_model(program, FINN)
    assert kinds(model).count("Split") == kinds(model).count("Concat") == 1
    assert all(
        attribute.i == 1 for node in model.graph.node for attribute in node.attribute if attribute.name == "group"
    )
    twin = qonnx_model(program, FINN._replace(pads_bits=False), batch=3)
    assert apart(executed(twin, pixels), exact_logits(network, torch.from_numpy(normalised(pixels)).float())) < 1e-4


@pytest.mark.parametrize("seed", range(40))
def test_an_average_is_a_convolution_and_a_correction_where_windows_are_cut(seed: int) -> None:
    draw = random.Random(seed)
    pair = [draw.randint(1, 4) for _ in range(2)]
    pool = Pool(
        (0,), True, (pair[0], pair[1]), (draw.randint(1, 3), draw.randint(1, 3)),
        padding=(draw.randint(0, pair[0] // 2), draw.randint(0, pair[1] // 2)), ceil=draw.random() < 0.5,
        count_padding=draw.random() < 0.5,
    )  # fmt: skip
    x = Value("real", 3, draw.randint(4, 9), draw.randint(4, 9))
    image = np.random.default_rng(seed).standard_normal((2, *x[1:]))
    expected, found = MEANINGS[Pool](pool, image), MEANINGS[Conv](mean_as_conv(pool, x), image)
    assert np.allclose(found * corrections(pool, x), expected)


def test_real_convolutions_average_what_they_read_where_no_window_is_cut() -> None:
    draw = np.random.default_rng(0)
    halves, head = Pool((0,), True, (2, 2), (2, 2), ceil=True), Pool((2,), True, (2, 3), (2, 3))
    narrow, classes = (RealFilters(draw.standard_normal((1, out, ins, 1, 1))) for out, ins in ((5, 3), (4, 5)))
    for side, averages in ((4, 0), (3, 1)):  # of 3 rows the last window is cut
        program = Program(
            (3, side, 6), (halves, Conv((1,), narrow, bias=draw.standard_normal(5)), head, Conv((3,), classes))
        )
        made = without_means(program)
        assert [type(step) for step in made.steps].count(Pool) == averages
        pixels = pixels_for(program.input)
        assert np.allclose(evaluate(made, pixels), evaluate(program, pixels))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stage": {"depth": 3}},
        {"stage": {"width": 24, "stride": 2, "depth": 2}},
        {"stage": {"width": 24, "stride": 2}, "input": (3, 7, 9)},
        {"stage": {"width": 24, "stride": 2, "downsample": "max_pool"}, "input": (3, 7, 9)},
        {"stage": {"width": 9, "kernel": 1}, "input": (9, 9, 9)},  # where wrong turns keep their shape
        {"stem": {"width": 8, "stride": 4}, "stage": {"stride": 2, "depth": 2}, "input": (1, 8, 8)},
        {"stem": {"kind": "space_to_depth", "width": 8, "kernel": 3, "stride": 2}},
    ],
    ids=[
        "plain",
        "equal units",
        "halved",
        "cut windows",
        "cut max pooling",
        "a cube",
        "a single pixel",
        "space to depth",
    ],
)
def test_channels_last_change_nothing_but_the_layout(changes: dict[str, Any]) -> None:
    arch = make_arch(**{"binarizers": {"pad_value": -1}, "prelu": False, "shortcut": {"kind": "conv"}} | changes)
    network, pixels = worn_network(arch), pixels_for(arch.input)
    model = channels_last(qonnx_model(program_of(network, arch.input), HLS4ML._replace(pads_bits=False), batch=3))
    expected = exact_logits(network, torch.from_numpy(normalised(pixels)).float())
    assert apart(executed(model, pixels.transpose(0, 2, 3, 1)), expected) < 1e-4
    assert not {"AveragePool", "GlobalAveragePool"} & set(kinds(model))
    # By its name hls4ml looks for what a Reshape writes.
    assert all(node.name in node.output for node in model.graph.node if node.op_type == "Reshape")


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_no_network_of_a_shipped_space_changes_for_hls4ml(space: str) -> None:
    found, draw = deployable(shipped(space, "hls4ml")).space, random.Random(0)
    for seed in range(30 if MANY else 2):
        arch = found.architecture(found.sample(draw))
        network = worn_network(arch, seed=seed)
        model = qonnx_model(program_of(network, arch.input), HLS4ML._replace(pads_bits=False), batch=2)
        same(
            network,
            arch.input,
            lambda pixels, model=model: executed(channels_last(model), pixels.transpose(0, 2, 3, 1)),
        )


def consumers(model: Any) -> dict[str, list[str]]:
    """Return for each tensor the operators that read it."""
    names = [name for node in model.graph.node for name in node.input]
    return {name: [node.op_type for node in model.graph.node if name in node.input] for name in names}


def test_each_reader_has_a_sign_of_its_own_and_each_constant_one_reader() -> None:
    sign = Threshold((0,), np.zeros(1), np.zeros(1, np.bool_))
    filters = SignFilters.of(np.ones((1, 2, 3, 4, 4), np.bool_), np.ones((1, 1)))
    flat = Pool((4,), True, (1, 1), (1, 1))
    program = Program((3, 4, 4), (sign, Conv((1,), filters), Conv((1,), filters), Concat((2, 3)), flat))
    model = qonnx_model(program, Form())
    assert kinds(model).count("BipolarQuant") == 2 * 2  # of the image and of the weights, for each convolution
    read = consumers(model)
    for node in model.graph.node:
        if node.op_type == "BipolarQuant":
            assert len(read[node.output[0]]) == 1
    assert all(len(read[tensor.name]) == 1 for tensor in model.graph.initializer)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_a_relu_before_a_sign_goes_into_its_threshold(slope: float) -> None:
    class Bends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = three_layers(), nn.LeakyReLU(slope) if slope else nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body[1](self.body[0](x))
            return self.body[2:](self.head(y))  # type: ignore[no-any-return]

    model = qonnx_model(program_of(worn(Bends()), (1, 8, 8)), FINN)
    assert not {"Relu", "PRelu"} & set(kinds(model))


def test_every_attribute_is_written() -> None:
    model = qonnx_model(program_of(worn(three_layers()), (1, 8, 8)), FINN)
    wanted = {
        "Conv": {"kernel_shape", "strides", "dilations", "pads", "group"},
        "MaxPool": {"kernel_shape", "strides", "dilations", "pads", "ceil_mode"},
        "Quant": {"signed", "narrow", "rounding_mode"},
    }
    for node in model.graph.node:
        assert wanted.get(node.op_type, set()) <= {attribute.name for attribute in node.attribute}


def test_padding_is_an_attribute_for_finn_and_hls4ml_and_a_node_for_qonnx() -> None:
    program = program_of(worn(three_layers()), (1, 8, 8))
    assert "Pad" not in kinds(qonnx_model(program, FINN))
    assert kinds(qonnx_model(program, Form())).count("Pad") == 2  # the first layer pads its real image with zeros


def test_weights_are_signs_of_scale_1_and_the_image_is_8_bits() -> None:
    model = qonnx_model(program_of(worn(three_layers()), (1, 8, 8)), FINN)
    held = {tensor.name: np.frombuffer(tensor.raw_data, np.float32) for tensor in model.graph.initializer}
    signs = [node for node in model.graph.node if node.op_type == "BipolarQuant"]
    assert all(held[node.input[1]].tolist() == [1.0] for node in signs)
    weights = [held[node.input[0]] for node in signs if node.input[0] in held]
    assert [len(values) for values in weights] == [16 * 9, 16 * 32 * 9, 32 * 32 * 9]
    assert all(set(np.abs(values)) == {1.0} for values in weights)
    assert kinds(model)[0] == "Quant"


@pytest.mark.parametrize("changes", [{}, {"stage": {"groups": 4, "depth": 2}}, {"shortcut": {"kind": "conv"}}])
def test_qonnx_counts_the_macs_that_we_count(changes: dict[str, Any]) -> None:
    arch = make_arch(binarizers={"pad_value": -1}, **changes)
    model = qonnx_model(program_of(worn_network(arch), arch.input), FINN)
    found = inference_cost(ModelWrapper(model).transform(InferShapes()), discount_sparsity=False)["total_cost"]
    ours = cost(plan(arch))
    macs = {name: count for name, count in found.items() if name.startswith("op_mac")}
    assert sum(macs.values()) == ours.bops + ours.flops
    assert macs["op_mac_BIPOLAR_BIPOLAR"] == ours.bops


@pytest.mark.parametrize(
    ("fan_in", "bits"), [(1, 3), (2, 3), (3, 4), (27, 6), (30, 6), (31, 7), (126, 8), (127, 9), (4608, 14)]
)
def test_the_sums_of_bits_fit_their_format_and_no_narrower_one(fan_in: int, bits: int) -> None:
    assert whole_number(fan_in) == f"ap_fixed<{bits},{bits}>"
    assert 2 ** (bits - 2) - 1 < fan_in + 1 <= 2 ** (bits - 1) - 1  # one more, for a threshold that none reaches


def test_hls4mls_configuration_names_every_product_of_bits() -> None:
    program = program_of(worn(like_cnv()), (1, 8, 8))
    model = channels_last(qonnx_model(program, HLS4ML))
    made = configuration(program, model)
    layers = made["LayerName"]
    widths = [layer["Precision"]["accum"] for layer in layers.values() if "accum" in layer["Precision"]]
    assert widths == [whole_number(fan_in) for fan_in in (72, 72, 144, 64, 32, 32)]
    assert set(layers) <= {
        entry.name for part in (model.graph.node, model.graph.initializer, model.graph.input) for entry in part
    }


def written(folder: Path, function: str, **known: Any) -> Path:
    described = ModelSpec(model=f"{HERE}/fpga_networks.py:{function}", input=(1, 8, 8), classes=10)
    network = {"three_layers": three_layers, "like_cnv": like_cnv}[function]()
    return finished_run(folder / "run", worn(network), described, RECIPE, **known)


@pytest.mark.parametrize("variant", [None, "finn", "hls4ml"])
def test_an_export_says_what_was_proved_and_how(tmp_path: Path, variant: str | None) -> None:
    run = written(tmp_path, "three_layers", data="digits")
    folder = export(run, to="qonnx", for_=variant, out=tmp_path / "out", trust=True)
    names = {"network.onnx", "manifest.json"} | ({"hls4ml.json"} if variant == "hls4ml" else set())
    assert {file.name for file in folder.iterdir()} == names
    manifest = manifest_of(folder)
    assert manifest["onnx"]["proved_by"] == "qonnx"
    assert manifest["reload"]["same_class"] == manifest["reload"]["images"] == 64
    assert manifest["reload"]["max_difference"] < 1e-4
    if variant == "hls4ml":
        assert json.loads((folder / "hls4ml.json").read_text())["LayerName"]


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("finn", {}, "stages.0.0.main.conv: finn pads bits with -1, not with 0; give pad_value: -1"),
        ("finn", {"binarizers": {"pad_value": 1}}, "stages.0.0.main.conv: finn pads bits with -1, not with 1"),
        ("hls4ml", {"stage": {"groups": 2}}, "stages.0.0.main.conv: hls4ml pads bits with -1, not with 0"),
        (
            "hls4ml",
            {"binarizers": {"pad_value": -1}, "stage": {"width": 8}},
            "PReLU behind stages.0.0.main.conv: hls4ml",
        ),
    ],
)
def test_what_a_flow_does_not_take_is_refused_by_layer_and_rule(
    tmp_path: Path, variant: str, changes: dict[str, Any], message: str
) -> None:
    arch = make_arch(**changes)
    run = finished_run(tmp_path / "run", worn_network(arch), arch, RECIPE)
    with pytest.raises(ExportError) as caught:
        export(run, to="qonnx", for_=variant, out=tmp_path / "out")
    assert message in line_of(caught)
    assert not (tmp_path / "out").exists()


def test_a_wrong_model_is_no_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnas.ship.onnx_files.qonnx_steps.PIXEL_BITS", 4)
    with pytest.raises(ExportError, match="of 64 images"):
        export(written(tmp_path, "three_layers", data="digits"), to="qonnx", out=tmp_path / "out", trust=True)
    assert not (tmp_path / "out").exists()


def test_signs_stand_apart_from_their_batch_norm_for_hls4ml() -> None:
    program = program_of(worn(like_cnv()), (1, 8, 8))
    made = {form: qonnx_model(program, Form(pads_bits=True, parts_signs=form)) for form in (False, True)}
    assert (
        kinds(made[True]).count("Reshape") == kinds(made[False]).count("Reshape") + 6
    )  # three convolutions, three linear


def test_a_sign_that_is_turned_round_turns_weights_round_where_nothing_is_padded() -> None:
    draw = np.random.default_rng(0)
    flips = draw.random(8) < 0.5
    sign = Threshold((0,), draw.standard_normal(8).astype(np.float32), flips)
    filters = SignFilters.of(draw.random((1, 6, 4, 1, 1)) < 0.5, np.ones((1, 1)))
    conv = Conv((1,), filters, groups=2)
    program = Program((8, 1, 1), (sign, conv))
    model = qonnx_model(program, Form(), batch=5)
    assert not [
        t for t in model.graph.initializer if t.dims == [8] and (np.frombuffer(t.raw_data, np.float32) == -1).any()
    ]
    pixels = pixels_for(program.input, 5)
    assert np.array_equal(executed(model, pixels), evaluate(program, pixels))


def for_finn(arch: Architecture) -> Architecture:
    """Return the nearest architecture that FINN takes."""
    return arch.with_one_expert().model_copy(
        update={"binarizers": arch.binarizers.model_copy(update={"pad_value": -1})}
    )


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_architectures_of_shipped_spaces_are_exact_for_finn_or_refused(space: str) -> None:
    for seed, arch in enumerate(map(for_finn, drawn(space, 3))):
        network = worn_network(arch, seed=seed)
        program = program_of(network, arch.input)
        if not refusal(program, "finn"):
            model = qonnx_model(program, FINN._replace(pads_bits=False), batch=2)
            same(network, arch.input, partial(executed, model))


def same(network: nn.Module, shape: tuple[int, int, int], found: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = pixels_for(shape, 2)

    def logits(changed: np.ndarray) -> np.ndarray:
        return exact_logits(network, torch.from_numpy(normalised(changed)).float())

    assert not far_apart(found(pixels), logits, pixels).any()
