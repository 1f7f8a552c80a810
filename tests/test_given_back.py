"""A selection that is given back: what it brings, what says that it was edited, and what is never shipped."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from spaces import line_of
from test_cli import bnas
from test_select import USERS_FILE
from torch import nn

import bnas as package
from bnas import convert, select_layers
from bnas.api.selecting import review
from bnas.data import load_data
from bnas.errors import BnasError
from bnas.runs.selection_folder import run_in
from bnas.select import Decision, Decisions, Rules
from bnas.select.conversion import ConvertedModel
from bnas.spec import dump

FILE = (
    USERS_FILE
    + """

def other():
    return build()
"""
)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's file, with the weights of its model beside it, trained on digits from 0 to 1."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(FILE)
    namespace: dict[str, Any] = {}
    exec(FILE, namespace)
    torch.manual_seed(0)
    model: nn.Module = namespace["build"]()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(3):
        for images, labels in load_data("digits", seed=0, normalisation="unit").train.batches(64, seed=0, epoch=epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    save_file(model.state_dict(), folder / "trained.safetensors")
    return folder / "mine.py"


def test_a_layer_that_is_binary_already_is_no_choice_when_a_selection_is_given_back() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip
    images = [torch.randn(4, 1, 8, 8)]
    half = convert(model, select_layers(model, images, keep=["4"], rules=Rules(exclude=["4"]), progress=False))
    again = select_layers(half, images, budget=["ops=100%"], progress=False)
    given = review(half, images, again.decisions, progress=False)
    assert {layer.name for layer in given.layers if layer.obstacle} == {"2", "6"}
    assert given.free == {"4"}


@pytest.fixture(scope="module")
def picked(mine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a selection with trained weights."""
    folder = tmp_path_factory.mktemp("picked") / "picked"
    done = bnas(
        "select", f"{mine}:build", "--weights", mine.with_name("trained.safetensors"), "--normalise", "unit",
        "--input", "1x8x8", "--data", "digits", "--budget", "ops=50%", "-o", folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no better than guessing" not in done.stderr
    return folder


def given_back(mine: Path, file: Path, out: Path, *more: object) -> dict[str, Any]:
    done = bnas("select", f"{mine}:build", "--data", "digits", "--selection", file, "-o", out, "--json", *more)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def edited(file: Path, **precisions: str) -> Path:
    """Change the precisions of layers in a file, as a person does, and nothing else."""
    text = file.read_text()
    for name, precision in precisions.items():
        text = re.sub(rf"'{name[1:]}': \{{precision: \w+", f"'{name[1:]}': {{precision: {precision}", text)
    file.write_text(text)
    return file


def layers(folder: Path) -> dict[str, Decision]:
    return Decisions.read(folder / "selection.yaml").layers


def test_the_example_of_the_help_takes_the_trained_weights(picked: Path, mine: Path, tmp_path: Path) -> None:
    before, made = (
        Decisions.read(picked / "selection.yaml"),
        given_back(mine, picked / "selection.yaml", tmp_path / "d"),
    )
    after = Decisions.read(tmp_path / "d" / "selection.yaml")
    assert after.original == before.original
    assert before.original is not None
    assert (before.original.weights, before.original.normalise) == (str(mine.with_name("trained.safetensors")), "unit")
    assert made["float_model"]["accuracy"] > 0.5
    assert after.layers == before.layers


def test_trained_weights_change_errors(picked: Path, mine: Path, tmp_path: Path) -> None:
    trained = given_back(mine, picked / "selection.yaml", tmp_path / "d")
    done = bnas(
        "select", f"{mine}:build", "--data", "digits", "--normalise", "unit", "--keep", "8", "-o", tmp_path / "e",
        "--json",
    )  # fmt: skip
    untrained = json.loads(done.stdout)
    for before, after in zip(untrained["layers"], trained["layers"], strict=True):
        assert before["weight_error_xnor"] != pytest.approx(after["weight_error_xnor"])


def test_what_is_said_anew_holds(picked: Path, mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(mine.with_name("trained.safetensors").read_bytes())
    given_back(mine, picked / "selection.yaml", tmp_path / "d", "--weights", other)
    original = Decisions.read(tmp_path / "d" / "selection.yaml").original
    assert original is not None
    assert (original.weights, original.normalise) == (str(other), "unit")


def test_of_another_model_the_decisions_alone_are_taken(picked: Path, mine: Path, tmp_path: Path) -> None:
    done = bnas(
        "select", f"{mine}:other", "--data", "digits", "--selection", picked / "selection.yaml", "-o", tmp_path / "d"
    )
    assert done.returncode == 0, done.stderr
    assert f"is about {mine}:build, not {mine}:other: its decisions are taken, its weights and input are" in done.stderr
    original = Decisions.read(tmp_path / "d" / "selection.yaml").original
    assert original is not None
    assert original.weights is None


def test_it_may_be_edited_and_given_back_again_and_again(picked: Path, mine: Path, tmp_path: Path) -> None:
    first = layers(picked)
    given_back(mine, picked / "selection.yaml", tmp_path / "0")
    given_back(mine, edited(tmp_path / "0" / "selection.yaml", _3="real"), tmp_path / "1")
    assert layers(tmp_path / "1")["3"].why == f"edited (was {first['3'].chosen})"
    given_back(mine, edited(tmp_path / "1" / "selection.yaml", _5="real"), tmp_path / "2")
    given_back(mine, edited(tmp_path / "2" / "selection.yaml", _3="binary"), tmp_path / "3")
    last = layers(tmp_path / "3")
    assert {name: decision.precision for name, decision in last.items()} | {"3": "", "5": ""} == {
        name: decision.precision for name, decision in first.items()
    } | {"3": "", "5": ""}
    assert (last["3"].precision, last["3"].why) == ("binary", "edited (was real)")
    assert (last["5"].precision, last["5"].why) == ("real", f"edited (was {first['5'].chosen})")
    assert {name: last[name].why for name in ("0", "8", "10")} == {n: first[n].why for n in ("0", "8", "10")}


def test_its_own_folder_may_be_written(picked: Path, mine: Path, tmp_path: Path) -> None:
    given_back(mine, picked / "selection.yaml", tmp_path / "d")
    given_back(mine, edited(tmp_path / "d" / "selection.yaml", _8="real"), tmp_path / "d")
    assert layers(tmp_path / "d")["8"].precision == "real"
    assert layers(tmp_path / "d")["8"].why.startswith("edited (was ")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Decision(precision="real"), "edited"),
        (Decision(precision="real", why="mine"), "mine"),
        (Decision(precision="binary").because("rank 1"), "rank 1"),
        (
            Decision(precision="binary").because("rank 1").model_copy(update={"precision": "real"}),
            "edited (was binary)",
        ),
        (Decision(precision="binary").because("a").model_copy(update={"norm": False}), "edited (was binary)"),
        (Decision(precision="binary", norm=False).because("a"), "a"),
        (Decision(precision="real").because("a").model_copy(update={"norm": False}), "a"),  # it has no sign
    ],
)
def test_the_reason_of_an_edited_layer_says_so(given: Decision, why: str) -> None:
    assert given.as_given().why == why
    assert given.as_given().as_given() == given.as_given()


