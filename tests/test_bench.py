import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import finished_run, trained
from packed import apart, worn_network
from PIL import Image
from programs import random_program
from spaces import make_arch
from test_docs import DOCS, FENCE
from typer.testing import CliRunner

from bnas.cli.app import app
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.errors import ExportError
from bnas.runtime import Card, Network
from bnas.runtime.file import encoded
from bnas.runtime.naive import evaluate
from bnas.ship.lowering import lower
from bnas.ship.measuring import layers_of, peak_bytes, seconds_of
from bnas.ship.rivals import Missing, rivals
from bnas.ship.torch_program import TorchProgram
from bnas.space.recipe import Recipe, Stage

ARCH = make_arch(stage={"experts": 2, "stride": 2, "width": 32, "groups": 2})


@pytest.mark.parametrize("seed", range(12))
def test_rivals_compute_what_the_program_means(seed: int) -> None:
    program = random_program(seed)
    images = np.random.default_rng(seed).standard_normal((2, *program.input)).astype(np.float32)
    with torch.no_grad():
        found = TorchProgram(program)(torch.from_numpy(images)).numpy()
    assert apart(found, evaluate(program, images)) < 1e-4


@pytest.mark.parametrize("pad_value", [-1, 1])
@pytest.mark.parametrize("stage", [{"depth": 2, "stride": 2}, {"groups": 2, "kernel": 5}, {"precision": "weight"}])
def test_openvino_computes_with_bits_what_the_program_means(pad_value: int, stage: dict[str, Any]) -> None:
    openvino = pytest.importorskip("openvino")
    from bnas.ship.openvino_model import openvino_model

    arch = make_arch(stem={"width": 16}, stage=stage, binarizers={"pad_value": pad_value, "activation": "react"})
    program = lower(worn_network(arch), arch.input)
    images = np.random.default_rng(0).standard_normal((2, *program.input)).astype(np.float32)
    network = openvino.Core().compile_model(
        openvino_model(program, batch=2), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert apart(network({0: images})[0], evaluate(program, images)) < 1e-3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "pads with -1 or \\+1, not with 0"),
        ({"stage": {"experts": 2}}, "goes no Argmax"),
        ({"stem": {"width": 12}, "stage": {"width": 12, "kernel": 1}}, "needs multiples of 8 channels"),
    ],
)
def test_what_openvino_cannot_compute_with_bits_is_refused(changes: dict[str, Any], why: str) -> None:
    pytest.importorskip("openvino")
    from bnas.ship.openvino_model import openvino_model

    arch = make_arch(**changes)
    with pytest.raises(ExportError, match=why):
        openvino_model(lower(worn_network(arch), arch.input), batch=1)


def test_every_runtime_is_there_or_said_to_be_missing() -> None:
    program = lower(worn_network(ARCH), ARCH.input)
    images = np.zeros((1, *ARCH.input), np.float32)
    found = list(rivals(program, images))
    there = [rival.name for rival in found if not isinstance(rival, Missing)]
    assert there[:3] == ["packed", "torch float32", "torch float32, channels last"]
    named = {rival.name.split()[0] for rival in found}
    assert named == {"packed", "torch", "onnxruntime", "openvino"}
    assert all(rival.why for rival in found if isinstance(rival, Missing))


def test_passes_count_what_is_counted_of_the_network() -> None:
    network = Network(lower(worn_network(ARCH), ARCH.input))
    layers, counted = layers_of(network), cost(plan(ARCH))
    assert sum(layer.bops for layer in layers) == counted.bops
    assert sum(layer.flops for layer in layers) == counted.flops
    assert all(layer.microseconds > 0 for layer in layers)


def test_ways_are_run_in_turn_and_the_median_counts() -> None:
    order: list[str] = []

    def way(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    times = seconds_of({"a": lambda: way("a", 0.002), "b": lambda: way("b", 0.004)}, seconds=0)
    assert order[:4] == ["a", "b", "a", "b"]
    assert 0.002 <= times["a"] < times["b"]


@pytest.mark.slow
def test_a_packed_network_needs_less_memory_than_torch(tmp_path: Path) -> None:
    file = tmp_path / "network.bnas"
    file.write_bytes(encoded(lower(worn_network(ARCH), ARCH.input), Card()))
    assert peak_bytes("packed", file) < peak_bytes("torch float32", file) / 2


@pytest.mark.slow
def test_bench_prints_what_is_counted_beside_what_is_measured(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", trained(ARCH), ARCH, Recipe(stages=(Stage(epochs=1),)))
    done = CliRunner().invoke(app, ["bench", str(run), "--seconds", "0", "--json"])
    found = json.loads(done.stdout)
    packed = found["runtimes"]["packed"]
    assert {"milliseconds_1", "milliseconds_32", "images_a_second_32", "peak_bytes"} <= set(packed)
    assert packed["apart"] == 0
    assert found["runtimes"]["torch float32"]["apart"] < 1e-4
    assert sum(layer["bops"] for layer in found["layers"]) == cost(plan(ARCH)).bops
    table = CliRunner().invoke(app, ["bench", str(run), "--seconds", "0"]).stdout
    assert "counted BOPs" in table
    assert "measured us" in table


@pytest.mark.slow
def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished_run(Path("runs/demo"), trained(ARCH), ARCH, Recipe(stages=(Stage(epochs=1),)))
    pixels = np.zeros((2, *ARCH.input), np.uint8)
    Image.fromarray(pixels[0].transpose(1, 2, 0).squeeze()).save("digit.png")
    seen = 0
    for language, _, text in FENCE.findall((DOCS / "packed.md").read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(text, "packed.md", "exec"), {"pixels": pixels})
        for line in text.splitlines() if not language else ():
            done = CliRunner().invoke(app, line.split()[1:])
            assert done.exit_code == 0, (line, done.output)
            seen += 1
    assert seen == 3
