"""The winner trained once more, on all training images: on which, by what, and what is said of it."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from test_ranks import in_ranks
from torch import Tensor
from typer.testing import CliRunner

import bnas
from bnas.api import searching, timing
from bnas.api.pace import retrain_seconds
from bnas.api.result import SearchResult
from bnas.cli.app import app
from bnas.data import DataSet, Split, load_data
from bnas.data.dataset import Later
from bnas.data.stream import Stream, joined
from bnas.errors import DataError, RunError
from bnas.report.comparison import points_of
from bnas.space.settings import Retraining
from bnas.spec import dump
from bnas.train import Ranks, build_for, evaluate, train_staged
from bnas.train.retrain import Retrained, retrain
from tests.tiny import MemoryStore, tiny_file, tiny_space

CPU = torch.device("cpu")
SPACE = tiny_space()
ARCHS = [SPACE.architecture(SPACE.sample(Random(seed))) for seed in range(3)]


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load_data("digits", limit=600)


def run(data: DataSet, store: MemoryStore, *, final: bool = True, **how) -> list[Retrained]:
    settings = SPACE.search.retrain.model_copy(update={"final_on_all": final})
    return retrain({"search": ARCHS}, settings, data, seed=0, store=store, device=CPU, **how)


def weights(network: torch.nn.Module) -> list[Tensor]:
    return list(network.state_dict().values())


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


class TestImages:
    """All training images, those held out behind the others."""

    def test_they_are_those_of_both_splits_once_each(self, digits) -> None:
        whole = digits.with_held_out()
        assert torch.equal(whole.train.images, torch.cat((digits.train.images, digits.validation.images)))
        assert torch.equal(whole.train.labels, torch.cat((digits.train.labels, digits.validation.labels)))
        assert len(whole.train) == 600
        assert (whole.mean, whole.std, whole.augmentation) == (digits.mean, digits.std, digits.augmentation)
        assert len(digits.train) == 540

    @pytest.mark.parametrize("streamed", [(True, True), (True, False), (False, True)])
    @pytest.mark.parametrize("dtypes", [(torch.uint8, torch.uint8), (torch.uint8, torch.float32)])
    def test_those_on_a_disk_are_read_from_there(self, streamed, dtypes) -> None:
        drawn = torch.randint(0, 256, (2, 9, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        kept = [part if dtype == torch.uint8 else part.float() / 255 for part, dtype in zip(drawn, dtypes, strict=True)]
        rows = torch.tensor([8, 2, 5, 0])
        parts = [
            Stream(images.__getitem__, rows, (1, 4, 4), images.dtype) if on_disk else images[rows]
            for images, on_disk in zip(kept, streamed, strict=True)
        ]
        whole, plain = joined(*parts), joined(*(images[rows] for images in kept))
        order = torch.tensor([7, 0, 3, 4, 4, 1])
        assert len(whole) == 8
        assert whole.shape == plain.shape
        assert isinstance(plain, Tensor)
        assert plain.dtype == whole.dtype == (torch.uint8 if dtypes[0] == dtypes[1] else torch.float32)
        assert torch.equal(torch.cat(list(whole.batches(order, 4, workers=0))), plain[order])

    def test_those_that_are_normalised_otherwise_are_refused_before_any_training(self, digits, tmp_path) -> None:
        other = replace(digits, validation=replace(digits.validation, mean=(0.1,)))
        with pytest.raises(DataError, match=r"the validation images have mean \(0.1,\).* give both the same"):
            other.with_held_out()
        with pytest.raises(DataError, match="the validation images have mean"):
            bnas.search(SPACE, data=other, final_on_all=True, out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()


class TestTraining:
    """Which network, by which recipe, on which images."""

    def test_the_winner_alone_is_trained_by_the_same_recipe_on_all_of_them(self, digits) -> None:
        results, plain = run(digits, MemoryStore()), run(digits, MemoryStore(), final=False)
        facts = [(r.arch.id, r.epochs, r.validation_accuracy, r.test_accuracy) for r in results]
        assert facts == [(r.arch.id, r.epochs, r.validation_accuracy, r.test_accuracy) for r in plain]
        assert all(same(a.network, b.network) for a, b in zip(results, plain, strict=True))
        assert [r.final is None for r in results] == [False, True, True]
        final, recipe = results[0].final, SPACE.search.retrain.recipe
        assert final is not None
        by_hand = train_staged(
            lambda stage: build_for(results[0].arch, stage), recipe, digits.with_held_out(), name="a", seed=0,
            store=MemoryStore(), device=CPU,
        )  # fmt: skip
        assert same(final.network, by_hand)
        assert not same(final.network, results[0].network)
        assert (final.images, final.epochs) == (600, 3)
        assert final.test_accuracy == evaluate(by_hand, digits.test.batches(500))[0]

    def test_the_test_images_are_read_once_when_it_is_done(self, digits) -> None:
        store, reads = MemoryStore(), list[list[str]]()

        def read() -> Split:
            reads.append(list(store.kept["retrain/rungs"].state))
            return digits.test

        results = run(replace(digits, read_test=Later(read, digits.test.labels)), store)
        assert [names[-1] for names in reads] == [f"on-all/{results[0].arch.id}@2"]

    def test_killed_at_every_save_it_ends_alike(self, digits) -> None:
        whole, store = run(digits, MemoryStore()), MemoryStore()
        for saves in range(1, 50):
            dying = MemoryStore(saves=2)
            dying.kept = store.kept
            try:
                ended = run(digits, dying)
            except KeyboardInterrupt:
                continue
            assert saves > 5
            assert whole[0].final
            assert ended[0].final
            assert same(ended[0].final.network, whole[0].final.network)
            assert ended[0].final.test_accuracy == whole[0].final.test_accuracy
            return
        pytest.fail("never ended")

    def test_read_back_it_trains_nothing(self, digits) -> None:
        store = MemoryStore()
        first, events = run(digits, store), len(store.events)
        again = run(digits, store, is_time_up=lambda: True)
        assert first[0].final
        assert again[0].final
        assert same(first[0].final.network, again[0].final.network)
        assert first[0].seconds == again[0].seconds
        assert len(store.events) == events

    def test_when_the_time_is_up_it_is_left_out(self, digits) -> None:
        trained = set[str]()

        def up() -> bool:
            return len(trained) == 4  # three to the halving, of which one and then the other go on

        def progress(phase: str, done: int, total: int, note: str = "") -> None:
            trained.add(f"{phase.partition(',')[0]}, {total}")

        store = MemoryStore()
        results = run(digits, store, is_time_up=up, progress=progress)
        assert results[0].final is None
        assert not [name for name in store.kept if "on-all" in name]


def test_it_is_planned_for(digits) -> None:
    settings: Retraining = SPACE.search.retrain
    final = settings.model_copy(update={"final_on_all": True})
    more = retrain_seconds(final, {"search": 2}, 1.0, digits) - retrain_seconds(settings, {"search": 2}, 1.0, digits)
    assert more == 3 * (600 // 256)  # three epochs of all images


def test_spaces_from_before_are_written_as_they_were() -> None:
    assert "final_on_all" not in dump(SPACE)
    assert Retraining(final_on_all=True).model_dump()["final_on_all"] is True


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A search by command, and what it printed."""
    folder = tmp_path_factory.mktemp("final")
    words = ["search", str(tiny_file(folder)), "--final-on-all", "--trials", "4", "--out", str(folder / "run")]
    return CliRunner().invoke(app, words), words, folder / "run"


