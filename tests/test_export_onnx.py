"""ONNX files of standard operators, read by onnxruntime and OpenVINO."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import finished_run, manifest_of, trained
from packed import ARCHITECTURES, MANY, apart, exact_logits, far_apart, images_for, small_input, worn, worn_network
from programs import random_program
from spaces import line_of, make_arch
from test_docs import DOCS, FENCE
from test_lowering import SPACES
from torch import Tensor, nn
from typer.testing import CliRunner

from bnas.api.exporting import export
from bnas.cli.app import app
from bnas.data import load_data
from bnas.errors import ExportError
from bnas.layers import BinaryConv
from bnas.networks.model_spec import ModelSpec
from bnas.networks.models import MODELS
from bnas.runtime.filters import SignFilters
from bnas.runtime.naive import evaluate
from bnas.runtime.program import Program
from bnas.runtime.steps import Conv, Pool, Threshold
from bnas.ship import Description, onnx_export, rebuild
from bnas.ship.lowering import lower
from bnas.ship.packed import agreement
from bnas.space.recipe import Recipe, Stage
from bnas.space.space import SearchSpace

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from bnas.ship.onnx_files.steps import onnx_model  # noqa: E402

RECIPE = Recipe(stages=(Stage(epochs=1),))
EXPERTS: dict[str, Any] = {"experts": 2, "stride": 2, "width": 32, "groups": 2}
ARCH = make_arch(input=[1, 8, 8], classes=10, stem={"width": 32}, stage=EXPERTS)
NAMES = tuple(f"Ziffer {number}" for number in range(10))
DIGITS: dict[str, Any] = {"data": "digits", "images": {"class_names": NAMES}}
FORMS = pytest.mark.parametrize("small", [False, True], ids=["floats", "bits"])


def session(model: Any) -> Any:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def computed(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(session(model).run(None, {"images": images})[0])


def images_of(program: Program, batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, *program.input)).astype(np.float32)


@FORMS
@pytest.mark.parametrize("seed", range(16))
def test_models_compute_what_the_program_means_for_any_batch(seed: int, small: bool) -> None:
    program = random_program(seed)
    reader = session(onnx_model(program, small=small))
    for batch in (1, 3):
        images = images_of(program, batch)
        found = reader.run(None, {"images": images})[0]
        assert found.shape == (batch, program.classes)
        assert apart(found, evaluate(program, images)) < 1e-4


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("side", range(3, 9))
def test_pools_whose_size_is_rounded_up_are_the_same_everywhere(mean: bool, counted: bool, side: int) -> None:
    for taps, stride, pad in ((2, 2, 0), (2, 2, 1), (3, 2, 1), (3, 3, 1), (2, 3, 0), (1, 2, 0)):
        pool = Pool((0,), mean, (taps, taps), (stride, stride), (pad, pad), True, counted)
        program = Program((2, side, 7), (pool, *whole_mean(pool, (2, side, 7))))
        images = images_of(program, 2)
        assert apart(computed(onnx_model(program), images), evaluate(program, images)) < 1e-5


def whole_mean(pool: Pool, shape: tuple[int, int, int]) -> tuple[Any, ...]:
    from bnas.runtime.steps import Value

    made = pool.value(Value("real", *shape))
    return (Pool((1,), True, made[2:], (1, 1)),)


def test_the_sign_of_zero_is_one() -> None:
    sign = Threshold((0,), np.zeros(1), np.zeros(1, np.bool_))
    ones = SignFilters.of(np.ones((1, 1, 3, 1, 1), np.bool_), np.ones((1, 1)))
    model = onnx_model(Program((3, 1, 1), (sign, Conv((1,), ones))))
    assert computed(model, np.array([0.0, -0.0, -1e-30], np.float32).reshape(1, 3, 1, 1)).item() == 1
    assert "Sign" not in {node.op_type for node in model.graph.node}


def large() -> nn.Module:
    """A network whose second layer has more weights than other exporters fold."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64),
        BinaryConv(
            64, 64, kernel=3, stride=2, groups=1, precision="binary", weights="xnor", activations="sign", pad_value=0
        ),
        nn.BatchNorm2d(64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


@FORMS
def test_no_latent_weight_is_stored_however_large_the_layer(small: bool) -> None:
    model = onnx_model(lower(worn(large()), (1, 8, 8)), small=small)
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    (held,) = [array for array in arrays if array.size in (64 * 64 * 9, 64 * 64 * 9 // 8)]
    if small:
        assert held.dtype == np.uint8
    else:
        assert all(len(np.unique(np.abs(weights))) == 1 for weights in held)


def optimized_kinds(model: Any, folder: Path) -> set[str]:
    """Return the operators that are left once onnxruntime has loaded a model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath, options.log_severity_level = str(folder / "loaded.onnx"), 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(folder / "loaded.onnx").graph.node}


def test_bits_are_unpacked_once_as_the_file_is_loaded(tmp_path: Path) -> None:
    program = lower(worn(large()), (1, 8, 8))
    floats, bits = (onnx_model(program, small=small) for small in (False, True))
    assert "BitShift" in {node.op_type for node in bits.graph.node}
    assert optimized_kinds(bits, tmp_path) == optimized_kinds(floats, tmp_path)
    sizes = [len(model.SerializeToString()) for model in (floats, bits)]
    assert sizes[0] - sizes[1] > 0.99 * 64 * 64 * 9 * (4 - 1 / 8) - 2000


class CountsImages(nn.Module):
    """Flattens by len(x), which other exporters take for a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x).relu().reshape(len(x), -1))  # type: ignore[no-any-return]


def test_a_network_that_counts_its_images_takes_any_number_of_them() -> None:
    network, reader = CountsImages().eval(), session(onnx_model(lower(CountsImages(), (1, 8, 8))))
    reader = session(onnx_model(lower(network, (1, 8, 8))))
    for batch in (1, 5):
        images = images_for((1, 8, 8), batch=batch)
        assert apart(reader.run(None, {"images": images.numpy()})[0], exact_logits(network, images)) < 1e-5


@FORMS
def test_experts_of_many_channels_are_chosen_for_each_image(small: bool) -> None:
    network = worn_network(ARCH)
    program = lower(network, ARCH.input)
    main, mix = [step for step in program.steps if isinstance(step, Conv) and len(step.inputs) == 2]
    assert (main.filters.shape[2], mix.filters.shape[2]) == (16, 32)  # channels in a group
    model = onnx_model(program, small=small)
    rows = main.filters.shape[3] + mix.filters.shape[3]
    assert sum(node.op_type == "MatMul" for node in model.graph.node) == rows  # however many experts there are
    images = images_for(ARCH.input, batch=32)
    agreement(computed(model, images.numpy()), exact_logits(network, images), where="it")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return trained(ARCH)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, network: nn.Module) -> Path:
    return finished_run(tmp_path_factory.mktemp("onnx") / "run", network, ARCH, RECIPE, **DIGITS)


