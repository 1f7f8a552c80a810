"""Exports of reference networks, of users' own, and of either with its layers converted: written, proved, trained."""

import ast
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import finished_run, images_of, imported, manifest_of, ran, shaken, text_of, trained
from safetensors.torch import load_file, save_file
from spaces import line_of
from users_models import MODELS as BUILDS

from bnas.binarize import WEIGHT_BINARIZERS
from bnas.cost.totals import cost
from bnas.cost.trace.run import trace
from bnas.errors import ExportError, RunError
from bnas.networks.model_spec import ModelSpec
from bnas.networks.models import MODELS
from bnas.networks.user_model import build_original
from bnas.select import Original, Rules, decide
from bnas.select.conversion import ConvertedModel, survey
from bnas.ship import Description, export, load, rebuild
from bnas.space.recipe import Distillation, Recipe, Stage

FILES = {"model.py", "train.py", "architecture.yaml", "weights.safetensors", "manifest.json"}
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


def users(folder: Path, text: str = PLAIN, attribute: str = "build") -> str:
    """Return the name of a model in a file of the user's."""
    (folder / "own.py").write_text(textwrap.dedent(text))
    return f"{folder / 'own.py'}:{attribute}"


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
    return export(finished_run(folder / "run", trained(described), described, recipe), out=folder / "out")


class TestModelFile:
    """model.py builds what the description says."""

    @pytest.mark.parametrize(("name", "preset"), [(name, p) for name, known in MODELS.items() for p in known.presets])
    def test_reference_networks_in_every_preset(self, name: str, preset: str) -> None:
        ends = "real" if preset == "real" else "weight"
        described = spec(name, precision=preset, first=ends, last=ends)
        with torch.device("meta"):
            text = text_of(described)
            written, expected = imported(text).build(), rebuild(described)
        assert repr(written) == repr(expected)
        assert max(map(len, text.splitlines())) <= 120

    @pytest.mark.parametrize("weights", WEIGHT_BINARIZERS)
    def test_every_binarizer_gives_the_same_logits_and_gradients(self, weights: str) -> None:
        self.check(spec("lenet5", precision="weight", last="binary", weights=weights))

    @pytest.mark.parametrize("name", ["vgg_small", "resnet18_cifar"])
    def test_binary_inputs_give_the_same_too(self, name: str) -> None:
        self.check(spec(name, precision="binary", last="weight"))

    @pytest.mark.parametrize("name", ["vgg_small", "resnet18_cifar"])
    def test_real_networks_hold_no_binary_layer(self, name: str) -> None:
        assert "class Binary" not in text_of(spec(name))

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
        written = imported(text_of(described)).build()
        written.load_state_dict(network.state_dict(), strict=True)
        images = images_of(described)
        for net in (network, written):
            torch.manual_seed(0)  # of dropout
            net.train()(images).square().sum().backward()
        assert torch.equal(written.eval()(images), network.eval()(images))
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
        assert {file.name for file in folder.iterdir()} == FILES
        manifest, network = manifest_of(folder), load(folder)
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
        assert "but for what is from own.py" in heading
        assert "25.00 % on validation images, 12.50 % on test images" in heading
        assert str(tmp_path) not in text

    @pytest.mark.slow
    def test_a_selection_is_exported_once_it_was_tuned(self, tmp_path: Path) -> None:
        described, picked = converted(users(tmp_path), (1, 8, 8)), tmp_path / "picked"
        picked.mkdir()
        (picked / "selection.yaml").write_text("layers: {}\n")
        with pytest.raises(RunError) as caught:
            export(picked, out=tmp_path / "out")
        assert "holds a selection whose network was not trained; run bnas train" in line_of(caught)
        run = picked / "finetuned" / "selected"
        run.parent.mkdir()
        finished_run(run, trained(described), described, RECIPE)
        for given in (picked, run):  # the second finds an export of the same network
            assert manifest_of(export(given, out=tmp_path / "out"))["architecture_id"] == described.id


