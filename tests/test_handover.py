"""What is handed over reads images as bnas does, to the pixel and to the bit, and says all that a stranger needs."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from exported import importing_from
from PIL import Image
from spaces import make_arch

import bnas
from bnas.data import load_data
from bnas.space.recipe import Recipe, Stage
from tests import shapes

INPUT = (3, 24, 24)
ARCH = make_arch(input=list(INPUT), classes=4, stem={"width": 8}, stage={"stride": 2, "width": 16})
ONCE = Recipe(stages=(Stage(epochs=1),), batch=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of varying size, one of them on its side, one with a palette."""
    folder = shapes.write(tmp_path_factory.mktemp("data") / "shapes", images=80)
    turned = Image.open(folder / "circle" / "0000.png")
    turned.getexif()[274] = 6
    turned.save(folder / "circle" / "0000.jpg", exif=turned.getexif())
    Image.open(folder / "cross" / "0001.png").convert("P").save(folder / "cross" / "0001.gif")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bnas.TrainResult:
    out = tmp_path_factory.mktemp("run")
    return bnas.train_model(ARCH, data=folder, recipe=ONCE, out=out, progress=False)


@pytest.fixture(scope="module")
def export(run: bnas.TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bnas.export(run, out=tmp_path_factory.mktemp("export") / "out")


@pytest.fixture
def modules(export: Path) -> Iterator:
    with importing_from(export) as module:
        yield module


def test_train_reads_and_divides_a_folder_as_bnas_does(modules, folder: Path) -> None:
    data = load_data(folder, input_shape=INPUT)
    (training, labels), (test, test_labels) = modules("train").load_data(folder)
    assert torch.equal(test, data.test.images)
    assert torch.equal(test_labels, data.test.labels)
    ours = torch.cat((data.train.images, data.validation.images))
    assert sorted(map(bytes, training.flatten(1).numpy())) == sorted(map(bytes, ours.flatten(1).numpy()))
    assert (
        torch.bincount(labels).tolist()
        == torch.bincount(data.train.labels).add(torch.bincount(data.validation.labels)).tolist()
    )


@pytest.mark.parametrize(
    "places",
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("data/train", "data/val"),
    ],
)
def test_train_takes_the_layouts_that_bnas_takes(places: tuple[str, str], modules, tmp_path) -> None:
    for number, place in enumerate(places):
        shapes.write(tmp_path / "root" / place, images=16, seed=number)
    data = load_data(tmp_path / "root", input_shape=INPUT)
    (training, _), (test, _) = modules("train").load_data(tmp_path / "root")
    assert torch.equal(test, data.test.images)
    assert len(training) == len(data.train) + len(data.validation)


def test_a_class_that_the_network_does_not_know_is_said(modules, tmp_path) -> None:
    shapes.write(tmp_path / "shapes", images=16)
    (tmp_path / "shapes" / "cross").rename(tmp_path / "shapes" / "star")
    with pytest.raises(SystemExit, match=r"holds star; the classes are circle, cross, square, triangle, a folder each"):
        modules("train").load_data(tmp_path / "shapes")


def test_what_the_network_sees_of_an_image_file_is_the_same_to_the_bit(modules, run, folder: Path) -> None:
    data = load_data(folder, input_shape=INPUT)
    made, network = modules("model"), run.load()
    batch = torch.cat([images for images, _ in data.test.batches(100)])
    pixels = modules("train").load_data(folder)[1][0]
    seen = modules("training").normalised(pixels, made.MEAN, made.STD)
    assert torch.equal(seen, batch)
    said = [made.CLASSES[number] for number in network(batch).argmax(1)]
    read = modules("images").read_image
    for path in sorted(folder.glob("*/*.*")):
        known = (read(path, INPUT) == data.test.images).flatten(1).all(1)
        if known.any():
            assert made.predict(str(path)) == said[int(known.nonzero()[0])]


def test_model_file_says_the_class_of_an_image_where_there_is_no_bnas(export: Path, folder: Path) -> None:
    code = "import sys; sys.modules['bnas'] = None; import model; print(model.predict(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(folder / "square" / "0002.png")]
    done = subprocess.run(command, cwd=export, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in shapes.KINDS


def test_the_manifest_says_how_an_image_becomes_an_answer(export: Path) -> None:
    manifest = json.loads((export / "manifest.json").read_text())
    assert manifest["class_names"] == list(shapes.KINDS)
    assert manifest["preprocessing"]["channels"] == "red, green, blue"
    assert "to height 24 and width 24: mean pooling where" in manifest["preprocessing"]["resize"]
    assert len(manifest["normalisation"]["mean"]) == len(manifest["normalisation"]["std"]) == 3


def test_what_is_needed_beside_torch_is_said(export: Path) -> None:
    lines = (export / "requirements.txt").read_text().splitlines()
    assert [line.partition("==")[0] for line in lines[1:]] == ["numpy", "pillow", "safetensors", "torch"]
    assert "requirements.txt says what that needs beside torch" in (export / "model.py").read_text()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_have_the_modes_of_the_umask(run, mask: int, mode: int, tmp_path) -> None:
    before = os.umask(mask)
    try:
        out = bnas.export(run, out=tmp_path / "out")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in out.rglob("*") if file.is_file()} == {mode}
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~mask


def test_no_benchmark_has_the_name_of_a_module_that_is_handed_over() -> None:
    handed_over = {"model", "layers", "train", "training", "images"}
    assert not handed_over & {path.stem for path in (Path(__file__).parent.parent / "benchmarks").glob("*.py")}
