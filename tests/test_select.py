"""From a float model and images to a selection: by call, and by command."""

import csv
import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spaces import line_of
from test_cli import bnas
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from users_models import MODELS as BUILDS

import bnas as package
from bnas.api.finetuning import accuracies
from bnas.api.making import maker, teacher_of
from bnas.api.selecting import review, select_layers
from bnas.api.selecting_by_name import select_model
from bnas.cost.totals import cost
from bnas.cost.trace.plain_model import tensors_in
from bnas.cost.trace.trace_model import trace
from bnas.data import load_data
from bnas.errors import BnasError, BudgetError, RunError
from bnas.networks.models import MODELS, build_model
from bnas.networks.user_model import build_original, load_model
from bnas.runs import Run
from bnas.runs.documents import table_of, write_table
from bnas.select import METRICS, Decision, Decisions, Evidence, LayerScore, Original, Rules, decide
from bnas.select.conversion import ConvertedModel, Survey, convert, survey
from bnas.space.arch import Binarizers
from bnas.space.recipe import Stage
from bnas.spec import dump, parse

pytestmark = pytest.mark.draws

USERS_FILE = """
import torch
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 16), nn.ReLU(), nn.Linear(16, 10),
    )


def norms():
    return nn.Sequential(nn.AdaptiveAvgPool2d((1, 10)), nn.Flatten(), nn.BatchNorm1d(10))


def broken():
    model = build()
    model[5].weight.data[0] = float("nan")
    return model


def spare():
    model = build()
    model[0].spare = nn.Linear(3, 3)
    return model
"""
TRAINED_FILE = """
import torch
from torch import nn

from bnas.data import load_data


def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


torch.manual_seed(0)
model = build()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(5):
    for images, labels in load_data("digits", seed=0).train.batches(32, seed=0, epoch=epoch):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
"""
SIDES = 8 * 8 * 9 * 64, 8 * 8 * 9 * 36, 8 * 36 * 16  # MACs of the three layers with a choice: 3, 5 and 8


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A user's file with models for the digits."""
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(USERS_FILE)
    return f"{path}:build"