@pytest.fixture(scope="module")
def found(told) -> SearchResult:
    assert told[0].exit_code == 0, told[0].output
    return bnas.open_run(told[2])


class TestSearch:
    """What a run and its outputs say."""

    def test_the_best_is_what_was_trained_on_all(self, found) -> None:
        images = load_data("digits")
        network = found.best.load()
        assert found.best.accuracy == evaluate(network, images.test.batches(500))[0]
        kept = found.run.load_checkpoint(f"retrain/on-all/{found.best.architecture.id}-1")
        assert torch.equal(kept.tensors["model.stem.conv.weight"], network.state_dict()["stem.conv.weight"])
        assert found.best.is_trained_on_all
        assert "trained on all training images" in repr(found.best)
        confusion = found.confusion
        right = confusion.loc[confusion["class"] == confusion["taken_for"], "images"].sum()
        assert right / confusion["images"].sum() == found.best.accuracy

    def test_the_manifest_says_which_accuracy_is_of_which_training(self, found) -> None:
        manifest, row = found.best.manifest, found.retrained.iloc[0]
        images = manifest["images"]
        assert manifest["final_training"] == {
            "done": True,
            "images": images["train"] + images["validation"],
            "held_out_before": images["validation"],
            "accuracy_before": {"validation": row["validation_accuracy"], "test": row["test_accuracy"]},
        }
        assert manifest["accuracy"]["validation"] == found.best.validation_accuracy == row["validation_accuracy"]
        assert manifest["accuracy"]["test"] == row["final_test_accuracy"]
        assert manifest["epochs"] == 3
        assert found.retrained["final_test_accuracy"].isna().tolist()[1:] == [True] * (len(found.retrained) - 1)

    def test_it_is_printed_and_on_the_page(self, told, found) -> None:
        before = found.best.manifest["final_training"]["accuracy_before"]
        sentence = (
            f"Chosen by {bnas.amounts.percent(before['validation'])} of the held-out images, the best was trained once "
            f"more, on all {found.best.manifest['final_training']['images']} training images"
        )
        assert sentence in told[0].stdout
        assert "trained on all" in told[0].stdout
        page = found.run.report.read_text().replace("\u00a0", " ")
        assert sentence in page
        assert "trained alone, at last on all training images; the test split was read once" in page
        assert "trained alone, in the training before; what the best was chosen by" in page

    def test_for_machines_too(self, told) -> None:
        again = CliRunner().invoke(app, [*told[1], "--json"])
        said = json.loads(again.stdout)
        assert said["best"]["final_training"]["done"] is True
        assert said["finalists"][0]["final_test_accuracy"] == pytest.approx(said["best"]["accuracy"]["test"])

    def test_networks_are_compared_by_trainings_that_are_alike(self, found) -> None:
        ended = found.retrained[found.retrained["epochs"] == found.retrained["epochs"].max()]
        assert [point.accuracy for point in points_of(found.run)] == ended["test_accuracy"].tolist()

    def test_an_export_says_it_and_claims_no_validation_accuracy_of_its_weights(self, found, tmp_path) -> None:
        bnas.export(found, out=tmp_path / "out")
        text = (tmp_path / "out" / "model.py").read_text()
        said = bnas.amounts.percent(found.best.accuracy)
        assert f"Accuracy with the weights beside this file: {said} on test images." in text
        assert "They were trained on all training images." in text
        assert json.loads((tmp_path / "out" / "manifest.json").read_text())["final_training"]["done"] is True
        bnas.export(found, out=tmp_path / "before", candidate=found.best.architecture.id)
        assert "on validation images, " in (tmp_path / "before" / "model.py").read_text()

    def test_without_it_the_folder_is_another_search(self, told) -> None:
        again = CliRunner().invoke(app, [word for word in told[1] if word != "--final-on-all"])
        assert isinstance(again.exception, RunError)
        assert "final_on_all" in str(again.exception)

    def test_the_supernet_of_a_run_is_searched_again_with_it(self, found, tmp_path) -> None:
        again = bnas.search(
            SPACE, budget=["ops=9k"], supernet_of=found, final_on_all=True, trials=2, top=1, out=tmp_path / "run",
            progress=False,
        )  # fmt: skip
        assert again.best.is_trained_on_all


