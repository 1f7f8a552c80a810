"""`bnas.train_model` from end to end: any kind of model, resumable, proved, reported; and what it refuses."""

import json

import pytest
import torch
from torch import nn

import bnas
from bnas.data import load_data
from bnas.errors import DataError, LookupFailed, RunError, SpecError
from bnas.networks.model_spec import ModelSpec
from bnas.networks.models import MODELS
from bnas.report.training_page import epochs_of, spread
from bnas.runs import Run
from bnas.space.recipe import Distillation, Recipe, Stage
from bnas.space.shipped import RECIPES, read_recipe
from bnas.spec import dump, parse
from bnas.train import loop as training
from tests.tiny import tiny_space

SPACE = tiny_space()
ARCH = SPACE.architecture(SPACE.genes(SPACE.largest()))
SHORT = Recipe(
    batch=256,
    stages=(Stage(epochs=1, weights="real", inputs="real", experts="first"), Stage(epochs=2, rate=4e-3)),
)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return bnas.train_model(ARCH, data="digits", recipe=SHORT, out=tmp_path_factory.mktemp("run") / "run")


def test_the_run_folder_has_all_its_parts(result) -> None:
    names = {path.name for path in result.run.path.iterdir()}
    assert {
        "config.yaml",
        "environment.json",
        "log.jsonl",
        "train-0",
        "train-1",
        "best",
        "figures",
        "report.html",
    } <= names
    assert "space.yaml" not in names
    figures = {path.name for path in result.run.figures.iterdir()}
    assert {"course.png", "filters.png", "usage.png"} <= figures


def test_the_trained_network_loads_and_has_the_accuracy_that_was_written(result) -> None:
    network, data = result.load(), load_data("digits")
    images, labels = next(iter(data.test.batches(len(data.test))))
    with torch.no_grad():
        right = (network(images).argmax(1) == labels).float().mean().item()
    assert right == pytest.approx(result.manifest["accuracy"]["test"])
    assert result.manifest["reload"]["identical"]


def test_each_epoch_is_logged_with_what_the_bits_did(result) -> None:
    epochs = epochs_of(result.run.events())
    assert [(e["phase"], e["epoch"]) for e in epochs] == [("train-0", 1), ("train-1", 1), ("train-1", 2)]
    for epoch in epochs:
        assert 0 <= epoch["flips"] <= 1
        assert 0 <= epoch["validation_accuracy"] <= 1
        assert all(alpha > beta for alpha, beta in epoch["filters"].values())
    assert set(epochs[-1]["usage"]) <= set(epochs[-1]["filters"])


def test_it_is_exported_as_a_searched_network_is(result, tmp_path) -> None:
    folder = bnas.export(result, out=tmp_path / "out")
    assert json.loads((folder / "manifest.json").read_text())["reload"]["without_bnas"]


def test_stopped_after_any_checkpoint_it_ends_in_the_same_weights(result, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    write, saves = Run.save_checkpoint, []

    def dying(self, name, tensors, state):
        write(self, name, tensors, state)
        saves.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save_checkpoint", dying)
    steps = 3 * load_data("digits").train.steps(SHORT.batch)
    for _ in range(steps):  # each start ends at its first checkpoint, after one step
        with pytest.raises(KeyboardInterrupt):
            bnas.train_model(ARCH, data="digits", recipe=SHORT, out=tmp_path / "run")
    assert saves == ["train-0"] * (steps // 3) + ["train-1"] * (2 * steps // 3)
    again = bnas.train_model(ARCH, data="digits", recipe=SHORT, out=tmp_path / "run")
    assert again.manifest["weights_sha256"] == result.manifest["weights_sha256"]
    assert again.manifest["accuracy"] == result.manifest["accuracy"]


def test_an_architecture_comes_from_a_file_too(tmp_path) -> None:
    file = tmp_path / "arch.yaml"
    file.write_text(dump(ARCH))
    one = Recipe(batch=512, stages=(Stage(epochs=1),))
    assert (
        bnas.train_model(file, data="digits", recipe=one, out=tmp_path / "run").manifest["architecture_id"] == ARCH.id
    )
    with pytest.raises(SpecError, match="says itself what is binary"):
        bnas.train_model(file, data="digits", recipe=one, weights="sign", out=tmp_path / "other")


OWN = """
from torch import nn
from bnas.layers.binary_conv import BinaryConv

def make():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), BinaryConv(4, 8), nn.Flatten(), nn.Linear(8 * 36, 10))

class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = make()
    def forward(self, x):
        return self.net(x), 1
"""


def make_on(device: str) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 10, device=device))