def test_data_of_more_classes_is_refused(mine: Path, tmp_path: Path) -> None:
    original = {"model": f"{mine}:build", "input": [1, 8, 8], "classes": 5}
    (tmp_path / "s.yaml").write_text(dump(ConvertedModel.model_validate({"original": original, "layers": {}})))
    done = bnas("select", f"{mine}:build", "--data", "digits", "--selection", tmp_path / "s.yaml", "-o", tmp_path / "d")
    assert done.stderr.splitlines()[-1].startswith(
        "bnas: data digits: has 10 classes, but the selection is of a model of 5; give the data that it was made with"
    )


class TestShipping:
    """`bnas export` of the folder of a selection."""

    @pytest.mark.slow
    def test_an_edited_choice_is_not_shipped_as_the_old_one(self, mine: Path, tmp_path: Path) -> None:
        folder = tmp_path / "picked"
        done = bnas(
            "select", f"{mine}:build", "--data", "digits", "--weights", mine.with_name("trained.safetensors"),
            "--normalise", "unit", "--keep", "5", "--finetune", 1, "-o", folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"to ship:    bnas export {folder} --to training -o DIR --trust" in done.stdout
        assert bnas("export", folder, "--to", "training", "-o", tmp_path / "out", "--trust").returncode == 0
        edited(folder / "selection.yaml", _5="binary")
        done = bnas("export", folder, "--to", "training", "-o", tmp_path / "other")
        assert done.returncode == 1
        assert f"{folder}: selection.yaml was edited after its network was trained (5); select again" in done.stderr
        assert not (tmp_path / "other").exists()

    @pytest.mark.parametrize(
        ("now", "said"),
        [
            ({"3": {"precision": "real"}}, "3"),
            ({"3": {"precision": "binary", "norm": False}}, "3"),
            ({}, "3"),
            ({"3": {"precision": "binary"}, "5": {"precision": "weight"}}, "5"),
            ({"3": {"precision": "binary", "why": "another"}}, ""),
            ({"3": {"precision": "binary"}, "5": {"precision": "real", "norm": False}}, ""),
        ],
    )
    def test_what_counts_as_an_edit(self, now: dict[str, Any], said: str, tmp_path: Path) -> None:
        best = tmp_path / "finetuned" / "selected" / "best"
        best.mkdir(parents=True)
        (best / "architecture.yaml").write_text("layers: {'3': {precision: binary, norm: true}}\n")
        (tmp_path / "selection.yaml").write_text(json.dumps({"layers": now}))
        if not said:
            assert run_in(tmp_path) == tmp_path / "finetuned" / "selected"
            return
        with pytest.raises(BnasError) as caught:
            run_in(tmp_path)
        assert f"was edited after its network was trained ({said}); select again with --selection" in line_of(caught)

    def test_one_that_was_never_trained_is_one_line(self, picked: Path, tmp_path: Path) -> None:
        with pytest.raises(BnasError, match="holds a selection whose network was not trained"):
            package.export(picked, out=tmp_path / "out")
