"""What Python users hold in their hands: objects go in, objects come out, and every candidate can be had back."""

import inspect
import json
from dataclasses import replace

import optuna
import pytest
import torch
import yaml
from optuna.samplers import RandomSampler
from torch import nn

import bnas
from bnas.data import from_arrays, load_data
from bnas.errors import DataError, LookupFailed, RunError, SpecError, Stopped
from bnas.networks.model_spec import ModelSpec
from bnas.searcher.score import Scorer, scored_on
from bnas.select import Decision, Decisions
from bnas.ship.description import HeldModel, describe_module
from bnas.space.arch import Binarizers
from bnas.space.settings import Scoring
from bnas.train import load_supernet
from tests.tiny import TINY, tiny_file, tiny_space


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    return bnas.search(tiny_file(folder), data="digits", out=folder / "run", progress=False)


POOLED = """
import torch.nn.functional as F
from torch import nn


def mean():
    return nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))


def most():
    return nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 10))


class Net(nn.Module):
    def __init__(self, pool="max"):
        super().__init__()
        self.pool, self.fc = pool, nn.Linear(16, 10)

    def forward(self, x):
        return self.fc((F.max_pool2d(x, 2) if self.pool == "max" else F.avg_pool2d(x, 2)).flatten(1))
"""


class TestWhatIsPublic:
    def test_every_name_is_there_and_completes(self) -> None:
        assert set(dir(bnas)) == {*bnas.__all__, "__version__"}
        assert all(getattr(bnas, name) is not None for name in dir(bnas))

    @pytest.mark.parametrize("name", sorted(bnas.__all__))
    def test_every_name_says_what_it_is(self, name: str) -> None:
        thing = getattr(bnas, name)
        said = inspect.getdoc(thing)
        assert said is not None
        assert said.splitlines()[0].endswith((".", "?", ":"))
        if inspect.isfunction(thing):
            given = [p.name for p in inspect.signature(thing).parameters.values()]
            documented = said.partition("Args:")[2]
            unsaid = [p for p in given if p not in documented and p not in said]
            assert unsaid == []


class TestASearch:
    def test_takes_a_space_as_a_mapping(self, result, tmp_path) -> None:
        found = bnas.search(yaml.safe_load(TINY), out=tmp_path / "run", progress=False)
        assert found.candidates.equals(result.candidates)

    def test_takes_a_sampler_as_a_function(self, tmp_path) -> None:
        found = bnas.search(
            tiny_space(), out=tmp_path / "run", trials=3, top=1, progress=False,
            sampler=lambda space, budget, seed: RandomSampler(seed=seed),
        )  # fmt: skip
        assert found.ledger["search"]["paid"] == 3
        assert "lambda" in found.run.config["sampler"]

    @pytest.mark.parametrize(
        ("sampler", "said"),
        [
            (RandomSampler(seed=0), "is a RandomSampler; a sampler is made for each proposal by a function"),
            (3, "is a int"),
            (lambda space, budget, seed: "random", "made a str"),
            (lambda space: RandomSampler(), "making it fails: TypeError"),
            (lambda space, budget, seed: _Failing(), "proposing fails: ZeroDivisionError"),
        ],
    )
    def test_says_the_contract_of_samplers(self, sampler, said, tmp_path) -> None:
        with pytest.raises(SpecError, match=said):
            bnas.search(tiny_space(), out=tmp_path / "run", sampler=sampler, progress=False)

    def test_says_the_contract_of_progress(self, tmp_path) -> None:
        with pytest.raises(SpecError, match=r"progress: must be True, False or a function"):
            bnas.search(tiny_space(), out=tmp_path / "run", progress="bar")

    def test_shows_progress_unless_told_not_to(self, result, tmp_path, capsys) -> None:
        space = tiny_space()
        bnas.search(space, out=tmp_path / "shown", trials=2, top=1)
        assert "supernet: " in capsys.readouterr().err
        bnas.search(space, out=tmp_path / "silent", trials=2, top=1, progress=False)
        assert capsys.readouterr().err == ""


