import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import finished_run, manifest_of, trained
from packed import apart, exact_logits
from PIL import Image
from spaces import line_of, make_arch
from torch import nn
from typer.testing import CliRunner, Result

from bnas.api.exporting import export
from bnas.cli.app import app
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data import load_data
from bnas.errors import DataError, ExportError, ProgramError
from bnas.networks.model_spec import ModelSpec
from bnas.runtime import load
from bnas.ship import Description, packed
from bnas.ship.lowering import lower
from bnas.space.recipe import Recipe, Stage

RECIPE = Recipe(stages=(Stage(epochs=1),))
ARCH = make_arch(
    input=[1, 8, 8], classes=10, stem={"width": 16}, stage={"experts": 2, "stride": 2, "width": 32, "groups": 2}
)
NAMES = tuple(f"digit {number}" for number in range(10))
DIGITS: dict[str, Any] = {"data": "digits", "images": {"class_names": NAMES}}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return trained(ARCH)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, network: nn.Module) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    return export(finished_run(folder / "run", network, ARCH, RECIPE, **DIGITS), to="packed", out=folder / "out")


def test_the_export_is_one_file_and_what_was_proved_of_it(exported: Path) -> None:
    assert {file.name for file in exported.iterdir()} == {"network.bnas", "manifest.json"}
    manifest = manifest_of(exported)
    assert manifest["reload"]["images_from"] == "validation images of digits"
    assert manifest["reload"]["same_class"] == manifest["reload"]["images"] == packed.IMAGES
    assert manifest["reload"]["max_difference"] < 1e-4
    assert manifest["packed"]["bytes"] == (exported / "network.bnas").stat().st_size < 1.05 * cost(plan(ARCH)).bytes


def test_the_file_computes_what_the_trained_network_does(exported: Path, network: nn.Module) -> None:
    images = next(iter(load_data("digits").test.batches(200)))[0]
    found, expected = load(exported)(images.numpy()), exact_logits(network, images)
    assert apart(found, expected) < 1e-4
    assert np.array_equal(found.argmax(1), expected.argmax(1))


def test_what_goes_with_the_network_is_in_the_file(exported: Path) -> None:
    card = load(exported / "network.bnas").card
    assert card.class_names == NAMES
    assert card.name == ARCH.id
    assert (card.mean, card.std) == ((0.3,), (0.37,))


def test_without_its_data_set_it_is_proved_on_drawn_images(tmp_path: Path, network: nn.Module) -> None:
    run = finished_run(tmp_path / "run", network, ARCH, RECIPE, data="a/set/that/is/gone")
    manifest = manifest_of(export(run, to="packed", out=tmp_path / "out"))
    assert manifest["reload"]["images_from"].startswith("images drawn at random (")
    assert load(tmp_path / "out").card.class_names == ()
    said = ran("export", run, "--to", "packed", "-o", tmp_path / "again").stdout
    assert re.search(r"\nproved: (\d+) of \1 images drawn at random \(.*\) get the same class, logits", said)


@pytest.mark.parametrize(
    "described",
    [
        ModelSpec(model="lenet5", input=(1, 28, 28), classes=10, precision="weight", weights="alpha_beta"),
        ModelSpec(model="resnet20_cifar", input=(3, 16, 16), classes=10, precision="binary"),
        ModelSpec(model="cnv", input=(3, 32, 32), classes=10, precision="binary"),
        ModelSpec(model="tfc", input=(1, 28, 28), classes=10, precision="binary"),
        ARCH,
    ],
)
def test_reference_models_are_exported_too(tmp_path: Path, described: Description) -> None:
    run = finished_run(tmp_path / "run", trained(described), described, RECIPE)
    assert load(export(run, to="packed", out=tmp_path / "out")).program.input == described.input


BINARIZER = """
from torch import nn
from bnas.binarize import BinaryWeight, clipped_sign
class Median(nn.Module):
    def forward(self, w):
        return BinaryWeight(clipped_sign(w), w.detach().abs().mean((-3, -2, -1), keepdim=True))
median = Median()
"""


