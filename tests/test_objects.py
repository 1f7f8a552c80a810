"""What Python users hold in their hands: objects go in, objects come out, and every candidate can be had back."""

import inspect

import optuna
import pytest
import torch
import yaml
from optuna.samplers import RandomSampler

import bnas
from bnas.data import from_arrays, load_data
from bnas.errors import DataError, LookupFailed, SpecError
from bnas.searcher.score import Scorer
from bnas.train import load_supernet
from tests.tiny import TINY, tiny_file, tiny_space


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    return bnas.search(tiny_file(folder), data="digits", out=folder / "run", progress=False)


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
            tiny_space(), out=tmp_path / "run", trials=3, retrain=1, progress=False,
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
        bnas.search(space, out=tmp_path / "shown", trials=2, retrain=1)
        assert "supernet: " in capsys.readouterr().err
        bnas.search(space, out=tmp_path / "silent", trials=2, retrain=1, progress=False)
        assert capsys.readouterr().err == ""


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
    found = bnas.search(tiny_space(), data=given, out=tmp_path / "run", trials=2, retrain=1, progress=False)
    name = found.best.architecture.id
    with pytest.raises(DataError, match="were given in Python"):
        bnas.open_run(tmp_path / "run").network(name)
    assert found.network(name, data=given) is not None


class _Failing(optuna.samplers.BaseSampler):
    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        return 1 // 0
