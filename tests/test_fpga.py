"""QONNX files in FINN and hls4ml themselves: `make test-fpga` installs both beside what they need."""

import itertools
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import finished_run
from fpga_networks import MEAN, STD, like_cnv, three_layers, trained_on_digits
from packed import MANY, apart, exact_logits, far_apart, small_input, worn, worn_network
from spaces import make_arch
from test_deploy import shipped
from test_runtime import SPACES
from torch import nn

from bnas.api.exporting import export
from bnas.data import load_data
from bnas.networks.model_spec import ModelSpec
from bnas.networks.models import MODELS, build_model
from bnas.runtime import Card
from bnas.runtime.program import Program
from bnas.ship.lowering import lower
from bnas.ship.targets import refusal
from bnas.space.arch import Architecture
from bnas.space.deploy import deployable
from bnas.space.recipe import Recipe, Stage

onnx = pytest.importorskip("onnx")
pytest.importorskip("finn", reason="needs finn-plus: make test-fpga")
hls4ml = pytest.importorskip("hls4ml", reason="needs hls4ml: make test-fpga")

import finn_flow  # noqa: E402

from bnas.ship.onnx_files.channels_last import channels_last  # noqa: E402
from bnas.ship.onnx_files.hls4ml_config import configuration  # noqa: E402
from bnas.ship.onnx_files.qonnx_steps import FORMS, of_pixels, qonnx_model  # noqa: E402

pytestmark = pytest.mark.slow

HERE, RECIPE = Path(__file__).parent, Recipe(stages=(Stage(epochs=1),))
Shape = tuple[int, int, int]
NETWORKS: dict[str, Callable[[], nn.Module]] = {"three_layers": three_layers, "like_cnv": like_cnv}
FINN, HLS4ML = FORMS["finn"], FORMS["hls4ml"]
GCC = shutil.which("g++")
NEEDS_COMPILER = pytest.mark.skipif(GCC is None, reason="hls4ml's C simulation needs g++")


@pytest.fixture(autouse=True)
def quick_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a g++ first that optimises nothing: hls4ml asks for -O3, and compiling takes nearly all of the time."""
    if GCC:
        program = tmp_path / "bin" / "g++"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {GCC} "$@" -O0\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


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
    pixels = digits()
    model = finn_flow.on_hardware(finn_flow.streamlined(finn_flow.converted(onnx.load(file))))
    assert {"MVAU", "Thresholding", "FMPadding"} <= {node.op_type for node in model.graph.node}
    found, expected = finn_flow.logits_of(model, pixels), exact_logits(network, normalised(pixels))
    assert np.array_equal(found.argmax(1), expected.argmax(1))
    assert apart(found, expected) < 1e-4


def simulated(
    model: Any, settings: dict[str, Any], folder: Path, pixels: np.ndarray, *, io_type: str = "io_parallel"
) -> np.ndarray:
    """Return what hls4ml's C simulation gives for pixels [n, channels, height, width]."""
    made = hls4ml.converters.convert_from_onnx_model(
        model, output_dir=str(folder), io_type=io_type, backend="Vitis", hls_config=settings
    )
    made.compile()
    return np.asarray(made.predict(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))).reshape(len(pixels), -1)


@NEEDS_COMPILER
def test_hls4ml_gives_every_digit_the_same_class(trained: tuple[Path, nn.Module], tmp_path: Path) -> None:
    run, network = trained
    folder = export(run, to="qonnx", for_="hls4ml", out=tmp_path / "out", trust=True)
    settings, pixels = json.loads((folder / "hls4ml.json").read_text()), digits()
    found = simulated(onnx.load(folder / "network.onnx"), settings, tmp_path / "hls", pixels)
    expected = exact_logits(network, normalised(pixels))
    assert np.array_equal(found.argmax(1), expected.argmax(1))
    assert apart(found, expected) < 1e-4


def same_in_finn(network: nn.Module, shape: Shape) -> None:
    model = finn_flow.on_hardware(
        finn_flow.streamlined(finn_flow.converted(qonnx_model(program_of(network, shape), FINN)))
    )
    same(network, shape, partial(finn_flow.logits_of, model))


def same_in_hls4ml(network: nn.Module, shape: Shape, folder: Path, *, io_type: str = "io_parallel") -> None:
    program = program_of(network, shape)
    model = channels_last(qonnx_model(program, HLS4ML))
    same(network, shape, partial(simulated, model, configuration(program, model), folder, io_type=io_type))


def program_of(network: nn.Module, shape: Shape) -> Program:
    channels = shape[0]
    return of_pixels(lower(network, shape), Card((MEAN,) * channels, (STD,) * channels))