def test_a_module_of_the_users_own_trains_as_it_is(tmp_path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    result = bnas.train_model(f"{file}:make", data="digits", epochs=1, out=tmp_path / "run")
    assert isinstance(result.load(), nn.Module)
    assert result.manifest["cost"]["bops"] == 4 * 8 * 9 * 36
    folder = bnas.export(result, out=tmp_path / "out")
    assert json.loads((folder / "manifest.json").read_text())["reload"]["without_bnas"]
    with pytest.raises(SpecError, match="is a module of its own"):
        bnas.train_model(f"{file}:make", data="digits", precision="binary", out=tmp_path / "other")
    with pytest.raises(DataError, match=r"need logits \[batch, 10\], but the network gives a tuple"):
        bnas.train_model(f"{file}:Deep", data="digits", out=tmp_path / "other")
    with pytest.raises(SpecError, match=r"model: '0\.weight' is on the device meta, where tensors have no values"):
        bnas.train_model(make_on("meta"), data="digits", out=tmp_path / "other")


class Odd(nn.Module):
    """A network with something that no training can take; `with_maps` is none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1))


class Auxiliary(Odd):
    def forward(self, x):
        return (super().forward(x), None) if self.training else super().forward(x)


class WithState(Odd):
    def get_extra_state(self):
        return {"k": 3}

    def set_extra_state(self, state) -> None:
        pass


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Auxiliary, "model: gives a tuple while it is trained; return the logits alone, as a tensor"),
        (WithState, "model: its state holds '_extra_state', a dict, as get_extra_state gives it; keep tensors in it"),
        (lambda: Odd().requires_grad_(False), r"model: all its weights are frozen \(requires_grad=False\); call"),
        (lambda: Odd().double(), "model: 'layer.weight' is of float64; make the model float32 first, as model.float"),
        (lambda: Odd().bfloat16(), "model: 'layer.weight' is of bfloat16; make the model float32 first"),
    ],
)
def test_a_module_that_cannot_be_trained_is_refused_before(make, said: str, tmp_path) -> None:
    with pytest.raises(SpecError, match=said):
        bnas.train_model(make(), data="digits", recipe=SHORT, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_run_teaches_the_first_stage(result, tmp_path) -> None:
    recipe = Recipe(batch=512, stages=(Stage(epochs=1, distill={"logits": 1.0, "attention": 1.0}),))
    taught = bnas.train_model(
        ARCH, data="digits", recipe=recipe, teacher=result.run.path / "best", out=tmp_path / "a"
    )  # fmt: skip
    alone = bnas.train_model(ARCH, data="digits", recipe=recipe, out=tmp_path / "b")
    assert taught.manifest["weights_sha256"] != alone.manifest["weights_sha256"]


def test_all_weights_are_binary_where_only_a_binarizer_is_named() -> None:
    binary = {"precision": "weight", "first": "weight", "last": "weight", "weights": "group"}
    network = ModelSpec(model="lenet5", input=(1, 28, 28), classes=10, **binary).build()
    layers = [m for m in network.modules() if hasattr(m, "weight") and m.weight.ndim > 1]
    assert len(layers) == 4
    assert all(layer.precision == "weight" for layer in layers)


@pytest.mark.parametrize(
    ("name", "asked", "ends"),
    [
        ("tfc", {"precision": "binary"}, ("binary", "binary")),
        ("tfc", {"precision": "binary", "last": "real"}, ("binary", "real")),
        ("cnv", {"precision": "binary"}, ("weight", "binary")),
        ("cnv", {"precision": "weight"}, ("real", "real")),
        ("cnv", {}, ("real", "real")),
        ("vgg_small", {"precision": "binary"}, ("real", "real")),
    ],
)
def test_the_ends_of_a_reference_network_are_the_papers(name, asked, ends) -> None:
    made = parse(ModelSpec, {"model": name, "input": MODELS[name].input, "classes": 10} | asked, source="model")
    assert (made.first, made.last) == ends
    assert made == parse(ModelSpec, made.model_dump(mode="json"), source="model")


SMALL_DATA = """
import torch

def data():
    images = torch.rand(160, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(160) % 10
    return images[:150], labels[:150], images[150:], labels[150:]
"""


@pytest.fixture
def small_data(tmp_path) -> str:
    file = tmp_path / "small.py"
    file.write_text(SMALL_DATA)
    return f"{file}:data"


@pytest.mark.parametrize("weights", ["group", "irnet", "alpha_beta"])
def test_a_named_model_trains_by_the_recipe_of_its_binarizer(weights, small_data, tmp_path) -> None:
    made = bnas.train_model("lenet5", data=small_data, weights=weights, epochs=1, out=tmp_path / "run")
    optimizer = made.manifest["recipe"]["stages"][0]["optimizer"]
    assert optimizer == ("sgd" if weights == "group" else "adamw")
    assert made.manifest["reload"]["max_difference"] == 0


def test_a_network_of_bits_alone_trains_as_published(small_data, tmp_path) -> None:
    made = bnas.train_model("tfc", data=small_data, precision="binary", epochs=2, out=tmp_path / "run")
    assert (made.manifest["cost"]["bops"], made.manifest["cost"]["flops"]) == (59_008, 0)
    assert made.manifest["reload"]["max_difference"] == 0


def test_what_does_not_go_together_is_refused(tmp_path, small_data) -> None:
    with pytest.raises(SpecError, match=r"LeNet5 has no method with_maps\(images\).*set attention: 0"):
        bnas.train_model("lenet5", data=small_data, recipe="expert", out=tmp_path / "a")
    with pytest.raises(LookupFailed, match="model 'lenett5'"):
        bnas.train_model("lenett5", data="digits", out=tmp_path / "a")
    with pytest.raises(DataError, match="the network fails on images of 1x8x8"):
        bnas.train_model("lenet5", data="digits", out=tmp_path / "a")
    with pytest.raises(DataError, match="recipe: batch: 5000 is more than the 1294 training images of digits"):
        bnas.train_model(ARCH, data="digits", recipe=SHORT.model_copy(update={"batch": 5000}), out=tmp_path / "a")
    with pytest.raises(LookupFailed, match="recipe 'nope': give"):
        bnas.train_model(ARCH, data="digits", recipe="nope", out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_folder_that_holds_another_training_is_kept(result) -> None:
    with pytest.raises(RunError, match="holds another run"):
        bnas.train_model(ARCH, data="digits", recipe=SHORT, seed=1, out=result.run.path)


@pytest.mark.parametrize(("arch", "share"), [(ARCH, 0.5), (ARCH.with_one_expert(), None)])
def test_only_networks_with_experts_begin_with_one(arch, share, tmp_path) -> None:
    """The kept recipe of others is what it was before there was such a thing, so that their runs go on."""
    recipe = Recipe(batch=256, stages=(Stage(epochs=2, one_expert=0.5, rate=4e-3),))
    run = bnas.train_model(arch, data="digits", recipe=recipe, out=tmp_path / "run", progress=False).run
    assert run.config["recipe"]["stages"][0].get("one_expert") == share


@pytest.mark.parametrize("name", RECIPES)
def test_our_recipes_are_well_formed(name) -> None:
    assert read_recipe(name).epochs >= 30


def test_a_recipe_is_shortened_in_proportion() -> None:
    assert [stage.epochs for stage in read_recipe("two_stages").lasting(6).stages] == [2, 4]
    assert [stage.epochs for stage in read_recipe("two_stages").lasting(2).stages] == [1, 1]
    assert [stage.epochs for stage in read_recipe("expert").lasting(5).stages] == [1, 1, 1, 2]


def test_with_fewer_epochs_than_stages_the_last_stages_are_trained() -> None:
    recipe = read_recipe("expert")
    assert recipe.lasting(3).stages == tuple(
        stage.model_copy(update={"epochs": 1, "steps": 0}) for stage in recipe.stages[1:]
    )
    assert [stage.weights for stage in recipe.lasting(1).stages] == ["binary"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_epochs_asked_for_are_the_epochs_trained(name) -> None:
    for epochs in range(1, 200):
        assert read_recipe(name).lasting(epochs).epochs == epochs


def test_bop_has_nothing_to_flip_in_a_stage_of_real_weights() -> None:
    with pytest.raises(ValueError, match="optimizer: bop flips binary weights, but the stage has weights: real"):
        Stage(epochs=1, optimizer="bop", weights="real")


def test_a_recipe_must_end_in_what_is_shipped(tmp_path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("stages:\n  - {epochs: 1, weights: real}\n")
    with pytest.raises(SpecError, match="last stage must train what is shipped"):
        read_recipe(file)


def test_layers_are_spread_from_first_to_last() -> None:
    names = [str(number) for number in range(11)]
    assert spread(names, 3) == ["0", "5", "10"]
    assert spread(names[:2], 3) == ["0", "1"]


@pytest.mark.parametrize("taught", [False, True])
def test_a_first_stage_that_nobody_teaches_is_said(taught: bool, result, tmp_path, capsys) -> None:
    recipe = Recipe(batch=256, stages=(Stage(epochs=1, distill=Distillation()),))
    teacher = result.run.best.folder if taught else None
    bnas.train_model(ARCH, data="digits", recipe=recipe, teacher=teacher, out=tmp_path / "run")
    assert ("there is no teacher: it is trained without one" in capsys.readouterr().err) == (not taught)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the stage before" not in page
    assert (f"labels, and the teacher, {teacher}: logits" in page) == taught
