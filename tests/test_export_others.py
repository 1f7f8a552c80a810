"""Exports of reference networks, of users' own, and of either with its layers converted: written, proved, trained."""

import ast
import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import built, files_of, finished_run, images_of, manifest_of, ran, shaken, trained
from safetensors.torch import load_file, save_file
from spaces import line_of
from users_models import MODELS as BUILDS

from bnas.api import export
from bnas.binarize import WEIGHT_BINARIZERS
from bnas.cli.app import main
from bnas.cost.totals import cost
from bnas.cost.trace.trace_model import trace
from bnas.errors import ExportError, RunError
from bnas.networks.model_spec import ModelSpec
from bnas.networks.models import MODELS
from bnas.networks.user_model import build_original
from bnas.select import Original, Rules, decide
from bnas.select.conversion import ConvertedModel, survey
from bnas.ship import Description, load, rebuild
from bnas.space.recipe import Distillation, Recipe, Stage
from bnas.spec import dump

FILES = {
    "model.py", "layers.py", "train.py", "training.py", "images.py", "requirements.txt", "architecture.yaml",
    "weights.safetensors", "manifest.json",
}  # fmt: skip
USERS = Path(__file__).parent / "users_models.py"
RECIPE = Recipe(
    stages=(
        Stage(epochs=1, weights="real", inputs="real", rate=5e-3, distill=Distillation()),
        Stage(epochs=1, rate=5e-3, clip_latent=True, distill=Distillation()),
    ),
    batch=8,
)
PLAIN = """
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, 10)

    def forward(self, x):
        return self.last(self.second(self.norm(self.first(x)).relu()).mean((2, 3)))


def build():
    return Net()
"""


def spec(name: str, **more: Any) -> ModelSpec:
    return ModelSpec(model=name, input=MODELS[name].input, classes=MODELS[name].classes, **more)


def converted(
    model: str,
    shape: tuple[int, int, int],
    *,
    classes: int = 10,
    rules: Rules | None = None,
    keep: tuple[str, ...] = (),
) -> ConvertedModel:
    """Return the description of a model in which all layers that may be so are binary."""
    original = Original(model=model, input=shape, classes=classes)
    found = survey(build_original(original), [torch.zeros(2, *shape)])
    made = decide(found.layers, found.rest, keep=keep, rules=rules or Rules())
    return ConvertedModel(original=original, binarizers=made.decisions.binarizers, layers=made.decisions.layers)


def users(folder: Path, text: str = PLAIN, attribute: str = "build", file: str = "own.py") -> str:
    """Return the name of a model in a file of the user's."""
    (folder / file).write_text(text)
    return f"{folder / file}:{attribute}"


@pytest.fixture(autouse=True)
def here_alone(tmp_path: Path) -> Iterator[None]:
    """Modules in other tests' folders are not found, and those in this one's are forgotten after it."""
    path = [*sys.path]
    sys.path[:] = [place for place in path if not place.startswith(str(tmp_path.parent))]
    yield
    sys.path[:] = path
    for name, module in [*sys.modules.items()]:
        if str(tmp_path) in str(getattr(module, "__file__", None) or getattr(module, "__path__", "")):
            del sys.modules[name]