def same(network: nn.Module, shape: Shape, found: Callable[[np.ndarray], np.ndarray]) -> None:
    """Images whose signs no rounding turns round have the same logits."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.float32)
    assert not far_apart(found(pixels), lambda changed: exact_logits(network, normalised(changed)), pixels).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": {"groups": 4}},
        {"stage": {"width": 24, "stride": 2}, "shortcut": {"kind": "conv"}},
        {"binarizers": {"pad_value": -1, "activation": "react"}},
        {"stage": {"width": 24, "stride": 2, "downsample": "max_pool"}, "input": [3, 8, 8]},
    ],
    ids=["groups", "residual with another width", "react", "max pooling"],
)
def test_finn_computes_what_a_network_of_a_space_does(changes: dict[str, Any]) -> None:
    arch = make_arch(**{"binarizers": {"pad_value": -1}} | changes)
    same_in_finn(worn_network(arch), arch.input)


CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "equal units": ({"stage": {"depth": 2}}, ("io_parallel", "io_stream")),
    "cut windows": ({"stage": {"width": 24, "stride": 2}}, ("io_parallel", "io_stream")),
    "space to depth": (
        {"stem": {"kind": "space_to_depth", "width": 8, "stride": 2}}, ("io_parallel", "io_stream"),
    ),
    "max pooling": ({"stage": {"stride": 2, "downsample": "max_pool"}, "input": [3, 8, 8]}, ("io_stream",)),
    "max pooling over the edge": ({"stage": {"stride": 2, "downsample": "max_pool"}}, ("io_parallel", "io_stream")),
    "a single pixel": (
        {"stem": {"width": 8, "stride": 4}, "stage": {"stride": 2, "depth": 2}, "input": (1, 8, 8)},
        ("io_parallel", "io_stream"),
    ),
}  # fmt: skip


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("name", "io_type"), [(name, io_type) for name, (_, both) in CHANGES.items() for io_type in both]
)
def test_hls4ml_computes_what_a_network_of_a_space_does(name: str, io_type: str, tmp_path: Path) -> None:
    changes = {"binarizers": {"pad_value": -1}, "prelu": False, "shortcut": {"kind": "conv"}} | CHANGES[name][0]
    arch = make_arch(**changes)
    same_in_hls4ml(worn_network(arch), arch.input, tmp_path, io_type=io_type)


MANY_PIXELS = 256  # io_parallel's C++ of more is beyond a compiler, or nearly
DRAWN = list(itertools.product(SPACES, range(30))) if MANY else [("digits", 0)]


def drawn(name: str, target: str, number: int) -> Architecture:
    """Return a network that is drawn from a shipped space for a target: the same for the same number."""
    space, draw = deployable(shipped(name, target)).space, random.Random(number)
    return space.architecture(space.sample(draw))


@pytest.mark.parametrize(("name", "number"), DRAWN)
def test_finn_computes_what_networks_of_shipped_spaces_do(name: str, number: int) -> None:
    arch = drawn(name, "finn", number)
    same_in_finn(worn_network(arch, seed=number), arch.input)


@NEEDS_COMPILER
@pytest.mark.parametrize(("name", "number"), DRAWN)
def test_hls4ml_computes_what_networks_of_shipped_spaces_do(name: str, number: int, tmp_path: Path) -> None:
    arch = drawn(name, "hls4ml", number)
    io_type = "io_stream" if arch.input[1] * arch.input[2] > MANY_PIXELS else "io_parallel"
    same_in_hls4ml(worn_network(arch, seed=number), arch.input, tmp_path, io_type=io_type)


PRESETS = [(name, preset) for name in MODELS for preset in MODELS[name].presets] if MANY else [("tfc", "binary")]
SMALL = ("lenet5", "cnv", "tfc", "sfc")  # whose C++ a compiler gets through; lfc's needs a larger stack than is usual


IN_FINN = [pair for pair in PRESETS if pair != ("resnet18", "real")]  # that ends in a ValueError: docs/deploying.md


@pytest.mark.parametrize(("name", "preset"), IN_FINN)
def test_finn_computes_what_reference_networks_do(name: str, preset: str) -> None:
    same_in_finn(*reference(name, preset, "finn"))


@NEEDS_COMPILER
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name, preset in PRESETS if name in SMALL])
def test_hls4ml_computes_what_reference_networks_do(name: str, preset: str, io_type: str, tmp_path: Path) -> None:
    same_in_hls4ml(*reference(name, preset, "hls4ml"), tmp_path, io_type=io_type)


def reference(name: str, preset: str, target: str) -> tuple[nn.Module, Shape]:
    """Return a reference network that a target takes, and the shape of its images."""
    torch.manual_seed(0)
    network, shape = worn(build_model(name, precision=preset)), small_input(name)
    refused = refusal(lower(network, shape), target)
    if refused:
        assert re.match(rf"step \d+ \(\w+\): {target} (pads bits with -1|takes no|repeats)", refused)
        pytest.skip(refused)
    return network, shape