def test_stopped_before_the_best_is_written_it_is_not_trained_again(monkeypatch, tmp_path) -> None:
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    how = {"final_on_all": True, "trials": 2, "top": 1, "out": tmp_path / "run", "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(searching, "write_best", stopped)
        with pytest.raises(KeyboardInterrupt):
            bnas.search(SPACE, **how)
    found = bnas.search(SPACE, **how)
    epochs = [event["phase"] for event in found.run.events() if event["event"] == "epoch"]
    assert len([phase for phase in epochs if "on-all" in phase]) == 3
    assert found.best.is_trained_on_all


def test_when_the_minutes_are_over_it_is_left_out_and_said(monkeypatch, tmp_path, caplog) -> None:
    monkeypatch.setattr(timing.TimeUp, "__call__", lambda self: True)
    found = bnas.search(SPACE, minutes=0.2, final_on_all=True, out=tmp_path / "run", progress=False)
    assert found.best.manifest["final_training"] == {"done": False, "why": "the time was up"}
    assert not found.best.is_trained_on_all
    assert "final_test_accuracy" not in found.retrained
    assert found.best.accuracy == found.retrained["test_accuracy"].iloc[0]
    assert "but the time was up: its weights are those of the training without them" in found.run.report.read_text()


def test_each_winner_of_several_targets_is_trained_once_more(tmp_path) -> None:
    words = ["--final-on-all", "--target", "ops=8k", "--target", "ops=12k", "--trials", "3", "--top", "1"]
    told = CliRunner().invoke(app, ["search", str(tiny_file(tmp_path)), *words, "--out", str(tmp_path / "run")])
    assert told.exit_code == 0, told.output
    assert "before, as the twin's" in told.stdout
    for folder in sorted((tmp_path / "run" / "targets").iterdir()):
        result = bnas.open_run(folder)
        assert result.best.is_trained_on_all
        row = bnas.runs.Run.read(tmp_path / "run").read_table("targets").set_index("target").loc[folder.name]
        assert row["test_accuracy"] == result.best.accuracy
        assert row["test_accuracy_before"] == result.retrained["test_accuracy"].iloc[0]
    assert "Each winner was trained once more after it was chosen" in (tmp_path / "run" / "report.html").read_text()


def searched(ranks: Ranks, out: Path) -> bool:
    searching.report.write_report = lambda run: None
    return bnas.search(SPACE, final_on_all=True, trials=2, top=1, out=out, ranks=ranks).best.is_trained_on_all


def test_on_two_ranks(tmp_path) -> None:
    assert in_ranks(searched, tmp_path / "run") is True
