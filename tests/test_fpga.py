"""QONNX files in FINN and hls4ml themselves: `make test-fpga` installs both beside what they need."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import finished_run
from fpga_networks import MEAN, STD, like_cnv, three_layers, trained_on_digits
from packed import apart, exact_logits, worn_network
from spaces import make_arch
from torch import nn

from bnas.api.exporting import export
from bnas.data import load_data
from bnas.networks.model_spec import ModelSpec
from bnas.ship.lowering import lower
from bnas.space.recipe import Recipe, Stage

onnx = pytest.importorskip("onnx")
pytest.importorskip("finn", reason="needs finn-plus: make test-fpga")
hls4ml = pytest.importorskip("hls4ml", reason="needs hls4ml: make test-fpga")

import finn_flow  # noqa: E402

from bnas.ship.onnx_files.qonnx_steps import Form, of_pixels, qonnx_model  # noqa: E402

pytestmark = pytest.mark.slow

HERE, RECIPE = Path(__file__).parent, Recipe(stages=(Stage(epochs=1),))
NETWORKS: dict[str, Callable[[], nn.Module]] = {"three_layers": three_layers, "like_cnv": like_cnv}
FINN = Form(pads_bits=True, splits_groups=True)


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """The folder of a run, and the network in it, trained on digits."""
    torch.manual_seed(0)
    network = trained_on_digits(NETWORKS[request.param]())
    described = ModelSpec(model=f"{HERE}/fpga_networks.py:{request.param}", input=(1, 8, 8), classes=10)
    run = finished_run(tmp_path_factory.mktemp(request.param) / "run", network, described, RECIPE, data="digits")
    return run, network


def digits() -> np.ndarray:
    return np.asarray(load_data("digits").test.images, np.float32)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((pixels / np.float32(255) - np.float32(MEAN)) / np.float32(STD))


def test_finn_gives_every_digit_the_same_class(trained: tuple[Path, nn.Module], tmp_path: Path) -> None:
    run, network = trained
    file = export(run, to="qonnx", for_="finn", out=tmp_path / "out", trust=True) / "network.onnx"
    pixels = digits()[:60]
    model = finn_flow.on_hardware(finn_flow.streamlined(finn_flow.converted(onnx.load(file))))
    assert {"MVAU", "Thresholding", "FMPadding"} <= {node.op_type for node in model.graph.node}
    found, expected = finn_flow.logits_of(model, pixels), exact_logits(network, normalised(pixels))
    assert np.array_equal(found.argmax(1), expected.argmax(1))
    assert apart(found, expected) < 1e-4


def simulated(model: Any, settings: dict[str, Any], folder: Path, pixels: np.ndarray) -> np.ndarray:
    """Return what hls4ml's C simulation gives for pixels [n, channels, height, width]."""
    made = hls4ml.converters.convert_from_onnx_model(
        model, output_dir=str(folder), io_type="io_parallel", backend="Vitis", hls_config=settings
    )
    made.compile()
    return np.asarray(made.predict(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))).reshape(len(pixels), -1)


@pytest.mark.skipif(shutil.which("g++") is None, reason="hls4ml's C simulation needs g++")
def test_hls4ml_gives_every_digit_the_same_class(trained: tuple[Path, nn.Module], tmp_path: Path) -> None:
    run, network = trained
    folder = export(run, to="qonnx", for_="hls4ml", out=tmp_path / "out", trust=True)
    settings, pixels = json.loads((folder / "hls4ml.json").read_text()), digits()
    found = simulated(onnx.load(folder / "network.onnx"), settings, tmp_path / "hls", pixels)
    expected = exact_logits(network, normalised(pixels))
    assert np.array_equal(found.argmax(1), expected.argmax(1))
    assert apart(found, expected) < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": {"groups": 4}},
        {"stage": {"width": 24, "stride": 2}, "shortcut": {"kind": "conv"}},
        {"binarizers": {"pad_value": -1, "activation": "react"}},
    ],
    ids=["groups", "residual with another width", "react"],
)
def test_finn_computes_what_a_network_of_a_space_does(changes: dict[str, Any]) -> None:
    arch = make_arch(**{"binarizers": {"pad_value": -1}} | changes)
    network = worn_network(arch)
    program = of_pixels(lower(network, arch.input), (MEAN,) * 3, (STD,) * 3)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *arch.input)).astype(np.float32)
    model = finn_flow.on_hardware(finn_flow.streamlined(finn_flow.converted(qonnx_model(program, FINN))))
    assert apart(finn_flow.logits_of(model, pixels), exact_logits(network, normalised(pixels))) < 1e-4