class TestAModelInMemory:
    """select_layers -> convert -> train -> export, for a module that no file names."""

    @pytest.fixture(scope="class")
    @staticmethod
    def trained(tmp_path_factory):
        folder = tmp_path_factory.mktemp("held")
        torch.manual_seed(0)
        model, data = net_of_mine(), load_data("digits")
        chosen = bnas.select_layers(model, list(data.train.take(64, seed=0).batches(32)), budget=["ops=60%"])
        binary = bnas.convert(model, chosen)
        call = {"data": data, "teacher": model, "epochs": 1, "device": "cpu", "progress": False}
        return model, binary, call, bnas.train_model(binary, **call, out=folder / "run")

    def test_is_trained_from_its_own_weights_and_stays_as_it_is(self, trained) -> None:
        model, binary, _, result = trained
        assert result.load().state_dict().keys() == binary.state_dict().keys()
        assert all(binary.state_dict()[name].equal(tensor) for name, tensor in model.state_dict().items())
        assert "HeldModel" not in repr(result)

    def test_loads_into_the_module_that_is_given_again(self, trained) -> None:
        _, binary, _, result = trained
        again = bnas.load(result.run.best.folder, model=binary)
        assert all(again.state_dict()[name].equal(tensor) for name, tensor in result.load().state_dict().items())
        with pytest.raises(SpecError, match="give it again as model="):
            bnas.load(result.run.best.folder)

    def test_goes_on_only_with_the_same_weights(self, trained) -> None:
        _, binary, call, result = trained
        assert bnas.train_model(binary, **call, out=result.run.path).accuracy == result.accuracy
        with pytest.raises(RunError, match="weights_sha256"):
            bnas.train_model(net_of_mine(), **call, out=result.run.path)

    def test_is_not_exported_to_torch_unless_something_makes_it(self, trained, tmp_path) -> None:
        with pytest.raises(SpecError, match=r"source='net\.py:build'"):
            bnas.export(trained[3], out=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_is_exported_where_a_source_makes_it(self, trained, tmp_path) -> None:
        _, binary, call, _ = trained
        (tmp_path / "net.py").write_text(f"from torch import nn\n\n\n{inspect.getsource(net_of_mine)}")
        source = f"{tmp_path}/net.py:net_of_mine"
        result = bnas.train_model(binary, **call, source=source, out=tmp_path / "run")
        folder = bnas.export(result, out=tmp_path / "out")
        network, images = bnas.load(folder, trust=True), torch.randn(3, 1, 8, 8)
        with torch.no_grad():
            assert torch.equal(network(images), result.load()(images))

    def test_a_source_that_makes_something_else_is_refused(self, trained, tmp_path) -> None:
        _, binary, call, _ = trained
        (tmp_path / "other.py").write_text("from torch import nn\n\n\ndef build():\n    return nn.Linear(3, 3)\n")
        with pytest.raises((SpecError, LookupFailed)):
            bnas.train_model(binary, **call, source=f"{tmp_path}/other.py:build", out=tmp_path / "run")

    def test_a_source_of_equal_weights_is_compared_layer_by_layer(self, tmp_path) -> None:
        (tmp_path / "pooled_nets.py").write_text(POOLED)
        call = {"input": (1, 8, 8), "classes": 10}
        model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
        assert isinstance(describe_module(model, source=f"{tmp_path}/pooled_nets.py:mean", **call), ModelSpec)
        with pytest.raises(
            SpecError, match=r"makes another network: it has MaxPool2d(.*) at '0', where the model has Avg"
        ):
            describe_module(model, source=f"{tmp_path}/pooled_nets.py:most", **call)

    def test_a_class_that_makes_another_one_without_arguments_is_not_taken(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "pooled_net.py").write_text(POOLED)
        monkeypatch.syspath_prepend(str(tmp_path))
        from pooled_net import Net  # type: ignore[import-not-found]

        found = [describe_module(Net(pool), input=(1, 8, 8), classes=10) for pool in ("max", "avg")]
        assert [type(each).__name__ for each in found] == ["ModelSpec", "HeldModel"]

    def test_layers_that_were_converted_in_two_ways_have_no_description(self, tmp_path) -> None:
        (tmp_path / "net.py").write_text(f"from torch import nn\n\n\n{inspect.getsource(net_of_mine)}")
        model = net_of_mine()
        layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)][:2]
        for name, weights in zip(layers, ("xnor", "alpha_beta"), strict=True):
            chosen = {name: Decision(precision="weight")}
            model = bnas.convert(model, Decisions(layers=chosen, binarizers=Binarizers(weight=weights)))
        with pytest.raises(SpecError, match=r"has other binarizers, .* convert all layers at once"):
            describe_module(model, input=(1, 8, 8), classes=10, source=f"{tmp_path}/net.py:net_of_mine")
        assert isinstance(describe_module(model, input=(1, 8, 8), classes=10), HeldModel)

    def test_a_class_that_makes_it_is_found(self, tmp_path, monkeypatch) -> None:
        body = inspect.getsource(net_of_mine).partition("return ")[2].strip()
        lines = ["from torch import nn", "", "", "class Net(nn.Module):", "    def __init__(self):"]
        lines += ["        super().__init__()", f"        self.all = {body}", ""]
        lines += ["    def forward(self, x):", "        return self.all(x)", ""]
        (tmp_path / "classy_net.py").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(str(tmp_path))
        from classy_net import Net  # type: ignore[import-not-found]

        call = {"data": "digits", "epochs": 1, "device": "cpu", "progress": False}
        result = bnas.train_model(Net(), **call, recipe="straight_through", out=tmp_path / "run")
        assert bnas.load(bnas.export(result, out=tmp_path / "out"), trust=True) is not None