def test_a_binarizer_may_be_a_module(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text(BINARIZER)
    arch = make_arch(binarizers={"weight": f"{tmp_path}/plug.py:median"})
    run = finished_run(tmp_path / "run", trained(arch), arch, RECIPE)
    assert load(export(run, to="packed", out=tmp_path / "out", trust=True)).program.classes == arch.classes


OWN = """
from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.{}, nn.Flatten(), nn.Linear(144, 3))
"""


def test_a_model_of_ones_own_is_exported_or_refused_by_path_before_anything_is_there(tmp_path: Path) -> None:
    for name, layer in (("fine", "ReLU()"), ("odd", "GELU()")):
        (tmp_path / f"{name}.py").write_text(OWN.format(layer))
        described = ModelSpec(model=f"{tmp_path}/{name}.py:build", input=(1, 8, 8), classes=3)
        run = finished_run(tmp_path / name, trained(described), described, RECIPE)
        if name == "fine":
            assert load(export(run, to="packed", out=tmp_path / "out", trust=True)).program.classes == 3
            continue
        with pytest.raises(ExportError, match=r"^2: cannot be lowered: aten\.gelu\.default has no step") as caught:
            export(run, to="packed", out=tmp_path / "none", trust=True)
        line_of(caught)
        assert not (tmp_path / "none").exists()


CASTING = """
import torch
from torch import nn

class Casting(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.norm(self.conv(x.float())).relu().mean((2, 3))
        return self.head(x.to(torch.float32)).type(torch.float32)

build = Casting
"""


@pytest.mark.parametrize("to", ["packed", "c", "onnx"])
def test_a_model_that_casts_to_float32_is_proved_in_float64_all_the_same(to: str, tmp_path: Path) -> None:
    (tmp_path / "casting.py").write_text(CASTING)
    described = ModelSpec(model=f"{tmp_path}/casting.py:build", input=(1, 8, 8), classes=3)
    run = finished_run(tmp_path / "run", trained(described), described, RECIPE)
    export(run, to=to, out=tmp_path / "out", trust=True)


def test_a_file_that_computes_something_else_is_no_export(
    tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "exact_logits", lambda network, images: -exact_logits(network, images))
    with pytest.raises(ExportError, match="get another class"):
        export(finished_run(tmp_path / "run", network, ARCH, RECIPE), to="packed", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def rows(*values: float) -> np.ndarray:
    return np.array([[1.0, value] for value in values])


def test_a_few_images_may_be_further_apart_but_all_have_the_same_class() -> None:
    expected = rows(*[0.5] * 20)
    near, far = rows(*[0.50005] * 20), rows(*[0.6] * 2, *[0.5] * 18)
    assert packed.agreement(near, expected, where="it")["further_apart"] == 0
    assert packed.agreement(far, expected, where="it")["further_apart"] == 2
    for found in (rows(*[0.6] * 3, *[0.5] * 17), rows(1.1, *[0.5] * 19), rows(np.nan, *[0.5] * 19)):
        with pytest.raises(ExportError):
            packed.agreement(found, expected, where="it")


def ran(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(part) for part in arguments])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Digits as files, as they are and twice as large."""
    folder, split = tmp_path_factory.mktemp("pictures"), load_data("digits").test
    made = []
    for number in range(3):
        picture = Image.fromarray(split.images[number, 0].numpy())
        picture.resize((8 * (1 + number % 2),) * 2, Image.Resampling.NEAREST).save(folder / f"{number}.png")
        made.append(folder / f"{number}.png")
    return made


def test_predict_prints_the_class_that_the_network_gives(exported: Path, pictures: list[Path]) -> None:
    split = load_data("digits").test
    network = load(exported)
    expected = network(network.normalised(split.images[:3].numpy())).argmax(1)
    done = ran("predict", exported, *pictures)
    assert done.exit_code == 0
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [str(path) for path in pictures]
    assert all(
        re.fullmatch(rf"digit {number} \d+\.\d\d %", line[1]) for number, line in zip(expected, lines, strict=True)
    )


def test_predict_says_which_networks_take_no_pictures(tmp_path: Path) -> None:
    arch = make_arch(input=[5, 8, 8], classes=10)
    folder = export(finished_run(tmp_path / "run", trained(arch), arch, RECIPE), to="packed", out=tmp_path / "out")
    done = ran("predict", folder, tmp_path / "any.png")
    assert isinstance(done.exception, DataError)
    assert "takes images of 5 channels, which no picture has; give arrays to it in Python" in str(done.exception)


def test_a_network_of_images_that_no_pixels_make_is_not_proved_on_pixels(network: nn.Module) -> None:
    card = packed.Card((0.0,), (1.0,), NAMES, ARCH.id)
    images, program = torch.randn(8, *ARCH.input), lower(network, ARCH.input)
    shipped = packed.Ready(ARCH, network, program, card, {}, images, "validation images of mine", are_drawn=False)
    assert not shipped.are_of_pixels
    with pytest.raises(ExportError, match=r"^its images go from -\d.* to \d.*, but this target takes pixels"):
        shipped.on_pixels()
    _, pixels = shipped._replace(are_drawn=True).on_pixels()
    assert pixels.shape == (8, *ARCH.input)


def test_a_packed_network_of_images_that_no_pixels_make_takes_no_pixels(tmp_path: Path, network: nn.Module) -> None:
    values = np.random.default_rng(0).standard_normal((100, *ARCH.input)).astype(np.float32)
    np.savez(tmp_path / "signals.npz", images=values, labels=np.arange(100) % 10)
    run = finished_run(tmp_path / "run", network, ARCH, RECIPE, data=str(tmp_path / "signals.npz"))
    folder = export(run, to="packed", out=tmp_path / "out")
    assert manifest_of(folder)["reload"]["images_from"].startswith("validation images of ")
    packed_network = load(folder)
    with pytest.raises(ProgramError, match="does not say how pixels are normalised"):
        packed_network.normalised(np.zeros((1, *ARCH.input), np.uint8))
    assert packed_network(values).shape == (100, 10)


def test_predict_prints_json_with_as_many_classes_as_asked(exported: Path, pictures: list[Path]) -> None:
    done = ran("predict", exported / "network.bnas", *pictures[:1], "--top", 3, "--json")
    (found,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert found["image"] == str(pictures[0])
    shares = [one["share"] for one in found["classes"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [("colour.png", "RGB", "is in colour"), ("missing.png", "", "cannot be decoded"), ("text.png", "", "decoded")],
)
def test_predict_names_the_image_that_it_cannot_use(
    exported: Path, tmp_path: Path, name: str, mode: str, reason: str
) -> None:
    if mode:
        Image.new(mode, (8, 8)).save(tmp_path / name)
    if name == "text.png":
        (tmp_path / name).write_text("no image")
    done = ran("predict", exported, tmp_path / name)
    assert done.exit_code == 1
    assert name in str(done.exception)
    assert reason in str(done.exception)


def test_the_demos_network_is_handed_over_in_a_command(exported: Path, tmp_path: Path) -> None:
    run = exported.parent / "run"
    done = ran("export", run, "--to", "packed", "-o", tmp_path / "out", "--json")
    assert json.loads(done.stdout)["export"] == str(tmp_path / "out")
    again = ran("export", run, "--to", "packed", "-o", tmp_path / "out")
    assert again.exit_code == 0
    assert f"  network.bnas, {(tmp_path / 'out/network.bnas').stat().st_size:,} bytes\n" in again.stdout
    assert "\nproved: 64 of 64 validation images of digits get the same class, logits at most" in again.stdout
    assert " of the largest apart\n" in again.stdout
    shutil.rmtree(tmp_path / "out")


def test_the_real_network_of_floats_agrees_within_its_own_rounding(exported: Path, network: nn.Module) -> None:
    images = next(iter(load_data("digits").test.batches(200)))[0]
    with torch.no_grad():
        assert apart(load(exported)(images.numpy()), network(images).numpy()) < 1e-3