@pytest.fixture(scope="module")
def picked(mine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a selection."""
    folder = tmp_path_factory.mktemp("picked") / "picked"
    done = bnas("select", mine, "--data", "digits", "--budget", "ops=50%", "-o", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def tuned(mine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a selection whose networks were trained."""
    folder = tmp_path_factory.mktemp("tuned") / "tuned"
    done = bnas("select", mine, "--data", "digits", "--ratio", 0.4, "--finetune", 2, "-o", folder)
    assert done.returncode == 0, done.stderr
    assert "validation  fine-tuned  test, fine-tuned" in done.stdout
    return folder


def loader() -> "DataLoader[tuple[Tensor, ...]]":
    images = torch.randn(48, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(images, torch.arange(48) % 5), batch_size=16)


class TestCall:
    """`bnas.select_layers` and `bnas.convert`."""

    def test_a_model_and_a_loader_are_enough(self) -> None:
        model = BUILDS["residual"].make()
        made = package.select_layers(model, loader(), budget=["ops=50%"])
        network = package.convert(model, made)
        assert cost(trace(network, (3, 12, 12)).layers) == made.cost
        assert made.cost.ops <= 0.5 * made.real_cost.ops
        assert made.precision("downsample") == made.precision("fc") == "weight"

    @pytest.mark.parametrize("metric", ["product", "hybrid", "sensitivity"])
    @pytest.mark.parametrize("method", ["knapsack", "greedy", "partition"])
    def test_every_metric_with_every_method(self, metric: str, method: str) -> None:
        made = select_layers(BUILDS["dense"].make(), loader(), ratio=0.7, metric=metric, method=method)
        assert len(made.kept) <= 2
        assert made.metric == metric
        assert all(made.decisions.layers[name].why.startswith(f"{metric}, {method}: ") for name in made.free)

    def test_a_metric_is_measured_what_it_reads(self) -> None:
        def worst(seen: Evidence) -> LayerScore:
            return LayerScore(seen.losses.binary, seen.losses.binary)

        named, given, own = (
            select_layers(BUILDS["dense"].make(), loader(), ratio=0.7, metric=metric)
            for metric in ("sensitivity", METRICS["sensitivity"], worst)
        )
        assert named.metric == given.metric == "sensitivity"
        assert named.scores.keys() == own.scores.keys()
        assert all(row["loss_change"] is not None for row in own.rows() if row["metric"] is not None)
        assert select_layers(BUILDS["dense"].make(), loader(), ratio=0.7).rows()[1]["loss_change"] is None

    @pytest.mark.parametrize("name", BUILDS)
    def test_any_build_is_measured_decided_converted_and_trained(self, name: str) -> None:
        torch.manual_seed(0)
        model, shapes = BUILDS[name].make(), BUILDS[name].inputs
        batches = [(tuple(torch.randn(8, *shape) for shape in shapes), None) for _ in range(2)]
        made = package.select_layers(model, batches, ratio=0.5)
        assert len(made.kept) <= (len(made.free) + len(made.layers)) / 2
        binary = package.convert(model, made).train()
        assert cost(trace(binary, shapes).layers) == made.cost
        before = binary.state_dict()[f"{made.layers[-1].name}.weight"].clone()
        results = tensors_in(binary(*(x.clone() for x in batches[0][0])))
        sum(result.square().mean() for result in results).backward()
        torch.optim.Adam(binary.parameters(), lr=1e-2).step()
        assert not torch.equal(binary.state_dict()[f"{made.layers[-1].name}.weight"], before)

    def test_layers_kept_by_hand(self) -> None:
        made = select_layers(BUILDS["dense"].make(), loader(), keep=["layers.2"])
        assert made.kept == ("layers.2.2",)
        assert made.scores.keys() == made.free

    def test_errors_of_a_trained_binary_network(self) -> None:
        torch.manual_seed(0)
        model = BUILDS["dense"].make()
        binary = convert(model, select_layers(model, loader(), keep=())).train()
        for _ in range(3):
            binary(torch.randn(16, 3, 12, 12))
        ours, theirs = (select_layers(model, loader(), ratio=0.5, measured_on=net) for net in (model, binary))
        assert ours.cost.macs == theirs.cost.macs
        assert ours.scores != theirs.scores
        with pytest.raises(BnasError, match=r"^measured on: the network has no layer 'stem', which the model has"):
            select_layers(model, loader(), ratio=0.5, measured_on=nn.Linear(3, 3))

    def test_a_person_has_the_last_word(self) -> None:
        model = BUILDS["dense"].make()
        words = {"fc": {"precision": "real"}, "layers.1.2": {"precision": "weight", "norm": False}}
        decisions = parse(Decisions, {"layers": words, "binarizers": {"pad_value": 1}}, source="")
        made = review(model, loader(), decisions)
        assert [made.precision(layer.name) for layer in made.layers] == ["real", "real", "weight", "real", "real"]
        assert made.kept == ("layers.1.2",)
        assert cost(trace(convert(model, made), (3, 12, 12)).layers) == made.cost

    def test_a_norm_put_in_by_hand_is_counted(self) -> None:
        model = BUILDS["pre-activation"].make()
        decisions = parse(Decisions, {"layers": {"conv": {"precision": "binary", "norm": True}}}, source="")
        made = review(model, loader(), decisions)
        assert cost(trace(convert(model, made), (3, 12, 12)).layers) == made.cost


@cache
def surveyed(name: str) -> Survey:
    """Return what is known of a reference network, without memory for its weights."""
    with torch.device("meta"):
        return survey(build_model(name), [torch.zeros(2, *MODELS[name].input)])


class Routed(nn.Module):
    """Two experts, of which the data chooses one for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.head = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 5)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        chosen, made = self.gate(x).argmax(-1), torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            if (rows := chosen == index).any():
                made[rows] = expert(x[rows])
        return self.head(made)


def test_what_the_data_routes_is_refused_or_costs_what_was_promised() -> None:
    refused = []
    for seed in range(12):
        torch.manual_seed(seed)
        model = Routed()
        try:
            found = select_layers(model, [torch.randn(64, 6)], ratio=0.5)
        except BnasError as problem:
            refused.append(str(problem))
        else:
            assert package.count(convert(model, found), (6,)).ops == found.cost.ops
    assert 0 < len(refused) < 12
    assert all("the data decides what runs, so no cost can be kept; give the parts" in said for said in refused)


def test_a_name_in_place_of_a_model_is_one_line() -> None:
    with pytest.raises(BnasError, match=r"^the model: must be a torch module, but is a str; bnas.build_model"):
        select_layers("lenet5", [torch.randn(2, 1, 28, 28)], keep=())  # type: ignore[arg-type]


class TestPublished:
    """The partitions of the papers, and their counts."""

    @pytest.mark.parametrize(
        ("name", "preset", "last", "ops", "saving"),
        [
            ("alexnet", "real", "real", 1_135.26e6, 1),
            ("alexnet", "binary", "real", 121.51e6 + 4096 * 1000 * 63 / 64, 10.48),
            ("alexnet", "binary", "binary", 121.51e6, 31.46),
            ("alexnet", "hybrid", "binary", 175.18e6, 31.46),
            ("resnet18", "real", "real", 1_814.07e6, 1),
            ("resnet18", "binary", "real", 1_814.07e6 - 1_676_279_808 * 63 / 64, 13.42),
            ("resnet18", "binary", "weight", 1_814.07e6 - 1_676_279_808 * 63 / 64, 31.22),
        ],
    )
    def test_counts(self, name: str, preset: str, last: str, ops: float, saving: float) -> None:
        found = surveyed(name)
        made = decide(
            found.layers, found.rest, keep=MODELS[name].presets[preset], rules=Rules(last=last)  # type: ignore[arg-type]
        )  # fmt: skip
        price = made.at("real").cost if preset == "real" else made.cost
        assert price.ops == pytest.approx(ops, rel=1e-4)
        assert price.weight_saving == pytest.approx(saving, abs=0.005)

    @pytest.mark.parametrize(
        ("name", "preset", "limit", "kept"),
        [
            ("alexnet", "hybrid", 0.28, "2 of 7 inputs would stay real, 28.57 %"),
            ("alexnet", "hybrid-last", 0.14, "1 of 7 inputs would stay real, 14.29 %"),
            ("sketch_a_net", "hybrid", 0.28, "2 of 7 inputs would stay real, 28.57 %"),
            ("resnet18", "hybrid", 0.36, "7 of 19 inputs would stay real, 36.84 %"),
            ("resnet18", "hybrid-last", 0.1, "2 of 19 inputs would stay real, 10.53 %"),
        ],
    )
    def test_ratios(self, name: str, preset: str, limit: float, kept: str) -> None:
        found = surveyed(name)
        with pytest.raises(BudgetError) as caught:
            decide(found.layers, found.rest, keep=MODELS[name].presets[preset], ratio=limit)
        assert line_of(caught).startswith(f"ratio {limit}: {kept}; with real inputs in ")
        decide(found.layers, found.rest, keep=MODELS[name].presets[preset], ratio=limit + 0.02)

    @pytest.mark.parametrize("name", ["resnet18", "sketch_a_net", "squeezenet", "vgg_small"])
    def test_presets_cost_what_the_networks_built_so_cost(self, name: str) -> None:
        with torch.device("meta"):
            built = {p: build_model(name, precision=p, last="weight") for p in MODELS[name].presets if p != "real"}
        found = surveyed(name)
        for preset, network in built.items():
            keep = ("*",) if preset == "weight" else MODELS[name].presets[preset]
            made = decide(found.layers, found.rest, keep=keep).cost
            theirs = cost(trace(network, MODELS[name].input).layers)
            assert (made.ops, made.bops, made.weight_saving) == (theirs.ops, theirs.bops, theirs.weight_saving), preset


class TestFinetuning:
    """`--finetune`, and training what was selected."""

    @pytest.mark.slow
    def test_every_network_is_compared(self, tuned: Path) -> None:
        with (tuned / "networks.csv").open() as file:
            rows = {row["network"]: row for row in csv.DictReader(file)}
        assert list(rows) == ["real", "all weights binary", "all binary", "selected"]
        assert all(0 <= float(row["accuracy"]) <= 1 for row in rows.values())
        assert rows["real"]["finetuned"] == rows["real"]["accuracy"]  # it is not trained further
        for name in rows:
            assert 0 <= float(rows[name]["finetuned"]) <= 1
            assert 0 <= float(rows[name]["finetuned_test"]) <= 1

    @pytest.mark.slow
    def test_a_tuned_network_loads_and_costs_what_was_promised(self, tuned: Path) -> None:
        with (tuned / "networks.csv").open() as file:
            promised = list(csv.DictReader(file))[-1]
        network = package.load(tuned / "finetuned" / "selected" / "best", trust=True)
        assert cost(trace(network, (1, 8, 8)).layers).ops == float(promised["ops"])

    @pytest.mark.slow
    def test_the_tuned_network_is_exported(self, tuned: Path, tmp_path: Path) -> None:
        done = bnas("export", tuned, "--to", "training", "-o", tmp_path / "out", "--trust")
        assert done.returncode == 0, done.stderr
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        with (tuned / "networks.csv").open() as file:
            promised = list(csv.DictReader(file))[-1]
        assert manifest["reload"]["without_bnas"]
        assert manifest["counted_again"]["ops"] == float(promised["ops"])
        assert manifest["accuracy"]["test"] == float(promised["finetuned_test"])

    @pytest.mark.slow
    def test_the_selection_trains_like_any_model(self, tuned: Path, tmp_path: Path) -> None:
        done = bnas(
            "train", tuned / "selection.yaml", "--data", "digits", "--epochs", 1, "--out", tmp_path / "run", "--json",
            "--trust",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["cost"]["bops"] > 0

    @pytest.mark.slow
    def test_errors_of_the_network_that_was_tuned(self, tuned: Path, mine: str, tmp_path: Path) -> None:
        options = ["--ratio", 0.4, "-o", tmp_path / "d", "--json", "--trust"]
        done = bnas("select", mine, "--data", "digits", "--measured-on", tuned / "finetuned" / "all-binary", *options)
        assert done.returncode == 0, done.stderr
        with (tuned / "layers.csv").open() as file:
            before = {row["layer"]: float(row["error"]) for row in csv.DictReader(file)}
        after = {row["layer"]: row["error"] for row in json.loads(done.stdout)["layers"]}
        assert after.keys() == before.keys()
        assert all(after[name] != pytest.approx(before[name]) for name in ("3", "5", "8"))

    @pytest.mark.slow
    def test_weights_that_a_model_brings_itself_teach_as_those_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(TRAINED_FILE)
        data = load_data("digits", seed=0)
        for attribute, is_taught in (("model", True), ("build", False)):
            original = Original(model=f"{tmp_path / 'mine.py'}:{attribute}", input=(1, 8, 8), classes=10)
            model = build_original(original)
            made = select_layers(model, data.train.take(64, seed=0).batches(32), keep=())
            out = tmp_path / attribute
            found = accuracies(made, original, data, epochs=1, out=out, seed=0, device="cpu")
            assert (found["real"]["accuracy"] > 0.5) == is_taught
            described = ConvertedModel.read(out / "selected" / "best" / "architecture.yaml")
            assert described.original.weights == (str(out / "real.pt") if is_taught else None)
            assert Run.read(out / "selected").best.read()[2]["epochs"] == 1
        taught = teacher_of(ConvertedModel.read(tmp_path / "model" / "selected" / "best" / "architecture.yaml"), None)
        assert taught is not None
        assert torch.equal(taught.get_parameter("3.weight"), build_original(original.model_copy(
            update={"model": f"{tmp_path / 'mine.py'}:model"})).get_parameter("3.weight"))  # fmt: skip

    def test_trained_weights_teach_the_first_stage(self, mine: str, tmp_path: Path) -> None:
        model = load_model(mine)
        save_file(model.state_dict(), tmp_path / "w.safetensors")
        original = Original(model=mine, weights=str(tmp_path / "w.safetensors"), input=(1, 8, 8), classes=10)
        layers = {"3": Decision(precision="binary")}
        described = ConvertedModel(original=original, layers=layers)
        taught = teacher_of(described, None)
        assert taught is not None
        assert torch.equal(taught.get_parameter("3.weight"), model.get_parameter("3.weight"))
        bare = described.model_copy(update={"original": original.model_copy(update={"weights": None})})
        assert teacher_of(bare, None) is None
        begun = maker(described, 0)(Stage(epochs=1))
        assert torch.equal(begun.get_parameter("3.weight"), model.get_parameter("3.weight"))


class TestCommand:
    """`bnas select`."""

    def test_writes_what_a_person_needs(self, picked: Path) -> None:
        assert {file.name for file in picked.iterdir()} == {
            "selection.yaml", "layers.csv", "networks.csv", "curve.csv", "figures", "report.html",
        }  # fmt: skip
        drawn = {f"{name}{paper}.png" for name in ("metric", "curve") for paper in ("", "-dark")}
        assert {file.name for file in (picked / "figures").iterdir()} == drawn
        decisions = Decisions.read(picked / "selection.yaml")
        with (picked / "layers.csv").open() as file:
            rows = {row["layer"]: row for row in csv.DictReader(file)}
        assert list(rows) == ["0", "3", "5", "8", "10"] == list(decisions.layers)
        assert [int(rows[name]["macs"]) for name in ("3", "5", "8")] == list(SIDES)
        assert all(float(row["error"]) > 0 and row["precision"] for row in rows.values())
        with (picked / "networks.csv").open() as file:
            networks = {row["network"]: float(row["ops"]) for row in csv.DictReader(file)}
        assert networks["all binary"] <= networks["selected"] <= 0.5 * networks["real"]
        assert networks["all weights binary"] == networks["real"]

    def test_prints_a_table_from_the_first_layer_to_the_last(self, mine: str, tmp_path: Path) -> None:
        done = bnas("select", mine, "--data", "digits", "--ratio", 0.4, "--method", "greedy", "-o", tmp_path / "d")
        lines = done.stdout.splitlines()
        assert re.split(r"  +", lines[0]) == ["layer", "share of MACs", "error", "product", "decision", "why"]
        assert [line.split()[0] for line in lines[2:7]] == ["0", "3", "5", "8", "10"]
        assert lines[2].endswith("first layer")
        assert "binary weights, real input  product, greedy: rank 1 of 3, taken" in done.stdout
        assert lines[7].startswith("error: what a layer loses where its input x becomes signs")
        assert lines[8].startswith("product: error for each million ops that a binary input saves")
        assert lines[9] == "2 binary inputs get a batch norm before their sign; `norm: false` leaves it out"
        assert [line.split("  ")[0] for line in lines[13:17]] == [
            "real",
            "all weights binary",
            "all binary",
            "selected",
        ]
        assert "1 of 3 layers with a choice keep real inputs" in done.stdout

    def test_for_machines(self, mine: str, tmp_path: Path) -> None:
        done = bnas("select", mine, "--data", "digits", "--budget", "ops=50%", "-o", tmp_path / "d", "--json")
        made = json.loads(done.stdout)
        assert made["kept"] == [row["layer"] for row in made["layers"] if row["why"].startswith("product")
                                and row["precision"] == "weight"]  # fmt: skip
        assert made["cost"]["ops"] == made["networks"][-1]["ops"]

    def test_an_edited_selection_is_taken_back(self, picked: Path, mine: str, tmp_path: Path) -> None:
        text = (picked / "selection.yaml").read_text()
        edited = tmp_path / "edited.yaml"
        edited.write_text(re.sub(r"'3': \{precision: \w+", "'3': {precision: real", text))
        done = bnas("select", mine, "--data", "digits", "--selection", edited, "-o", tmp_path / "d", "--json")
        made = json.loads(done.stdout)
        assert [row["precision"] for row in made["layers"] if row["layer"] == "3"] == ["real"]
        assert made["cost"]["flops"] >= SIDES[0]
        again, given = (Decisions.read(path).layers for path in (tmp_path / "d" / "selection.yaml", edited))
        assert {name: (x.precision, x.norm) for name, x in again.items()} == {
            name: (x.precision, x.norm) for name, x in given.items()
        }
        assert again["3"].why == f"edited (was {given['3'].chosen})"
        assert {name: again[name].why for name in again if name != "3"} == {
            name: given[name].why for name in given if name != "3"
        }

    def test_the_file_converts_the_model(self, picked: Path) -> None:
        decisions = Decisions.read(picked / "selection.yaml")
        assert decisions.original is not None
        network = package.convert(build_original(decisions.original), picked / "selection.yaml")
        with (picked / "networks.csv").open() as file:
            promised = list(csv.DictReader(file))[-1]
        assert cost(trace(network, decisions.original.input).layers).ops == float(promised["ops"])

    def test_another_selection_is_not_overwritten(self, picked: Path, mine: str) -> None:
        before = (picked / "selection.yaml").read_text()
        done = bnas("select", mine, "--data", "digits", "--ratio", 0, "-o", picked)
        assert done.returncode == 1
        assert f"{picked}: holds another selection" in done.stderr
        assert (picked / "selection.yaml").read_text() == before

    @pytest.mark.parametrize("edited", [False, True])
    def test_a_selection_that_this_cannot_be_is_refused_before_any_measuring(
        self, picked: Path, mine: str, tmp_path: Path, edited: bool
    ) -> None:
        folder = Path(shutil.copytree(picked, tmp_path / "picked"))
        path = folder / "selection.yaml"
        if edited:
            path.write_text(re.sub(r"'3': \{precision: \w+", "'3': {precision: real", path.read_text()))
        normalise = None if edited else ((0.5,), (0.5,))
        with pytest.raises(RunError, match=r"picked: holds another selection"):
            select_model(mine, lambda *_: pytest.fail("measured"), data="digits", out=folder, normalise=normalise)

    def test_the_same_again_is_the_same(self, picked: Path, mine: str) -> None:
        before = (picked / "selection.yaml").read_bytes()
        assert bnas("select", mine, "--data", "digits", "--budget", "ops=50%", "-o", picked).returncode == 0
        assert (picked / "selection.yaml").read_bytes() == before

    def test_a_network_made_binary_by_hand_is_compared_with_what_it_stands_between(
        self, mine: str, tmp_path: Path
    ) -> None:
        everything = {name: {"precision": "binary"} for name in ("3", "5", "8", "10")}
        (tmp_path / "s.yaml").write_text(dump(parse(Decisions, {"layers": everything}, source="")))
        done = bnas(
            "select", mine, "--data", "digits", "--selection", tmp_path / "s.yaml", "-o", tmp_path / "d", "--json"
        )
        bops = {row["network"]: row["bops"] for row in json.loads(done.stdout)["networks"]}
        assert bops["all weights binary"] == 0
        assert bops["selected"] == bops["all binary"] == sum(SIDES) + 16 * 10

    def test_rules_and_binarizers(self, mine: str, tmp_path: Path) -> None:
        done = bnas(
            "select", mine, "--data", "digits", "--ratio", 0, "--first", "weight", "--include", "10", "--exclude", "5",
            "--binarizer", "alpha_beta", "--pad-value", "-1", "-o", tmp_path / "d", "--json",
        )  # fmt: skip
        precisions = [row["precision"] for row in json.loads(done.stdout)["layers"]]
        assert precisions == ["weight", "binary", "real", "binary", "binary"]
        decisions = Decisions.read(tmp_path / "d" / "selection.yaml")
        assert decisions.binarizers == Binarizers(weight="alpha_beta", pad_value=-1)

    def test_a_published_choice_at_another_size(self, tmp_path: Path) -> None:
        done = bnas(
            "select", "vgg_small", "--data", "digits", "--preset", "binary", "--input", "3x32x32", "-o", tmp_path / "d"
        )  # fmt: skip
        assert done.returncode == 1  # digits are grey
        assert "channels" in done.stderr

    @pytest.mark.slow
    def test_a_published_choice(self, tmp_path: Path) -> None:
        done = bnas(
            "select", "sketch_a_net", "--data", "digits", "--preset", "hybrid", "--input", "1x225x225", "--images", 4,
            "-o", tmp_path / "d", "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["kept"] == ["fc6.linear", "fc7.linear"]

    def test_what_is_not_counted_is_said(self, mine: str, tmp_path: Path) -> None:
        spare = mine.replace(":build", ":spare")
        done = bnas("select", spare, "--data", "digits", "--keep", "3", "-o", tmp_path / "d")
        assert "not counted: 0.spare: parameters: 12 values are not used on this input" in done.stderr

    @pytest.mark.parametrize(
        ("name", "options", "expected"),
        [
            (":norms", ["--ratio", 0.5], "model Sequential: has no convolution or linear layer that can be binarized"),
            (":broken", ["--ratio", 0.5], "calibration: the weight of layer '5' is not finite (NaN or infinity)"),
            (":build", ["--budget", "ops=1%"], "budget ops <= 670: cannot be kept, as even with every input binary"),
            (":build", ["--ratio", 0.5, "--exclude", "11"], "pattern '11' matches no layer; the nearest names are 1"),
            (
                ":build",
                ["--ratio", 0.5, "--input", "1x9x9"],
                "calibration: the model fails on images, 2x1x9x9 of float32: ",
            ),
            (":build", ["--ratio", 0.5, "--input", "9"], "--input: images have channels, height and width"),
            (":build", ["--ratio", 0.5, "--images", 1], "images: at least 2 are needed to calibrate, but got 1"),
            (":build", ["--ratio", 0.5, "--metric", "eror"], "metric 'eror' is not known"),
            (":build", ["--ratio", 0.5, "--last", "bnary"], "select: last: "),
            (":build", ["--preset", "hybrid"], "preset 'hybrid': {mine} has no such choice; it has none; name the"),
            (":build", ["--selection", "no.yaml"], "no.yaml: no such file"),
            (":build", ["--keep", "3", "--budget", "ops=30%"], "budget ops <= 20.1k: the choice needs ops 42k (42028)"),
            (":build", ["--ratio", 0.5, "--measured-on", "no"], "no: is no folder; give the folder of an export"),
        ],
    )
    def test_what_is_wrong_is_one_line(
        self, mine: str, name: str, options: list[Any], expected: str, tmp_path: Path
    ) -> None:
        done = bnas("select", mine.replace(":build", name), "--data", "digits", *options, "-o", tmp_path / "d")
        assert done.returncode == 1, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("bnas: " + expected.format(mine=mine)), last
        assert not (tmp_path / "d").exists()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ([], "give a limit, as ops=25%"),
            (
                ["--keep", "3", "--preset", "binary"],
                "--preset: says what to decide, so that it does not go with --keep",
            ),
            (
                ["--keep", "3", "--method", "greedy"],
                "--keep: says what to decide, so that it does not go with --method",
            ),
            (
                ["--selection", "s.yaml", "--binarizer", "alpha_beta", "--pad-value", 1, "--budget", "ops=1%"],
                "--selection: says what to decide, so that it does not go with --binarizer, --budget, --pad-value",
            ),
        ],
    )
    def test_wrong_usage(self, mine: str, options: list[Any], said: str, tmp_path: Path) -> None:
        done = bnas("select", mine, "--data", "digits", *options, "-o", tmp_path / "d")
        assert done.returncode == 2
        assert said in re.sub(r"[\s│]+", " ", done.stderr)


def test_the_picture_marks_what_was_decided(picked: Path) -> None:
    from matplotlib import image

    drawn = image.imread(picked / "figures" / "metric.png")
    colours = {tuple(np.round(255 * colour[:3]).astype(int)) for colour in drawn[::7, ::7].reshape(-1, drawn.shape[-1])}
    for precision in ("#0072b2", "#56b4e9", "#e69f00"):
        assert tuple(int(precision[i : i + 2], 16) for i in (1, 3, 5)) in colours


class TestReport:
    """The page of a selection."""

    def test_is_there_and_says_what_was_chosen(self, picked: Path) -> None:
        text = (picked / "report.html").read_text(encoding="utf-8")
        selected = table_of((picked / "networks.csv").read_bytes(), picked).set_index("network").loc["selected"]
        for said in (
            "of 3 layers with a choice keep real inputs", "Cost against error", "binary weights, real input",
            "error: what a layer loses", "product: error for each million ops", f"{100 * selected['ops_share']:.2f}",
        ):  # fmt: skip
            assert said in text
        assert len(re.findall(r'alt="[^"]{40,}"', text)) == 2
        assert "<script" not in text

    def test_is_written_anew_by_report(self, picked: Path, tmp_path: Path) -> None:
        again = shutil.copytree(picked, tmp_path / "again")
        (again / "report.html").unlink()
        done = bnas("report", again)
        assert done.stdout.strip() == str(again / "report.html")
        assert "was edited since" not in (again / "report.html").read_text(encoding="utf-8")

    def test_says_that_the_selection_was_edited_since(self, picked: Path, tmp_path: Path) -> None:
        again = shutil.copytree(picked, tmp_path / "again")
        text = (again / "selection.yaml").read_text()
        (again / "selection.yaml").write_text(re.sub(r"'3': \{precision: \w+", "'3': {precision: real", text))
        assert bnas("report", again).returncode == 0
        assert "selection.yaml was edited since (3)" in (again / "report.html").read_text(encoding="utf-8")

    def test_a_selection_from_before_has_a_page_without_the_curve(self, picked: Path, tmp_path: Path) -> None:
        again = shutil.copytree(picked, tmp_path / "again")
        (again / "curve.csv").unlink()
        for name, columns in {"layers.csv": ["scored_by", "has_choice"], "networks.csv": ["error"]}.items():
            table = table_of((again / name).read_bytes(), again / name).drop(columns=columns)
            write_table(again / name, rows=table)
        assert bnas("report", again).returncode == 0
        assert "Cost against error" not in (again / "report.html").read_text(encoding="utf-8")

    def test_a_damaged_table_is_named(self, picked: Path, tmp_path: Path) -> None:
        again = shutil.copytree(picked, tmp_path / "again")
        (again / "layers.csv").write_text("a,b\n1,2\n")
        done = bnas("report", again)
        assert done.returncode == 1
        assert "layers.csv: is damaged" in done.stderr