def test_candidates_are_scored_on_images_of_all_classes_however_they_lie() -> None:
    data = load_data("digits")
    order = data.validation.labels.sort(stable=True).indices
    data = replace(data, validation=data.validation.select(order))
    scored = scored_on(data, Scoring(validation_images=60), seed=0)
    assert (len(scored), len(scored.labels.unique())) == (60, 10)
    assert scored_on(data, Scoring(), seed=0) is data.validation


class TestEveryCandidate:
    def test_can_be_had_as_an_architecture(self, result) -> None:
        for name in [*result.candidates.id, *result.twin.id]:
            assert result.architecture(name).id == name
        assert result.architecture(result.best.architecture.id[:8]) == result.best.architecture

    def test_gives_the_network_that_was_scored(self, result) -> None:
        row = result.candidates[result.candidates.status == "paid"].iloc[0]
        data = load_data("digits", validation=0.1)
        scoring, space = result.space.search.scoring, result.space
        scorer = Scorer(load_supernet(space, store=result.run), data, scoring, seed=0, device=torch.device("cpu"))
        assert scorer(result.architecture(row.id)).proxy_loss == row.proxy_loss
        images = torch.randn(4, *space.input)
        with torch.no_grad():
            assert torch.equal(
                result.network(row.id, device="cpu")(images), scorer.network(result.architecture(row.id))(images)
            )

    def test_can_be_exported_trained_alone_or_as_it_inherits(self, result, tmp_path) -> None:
        trained = set(result.retrained.id)
        rest = next(n for n in result.candidates[result.candidates.status == "paid"].id if n not in trained)
        for name, weights in ((next(iter(trained)), "trained alone"), (rest, "of the supernet")):
            folder = bnas.export(result, out=tmp_path / name, candidate=name)
            manifest = json.loads((folder / "manifest.json").read_text())
            assert (manifest["architecture_id"], manifest["weights"]) == (name, weights)
            assert (manifest["accuracy"]["test"] is None) == (weights == "of the supernet")
            assert bnas.load(folder) is not None

    @pytest.mark.slow
    def test_can_be_exported_from_a_run_that_was_stopped(self, tmp_path) -> None:
        seen: list[str] = []

        def stops(phase: str, done: int, total: int, note: str = "") -> None:
            if phase.startswith("retrain"):
                seen.append(note[:12])
            if phase.startswith("retrain 2 of 2"):
                raise Stopped("enough")

        with pytest.raises(Stopped):
            bnas.search(tiny_space(), data="digits", out=tmp_path / "run", progress=stops)
        stopped = bnas.open_run(tmp_path / "run")
        whole, halved = seen[-2], next(name for name in seen if name not in seen[-2:])
        paid = stopped.candidates[stopped.candidates.status == "paid"].id
        never = next(name for name in paid if name not in seen)
        for name, weights, epochs in (
            (whole, "trained alone", 3),
            (halved, "trained alone", 2),
            (never, "of the supernet", 0),
        ):
            folder = bnas.export(stopped, out=tmp_path / name, candidate=name)
            manifest = json.loads((folder / "manifest.json").read_text())
            assert (manifest["weights"], manifest["epochs"], manifest["accuracy"]["test"]) == (weights, epochs, None)
        with pytest.raises(RunError, match="best"):
            bnas.export(stopped, out=tmp_path / "best")

    @pytest.mark.parametrize("name", ["", "ff", "no such id"])
    def test_is_asked_for_by_an_id_that_is_one(self, result, name: str) -> None:
        with pytest.raises(LookupFailed, match=r"take one from candidates\.csv"):
            result.architecture(name)


def test_a_run_opens_as_what_the_call_gave(result) -> None:
    again = bnas.open_run(result.run.path)
    assert again.candidates.equals(result.candidates)
    assert repr(again) == repr(result)
    assert "test accuracy" in repr(result)


def test_a_run_on_images_that_were_given_asks_for_them_again(tmp_path) -> None:
    digits = load_data("digits")
    given = from_arrays("digits", digits.train.images, digits.train.labels)
    found = bnas.search(tiny_space(), data=given, out=tmp_path / "run", trials=2, top=1, progress=False)
    name = found.best.architecture.id
    with pytest.raises(DataError, match="were given in Python"):
        bnas.open_run(tmp_path / "run").network(name)
    assert found.network(name, data=given) is not None


def net_of_mine():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


class _Failing(optuna.samplers.BaseSampler):
    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        return 1 // 0