@pytest.mark.parametrize("variant", [None, "size"])
def test_an_export_is_one_file_and_what_was_proved_of_it(
    run: Path, network: nn.Module, tmp_path: Path, variant: str | None
) -> None:
    folder = export(run, to="onnx", for_=variant, out=tmp_path / "out")
    assert {file.name for file in folder.iterdir()} == {"network.onnx", "manifest.json"}
    manifest = manifest_of(folder)
    assert manifest["reload"]["images_from"] == "validation images of digits"
    assert manifest["reload"]["same_class"] == manifest["reload"]["images"] == 64
    assert manifest["onnx"]["opset"] == (18 if variant else 13)
    images = next(iter(load_data("digits").test.batches(200)))[0]
    found = onnxruntime.InferenceSession(folder / "network.onnx").run(None, {"images": images.numpy()})[0]
    agreement(found, exact_logits(network, images), where="the file")


def test_names_and_normalisation_go_with_the_file(run: Path, tmp_path: Path) -> None:
    folder = export(run, to="onnx", out=tmp_path / "out")
    about = onnxruntime.InferenceSession(folder / "network.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == list(NAMES)
    assert (json.loads(about["mean"]), json.loads(about["std"])) == ([0.3], [0.37])
    assert about["architecture"] == ARCH.id


def test_a_file_of_bits_is_smaller_than_half_of_one_of_floats(run: Path, tmp_path: Path) -> None:
    sizes = {}
    for variant in (None, "size"):
        folder = export(run, to="onnx", for_=variant, out=tmp_path / f"out{variant}")
        sizes[variant] = (folder / "network.onnx").stat().st_size
    assert sizes["size"] < 0.5 * sizes[None]


def test_a_file_that_computes_something_else_is_no_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnas.ship.onnx_files.filters._SHIFTS", np.arange(8, dtype=np.uint8))
    with pytest.raises(ExportError, match="get another class"):
        export(run, to="onnx", for_="size", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_is_named_with_its_extra(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnxruntime" else True)
    with pytest.raises(ExportError) as caught:
        export(run, to="onnx", out=tmp_path / "out")
    assert "needs onnxruntime, not installed here; pip install 'bnas[onnx]'" in line_of(caught)
    assert list(tmp_path.iterdir()) == []


def same_as_trained(described: Description, network: nn.Module, *, batch: int = 3) -> None:
    """Check both forms of a network's file on drawn images."""
    program, images = lower(network, described.input), images_for(described.input, batch=batch).numpy()
    found = computed(onnx_model(program), images)
    assert not far_apart(found, lambda changed: exact_logits(network, torch.from_numpy(changed)), images).any()
    assert apart(computed(onnx_model(program, small=True), images), found) < 1e-6


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("count", [pytest.param(ARCHITECTURES, marks=pytest.mark.slow) if MANY else 1])
def test_architectures_of_every_shipped_space_are_exported(space: str, count: int) -> None:
    found, draw = SearchSpace.read(f"search_spaces/{space}.yaml"), random.Random(1)
    for seed in range(count):
        arch = found.architecture(found.sample(draw))
        same_as_trained(arch, worn_network(arch, seed=seed))


@pytest.mark.parametrize("classifier", ["weight", "binary"])
def test_signals_and_classifiers_in_bits_are_exported(classifier: str) -> None:
    stages = [
        {"width": 16, "kernel": "1x5", "experts": 2},
        {"width": 24, "depth": 0},
        {"width": 24, "kernel": "1x3", "groups": 2},
    ]
    arch = make_arch(input=[3, 1, 25], stages=stages, classifier=classifier)
    same_as_trained(arch, worn_network(arch))


REFERENCES = [
    (name, preset)
    for name, model in sorted(MODELS.items())
    for preset in (model.presets if MANY else [p for p in ("binary", "weight") if p in model.presets][:1])
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), REFERENCES)
def test_reference_models_are_exported(name: str, preset: str) -> None:
    shape = small_input(name)
    described = ModelSpec(model=name, input=shape, classes=10, precision=preset, weights="xnor")  # type: ignore[arg-type]
    torch.manual_seed(0)
    same_as_trained(described, worn(rebuild(described)), batch=1)


@FORMS
@pytest.mark.parametrize("seed", range(8))
def test_openvino_reads_the_files_too(seed: int, small: bool) -> None:
    openvino = pytest.importorskip("openvino")
    program = random_program(seed)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    reader = core.compile_model(
        core.read_model(onnx_model(program, small=small).SerializeToString(), b""), "CPU", settings
    )
    for batch in (1, 3):
        images = images_of(program, batch)
        assert apart(reader({0: images})[0], evaluate(program, images)) < 1e-4


@pytest.mark.slow
def test_the_blocks_of_the_page_run(network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished_run(Path("runs/demo"), network, ARCH, RECIPE, **DIGITS)
    names: dict[str, Any] = {"pixels": load_data("digits").test.images.numpy()}
    for language, _, text in FENCE.findall((DOCS / "deploying.md").read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(text, "deploying.md", "exec"), names)
        for line in text.splitlines() if not language else ():
            assert CliRunner().invoke(app, line.split()[1:]).exit_code == 0, line
    assert names["logits"].shape == (len(names["pixels"]), 10)