def data_for(described: Description, folder: Path, *, images: int = 16) -> Path:
    """Return a file of random images for train.py."""
    rng, arrays = np.random.default_rng(0), {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = rng.random((images, *described.input), np.float32)
        arrays[f"{part}_labels"] = np.arange(images) % described.classes
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def handed_over(described: Description, folder: Path, recipe: Recipe = RECIPE) -> Path:
    """Return an export of a trained network."""
    return export(finished_run(folder / "run", trained(described), described, recipe), out=folder / "out", trust=True)


class TestModelFile:
    """model.py builds what the description says."""

    @pytest.mark.parametrize(("name", "preset"), [(name, p) for name, known in MODELS.items() for p in known.presets])
    def test_reference_networks_in_every_preset(self, name: str, preset: str) -> None:
        ends = "real" if preset == "real" else "weight"
        described = spec(name, precision=preset, first=ends, last=ends)
        with torch.device("meta"):
            files, expected = files_of(described).files, rebuild(described)
            written = built(files)
        assert repr(written) == repr(expected)
        assert all(max(map(len, text.splitlines())) <= 120 for text in files.values())

    @pytest.mark.parametrize("weights", WEIGHT_BINARIZERS)
    def test_every_binarizer_gives_the_same_logits_and_gradients(self, weights: str) -> None:
        self.check(spec("lenet5", precision="weight", last="binary", weights=weights))

    @pytest.mark.parametrize("name", ["vgg_small", "resnet18_cifar"])
    def test_binary_inputs_give_the_same_too(self, name: str) -> None:
        self.check(spec(name, precision="binary", last="weight"))

    def test_a_reference_network_comes_without_the_others(self) -> None:
        text = files_of(spec("resnet18_cifar", precision="binary")).files["layers.py"]
        assert "class ResNet" in text
        assert "class VGGSmall" not in text
        assert "class ExpertConv" not in text

    @pytest.mark.parametrize("name", sorted(set(BUILDS) - {"two inputs", "sound"}))
    def test_converted_models_of_every_build(self, name: str) -> None:
        made = BUILDS[name].make
        attribute = next(key for key, value in vars(sys.modules[BUILDS[name].make.__module__]).items() if value is made)
        self.check(converted(f"{USERS}:{attribute}", (3, 12, 12), classes=5))

    def test_a_converted_reference_network(self) -> None:
        self.check(converted("resnet18_cifar", (3, 32, 32), keep=("layer4",)))

    @staticmethod
    def check(described: Description) -> None:
        """Raise unless the file gives the logits and gradients of the network."""
        network = shaken(rebuild(described))
        written = built(files_of(described).files)
        written.load_state_dict(network.state_dict(), strict=True)
        images = images_of(described)
        for net in (network, written):
            torch.manual_seed(0)  # of dropout
            net.train()(images.clone()).square().sum().backward()  # a copy: one changes what it is given
        assert torch.equal(written.eval()(images.clone()), network.eval()(images.clone()))
        for (name, ours), (_, theirs) in zip(written.named_parameters(), network.named_parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None), name
            assert ours.grad is None or torch.equal(ours.grad, theirs.grad), name


class TestFolder:
    """The folder that is handed over: proved without bnas, and trained with it absent."""

    @pytest.fixture(params=["precision", "converted", "users", "users converted"])
    def described(self, request: pytest.FixtureRequest, tmp_path: Path) -> Description:
        kinds: dict[str, Description] = {
            "precision": spec("lenet5", precision="weight", last="weight", weights="alpha_beta"),
            "converted": converted("lenet5", (1, 28, 28), rules=Rules(last="free")),
            "users": ModelSpec(model=users(tmp_path), input=(1, 8, 8), classes=10),
            "users converted": converted(f"{USERS}:Residual", (3, 12, 12), classes=5),
        }
        return kinds[request.param]

    @pytest.mark.slow
    def test_it_is_proved_and_trains_without_bnas(self, described: Description, tmp_path: Path) -> None:
        folder = handed_over(described, tmp_path)
        own = {"own.py", "users_models.py"} & {described.model.rpartition("/")[2].partition(":")[0]}
        assert {file.name for file in folder.iterdir()} == FILES | own
        manifest, network = manifest_of(folder), load(folder, trust=True)
        assert manifest["reload"]["identical"]
        assert manifest["reload"]["without_bnas"]
        assert manifest["counted_again"] == cost(trace(network, described.input).layers).as_dict()
        done = ran(folder, "--data", data_for(described, tmp_path), "--epochs", "2")
        assert done.returncode == 0, done.stderr
        assert "stage 2/2" in done.stdout
        tuned = load_file(folder / "trained.safetensors")
        network.load_state_dict(tuned)  # the same names and shapes
        assert all(bool(tensor.isfinite().all()) for tensor in tuned.values())

    @pytest.mark.slow
    def test_training_starts_from_the_float_models_weights_and_is_taught_by_it(self, tmp_path: Path) -> None:
        described = converted(users(tmp_path), (1, 8, 8), rules=Rules(first="weight"))
        folder, original = handed_over(described, tmp_path), build_original(described.original)
        save_file(shaken(original).state_dict(), tmp_path / "float.safetensors")
        torch.save(original.state_dict(), tmp_path / "float.pt")
        (folder / "train.py").write_text((folder / "train.py").read_text().replace("rate=0.005", "rate=1e-09"))
        data = data_for(described, tmp_path)
        for file in ("float.safetensors", "float.pt"):
            done = ran(folder, "--data", data, "--original", tmp_path / file)
            assert done.returncode == 0, done.stderr
            moved = load_file(folder / "trained.safetensors")
            for name, tensor in original.named_parameters():
                torch.testing.assert_close(moved[name], tensor, rtol=0, atol=1e-6)  # some steps of about 1e-9

    @pytest.mark.slow
    def test_what_was_not_converted_has_no_float_original(self, tmp_path: Path) -> None:
        described = ModelSpec(model=users(tmp_path), input=(1, 8, 8), classes=10)
        folder = handed_over(described, tmp_path)
        done = ran(folder, "--data", data_for(described, tmp_path), "--original", "w.safetensors")
        assert (done.returncode, done.stderr.strip()) == (
            1, "--original: the network was not converted from a float model; leave it out"
        )  # fmt: skip

    @pytest.mark.slow
    def test_it_says_what_it_is(self, tmp_path: Path) -> None:
        text = (handed_over(converted(users(tmp_path), (1, 8, 8)), tmp_path) / "model.py").read_text()
        heading = ast.get_docstring(ast.parse(text)) or ""
        assert heading.startswith("own.py:build with 2 layers in one bit, in plain torch")
        assert f"FLOPs + {8 * 8 * 9 * 64} BOPs / 64" in heading
        assert "but for own.py" in heading
        assert "25.00 % on validation images, 12.50 % on test images" in heading
        assert str(tmp_path) not in text

    @pytest.mark.slow
    def test_a_selection_is_exported_once_it_was_tuned(self, tmp_path: Path) -> None:
        described, picked = converted(users(tmp_path), (1, 8, 8)), tmp_path / "picked"
        picked.mkdir()
        (picked / "selection.yaml").write_text(dump(described))
        with pytest.raises(RunError) as caught:
            export(picked, out=tmp_path / "out")
        assert "holds a selection whose network was not trained; run bnas train" in line_of(caught)
        run = picked / "finetuned" / "selected"
        run.parent.mkdir()
        finished_run(run, trained(described), described, RECIPE)
        for given in (picked, run):  # the second finds an export of the same network
            assert manifest_of(export(given, out=tmp_path / "out", trust=True))["architecture_id"] == described.id


class TestUsersCode:
    """What a file of the user's may hold and import, and what not."""

    def described(self, folder: Path, text: str, attribute: str = "build", file: str = "own.py") -> ConvertedModel:
        return converted(users(folder, text, attribute, file), (1, 8, 8))

    @pytest.mark.parametrize(
        ("before", "after", "attribute"),
        [
            ("", "", "Net"),
            ("def build():\n    return", "build =", "build"),
            ("def build(", "def build_original(", "build_original"),
            ("def build(", "def other():\n    return build()\n\n\ndef build(", "other"),
            ("import torch.nn as nn", "from __future__ import annotations\nfrom torch import nn", "build"),
            ("def build()", "from typing import Callable, Any\n\n\ndef build(net: Callable[..., Any] = Net)", "build"),
            ("class Net", "if True:\n    nn = nn\n\n\nclass Net", "build"),
            ("class Net", "def binarize_(x):\n    return x\n\n\nclass Net", "build"),
            ("def build", "Net.old, Net.forward = Net.forward, lambda self, x: -self.old(x)\n\n\ndef build", "build"),
        ],
        ids=["a class", "a ready module", "a name of ours", "build is called", "annotations", "typing", "a branch",
             "a name that layers.py has", "changed at the top"],
    )  # fmt: skip
    def test_it_may_be_written_in_any_way(self, before: str, after: str, attribute: str, tmp_path: Path) -> None:
        TestModelFile.check(self.described(tmp_path, PLAIN.replace(before, after), attribute))

    @pytest.mark.parametrize(
        "file", ["model.py", "layers.py", "train.py", "random.py", "torch.py", "my-net.py", "2.py"]
    )
    def test_its_file_may_have_any_name(self, file: str, tmp_path: Path) -> None:
        described = self.described(tmp_path, f"import random\n{PLAIN}", file=file)
        TestModelFile.check(described)
        assert f"import random\n{PLAIN}" in files_of(described).files.values()

    def test_its_neighbours_go_with_it(self, tmp_path: Path) -> None:
        neighbours = {
            "layers.py": "import sizes_of as sizes\nfrom deep import far\n\nSIDE = sizes.SIDE + far.NO\n",
            "sizes_of.py": "SIDE = 1\n",
            "deep/far.py": "from . import near\nfrom .near import NO\n",
            "deep/near.py": "import layers\n\nNO = 0\n",
        }
        for name, text in neighbours.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        top = "from layers import SIDE\nimport layers\n"
        described = self.described(tmp_path, top + PLAIN.replace("padding=1", "padding=SIDE * layers.SIDE"))
        TestModelFile.check(described)
        made = files_of(described)
        own = {"own.py", "own_layers.py", "sizes_of.py", "deep/far.py", "deep/near.py"}
        assert made.files.keys() == own | {"model.py", "layers.py"}
        assert made.files["own.py"].startswith("from own_layers import SIDE\nimport own_layers as layers\n")
        assert made.files["own_layers.py"] == neighbours["layers.py"]
        assert made.needs == []

    def test_a_module_of_a_package_is_taken_with_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "pack").mkdir()
        (tmp_path / "pack" / "__init__.py").write_text("from pack.sides import SIDE\n")
        (tmp_path / "pack" / "sides.py").write_text("SIDE = 1\n")
        (tmp_path / "pack" / "nets.py").write_text("from . import SIDE\n" + PLAIN.replace("padding=1", "padding=SIDE"))
        monkeypatch.syspath_prepend(str(tmp_path))
        described = ModelSpec(model="pack.nets:build", input=(1, 8, 8), classes=10)
        TestModelFile.check(described)
        own = {"pack/__init__.py", "pack/sides.py", "pack/nets.py"}
        assert files_of(described).files.keys() == own | {"model.py", "layers.py"}

    def test_installed_packages_are_named(self, tmp_path: Path) -> None:
        described = self.described(tmp_path, "import numpy as np\nfrom PIL import Image\n" + PLAIN)
        TestModelFile.check(described)
        made = files_of(described)
        assert made.needs == [f"numpy=={version('numpy')}", f"pillow=={version('pillow')}"]
        assert f"needs torch, {', '.join(made.needs)}." in made.files["model.py"]

    @pytest.mark.slow
    @pytest.mark.parametrize("inside", [False, True])
    def test_the_proof_has_packages_that_are_installed_anywhere(self, inside: bool, tmp_path: Path) -> None:
        """One that is in no folder of Python's own; the user's file imports it, or it holds the model itself."""
        info = tmp_path / "elsewhere" / "far_away-1.5.dist-info"
        info.mkdir(parents=True)
        (info.parent / "far_away.py").write_text(PLAIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1.5\n")
        (info / "RECORD").write_text("far_away.py,,\nfar_away-1.5.dist-info/METADATA,,\n")
        sys.path.append(str(info.parent))
        model = "far_away:build" if inside else users(tmp_path, "from far_away import Net", "Net")
        folder = handed_over(ModelSpec(model=model, input=(1, 8, 8), classes=10), tmp_path)
        assert manifest_of(folder)["needs"] == ["far-away==1.5"]
        assert {file.name for file in folder.iterdir()} == (FILES if inside else FILES | {"own.py"})
        said = io.StringIO()
        with redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["bnas", "export", str(tmp_path / "run"), "-o", str(folder), "--trust"])
            with pytest.raises(SystemExit):
                main()
        lines = said.getvalue().splitlines()
        assert (lines[0], lines[-1]) == (str(folder), "needs far-away==1.5")
        assert "  model.py, " in said.getvalue()
        assert lines[-2].startswith("proved: reloaded, it answers 8 drawn images alike, logits at most 0.0e+00 apart")

    @pytest.mark.parametrize(
        "top",
        [
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n    from not_there import Kind",
            "try:\n    import not_there\nexcept ImportError:\n    not_there = None",
            "try:\n    from .near import x\nexcept ImportError:\n    x = 1",
            "def unused():\n    import not_there",
            "import os.path",
        ],
        ids=["for types", "optional", "relative or not", "never called", "standard library"],
    )
    def test_what_is_not_there_need_not_be(self, top: str, tmp_path: Path) -> None:
        described = self.described(tmp_path, f"{top}\n{PLAIN}")
        TestModelFile.check(described)
        assert files_of(described).needs == []

    @pytest.mark.parametrize("place", ["bnas.layers", "bnas.layers.binary_conv"])
    def test_a_binary_layer_of_ours_comes_with_it(self, place: str, tmp_path: Path) -> None:
        imports = f"from {place} import BinaryConv\nfrom bnas.layers.activations import RSign\n"
        made = 'nn.Sequential(RSign(8), BinaryConv(8, 8, weights="sign"))'
        text = imports + PLAIN.replace("nn.Conv2d(8, 8, 3, padding=1)", made)
        described = ModelSpec(model=users(tmp_path, text), input=(1, 8, 8), classes=10)
        TestModelFile.check(described)
        files = files_of(described).files
        assert "bnas" not in files["own.py"]
        assert "class BinaryConv" in files["layers.py"]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("top", "reason"),
        [
            ("import bnas", "ModuleNotFoundError: import of bnas halted"),
            ("import bnas.layers", "No module named 'bnas.layers'"),
            ("from bnas.errors import BnasError\nfrom bnas.layers import blocks", "cannot import name 'blocks'"),
            ("SIDE = open(__file__.replace('own.py', 'side.txt')).read()", "No such file or directory"),
            ("import importlib\nimportlib.import_module('side')", "No module named 'side'"),
        ],
        ids=["bnas", "a name of bnas's", "no name", "a file", "a computed name"],
    )
    def test_what_only_the_proof_can_find_is_found(self, top: str, reason: str, tmp_path: Path) -> None:
        (tmp_path / "side.txt").write_text("1")
        (tmp_path / "side.py").write_text("")
        described = ModelSpec(model=users(tmp_path, f"{top}\n{PLAIN}"), input=(1, 8, 8), classes=10)
        with pytest.raises(ExportError) as caught:
            handed_over(described, tmp_path)
        assert line_of(caught).startswith("model.py of model ")
        assert reason in line_of(caught)
        assert not (tmp_path / "out").exists()