class TestUsersFile:
    """What a file of the user's may hold, and what not."""

    def described(self, folder: Path, text: str, attribute: str = "build") -> ConvertedModel:
        return converted(users(folder, text, attribute), (1, 8, 8))

    @pytest.mark.parametrize(
        ("before", "after", "attribute"),
        [
            ("", "", "Net"),
            ("def build():\n    return", "build =", "build"),
            ("def build(", "def build_original(", "build_original"),
            ("def build(", "def other():\n    return build()\n\n\ndef build(", "other"),
            ("return Net()", "return other()\n\n\ndef other():\n    return Net()", "build"),
            ("import torch.nn as nn", "from __future__ import annotations\nfrom torch import nn", "build"),
            ("def build()", "from typing import Callable, Any\n\n\ndef build(net: Callable[..., Any] = Net)", "build"),
        ],
        ids=["a class", "a ready module", "a name of ours", "build is called", "parts", "annotations", "typing"],
    )
    def test_it_may_be_written_in_many_ways(self, before: str, after: str, attribute: str, tmp_path: Path) -> None:
        TestModelFile.check(self.described(tmp_path, PLAIN.replace(before, after), attribute))

    def test_what_nothing_needs_may_import_anything(self, tmp_path: Path) -> None:
        text = f"import numpy as np\n{PLAIN}\n\ndef images():\n    return np.ones(3)\n"
        described = self.described(tmp_path, text)
        TestModelFile.check(described)
        assert "numpy" not in text_of(described)

    def test_annotations_that_are_not_evaluated_need_nothing(self, tmp_path: Path) -> None:
        head = (
            "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy"
        )
        text = f"{head}\n{PLAIN}".replace("def forward(self, x)", "def forward(self, x: numpy.ndarray) -> Net")
        TestModelFile.check(self.described(tmp_path, text))

    def test_a_module_of_a_package_is_taken_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "pack").mkdir()
        (tmp_path / "pack" / "nets.py").write_text(PLAIN)
        monkeypatch.syspath_prepend(str(tmp_path))
        TestModelFile.check(ModelSpec(model="pack.nets:build", input=(1, 8, 8), classes=10))

    def test_a_binary_layer_of_ours_comes_with_it(self, tmp_path: Path) -> None:
        imports = "from bnas.layers.binary_conv import BinaryConv\nfrom bnas.layers.activations import RSign\n"
        made = 'nn.Sequential(RSign(8), BinaryConv(8, 8, weights="sign"))'
        text = imports + PLAIN.replace("nn.Conv2d(8, 8, 3, padding=1)", made)
        described = ModelSpec(model=users(tmp_path, text), input=(1, 8, 8), classes=10)
        TestModelFile.check(described)
        assert "def polynomial_sign" in text_of(described)
        assert "def xnor" not in text_of(described)

    @pytest.mark.parametrize(
        ("top", "after", "reason"),
        [
            ("import numpy as np", "int(np.prod(1))", "own.py: `import numpy as np` cannot be written into one file"),
            ("from other import SIDE", "SIDE", "`from other import SIDE` cannot be written into one file"),
            ("if True:\n    SIDE = 1", "SIDE", "'SIDE' is not defined at the top of the module"),
            ("def clipped(x):\n    return x", "clipped(1)", "'clipped' means one thing in"),
            ("def side():\n    import numpy as np\n    return int(np.prod(1))", "side()", "`import numpy as np` c"),
            ("def side(build=1):\n    return build", "side()", "'build': is the name of a local value and"),
        ],
    )  # fmt: skip
    def test_what_one_file_cannot_hold_is_refused(
        self, top: str, after: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "other.py").write_text("SIDE = 1\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        described = self.described(tmp_path, f"{top}\n{PLAIN}".replace("padding=1", f"padding={after}"))
        with pytest.raises(ExportError) as caught:
            text_of(described)
        assert reason in line_of(caught)

    @pytest.mark.slow
    def test_what_only_the_proof_can_find_is_found(self, tmp_path: Path) -> None:
        replaced = "Net.forward = lambda self, x: self.last(self.second(self.norm(self.first(x))).mean((2, 3)))"
        described = ModelSpec(model=users(tmp_path, f"{PLAIN}\n\n{replaced}\n"), input=(1, 8, 8), classes=10)
        with pytest.raises(ExportError, match=r"^model\.py of model .*own\.py:build: .*logits differ"):
            handed_over(described, tmp_path)
        assert not (tmp_path / "out").exists()
