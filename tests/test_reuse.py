"""Networks that another search trained alone: what is taken, what is not, and that nothing is measured amiss."""

import itertools
import shutil
from collections.abc import Sequence
from html import unescape
from random import Random
from typing import Any

import pytest
import torch

import bnas
from bnas.data import load_data
from bnas.errors import Stopped
from bnas.runs import Run
from bnas.space.arch import Architecture
from bnas.train.retrain import Retrained, retrain
from bnas.train.reuse import take_trained
from tests.tiny import MemoryStore, inherits_space, tiny_space

SPACE = tiny_space()
ARCHS = [SPACE.architecture(SPACE.sample(Random(seed))) for seed in range(4)]
SETTINGS = SPACE.search.retrain.model_copy(
    update={
        "halvings": (0.25, 0.5),
        "recipe": SPACE.search.retrain.recipe.model_copy(
            update={"stages": (SPACE.search.retrain.recipe.stages[1].but(epochs=4, distill=None),)}
        ),
    }
)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=600)


def trained(digits, store: MemoryStore, archs: Sequence[Architecture] = ARCHS, *, origin="search", **how: Any):
    return retrain({origin: archs}, SETTINGS, digits, seed=0, store=store, device=torch.device("cpu"), **how)


def epochs(results: Sequence[Retrained]) -> dict[str, int]:
    return {result.arch.id: result.epochs for result in results}


def reached(result: Retrained) -> tuple[Any, ...]:
    weights = {name: tensor.tolist() for name, tensor in result.network.state_dict().items()}
    return result.arch.id, result.epochs, result.validation_accuracy, result.test_accuracy, weights


@pytest.fixture(scope="module")
def plain(digits) -> list[Retrained]:
    """All four, halved: the best first."""
    return trained(digits, MemoryStore())


def of(results: Sequence[Retrained], arch: Architecture) -> Retrained:
    return next(result for result in results if result.arch.id == arch.id)


class TestBeyondAHalving:
    def test_it_goes_on_and_leaves_the_others_their_places(self, digits, plain) -> None:
        assert list(epochs(plain).values()) == [4, 2, 1, 1]
        last, store = plain[-1].arch, MemoryStore()
        alone = trained(digits, store, [last], origin="given")
        again = trained(digits, store)
        assert epochs(again) == epochs(plain) | {last.id: 4}
        assert reached(of(again, last)) == reached(alone[0])

    def test_stopped_between_two_halvings_it_goes_on_from_there(self, digits, plain) -> None:
        """Or else the weights of the one would be shown with the accuracy of the other."""
        last, source, store = plain[-1].arch, MemoryStore(), MemoryStore()
        steps = itertools.count()

        def stops(phase: str, done: int, total: int, note: str = "") -> None:
            if next(steps) == 5:  # within the third epoch
                raise Stopped("enough")

        with pytest.raises(Stopped):
            trained(digits, source, [last], origin="given", progress=stops)
        assert source.kept[f"retrain/{last.id}-0"].state["epoch"] == 2
        assert take_trained(last.id, 1, source=source, into=store)
        again = trained(digits, store)
        alone = trained(digits, MemoryStore(), [last], origin="given")
        assert reached(of(again, last)) == reached(alone[0])


class TestTaken:
    def test_killed_while_it_is_copied_it_is_measured_right(self, digits, plain) -> None:
        last, source = plain[-1].arch, MemoryStore()
        whole = trained(digits, source, [last], origin="given")
        for saves in range(2):
            dying = MemoryStore(saves=saves)
            with pytest.raises(KeyboardInterrupt):
                take_trained(last.id, 1, source=source, into=dying)
            moved, here = MemoryStore(), MemoryStore()  # the other search is gone; or it is still there
            moved.kept, here.kept = dict(dying.kept), dict(dying.kept)
            assert take_trained(last.id, 1, source=source, into=here)
            assert reached(of(trained(digits, moved), last)) == reached(plain[-1])
            assert reached(of(trained(digits, here), last)) == reached(whole[0])

    def test_once(self, digits, plain) -> None:
        source, store = MemoryStore(), MemoryStore()
        trained(digits, source, ARCHS[:1], origin="given")
        assert take_trained(ARCHS[0].id, 1, source=source, into=store)
        assert not take_trained(ARCHS[0].id, 1, source=source, into=store)
        assert not take_trained(ARCHS[1].id, 1, source=source, into=store)  # it has not begun it


def reused(run: Run) -> list[str]:
    """The networks that a run has taken from others."""
    return [name for event in run.events() if event["event"] == "reused" for name in event["networks"]]


def alone(run: Run) -> set[str]:
    """The networks that a run has trained alone, or gone on training."""
    phases = {event["phase"] for event in run.events() if event["event"] == "epoch"}
    return {phase.split("/")[1].rpartition("-")[0] for phase in phases if phase.startswith("retrain/")}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search whose networks others take."""
    return bnas.search(tiny_space(), out=tmp_path_factory.mktemp("found") / "run", progress=False)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A search under two budgets, which its space names."""
    search = tiny_space().search.model_dump() | {"targets": [{"ops": "8k"}, {"ops": "12k"}], "trials": 3}
    space = tiny_space(search=search)
    return bnas.search_targets(space, out=tmp_path_factory.mktemp("family") / "run", progress=False)


class TestSearches:
    def test_nothing_is_trained_again(self, found, tmp_path) -> None:
        again = bnas.search(tiny_space(), top=1, supernet_of=found, out=tmp_path / "run", progress=False)
        assert alone(again.run) == set()
        known = found.retrained.set_index("id")
        for row in again.retrained.itertuples():
            assert (row.epochs, row.test_accuracy) == tuple(known.loc[row.id, ["epochs", "test_accuracy"]])
        assert set(reused(again.run)) == set(again.retrained["id"])
        page = unescape(again.run.report.read_text())
        assert "Trained before, in another search of the same supernet, and here only as far as was missing: " in page
        assert f" in {found.run.path}." in page

    @pytest.mark.parametrize("other", ["recipe", "halvings", "minutes"])
    def test_what_was_trained_otherwise_is_trained_anew(self, other, found, tmp_path) -> None:
        search = tiny_space().search.model_dump()
        if other == "recipe":
            search["retrain"]["recipe"]["stages"][1]["rate"] = 3e-3
        elif other == "halvings":
            search["retrain"]["halvings"] = []
        minutes = 0.15 if other == "minutes" else None
        again = bnas.search(
            tiny_space(search=search),
            supernet_of=found,
            trials=4,
            minutes=minutes,
            out=tmp_path / "run",
            progress=False,
        )
        assert alone(again.run) == set(again.retrained["id"])
        assert reused(again.run) == []

    def test_of_networks_of_which_one_is_damaged_the_others_are_taken(self, found, tmp_path, caplog) -> None:
        source = shutil.copytree(found.run.path, tmp_path / "source")
        names = sorted(path.name for path in source.glob("retrain/*-1"))
        for file in source.glob(f"retrain/{names[0]}/weights.safetensors*"):
            file.write_bytes(file.read_bytes()[:-1])
        again = bnas.search(tiny_space(), supernet_of=source, out=tmp_path / "run", progress=False)
        damaged = names[0].rpartition("-")[0]
        assert alone(again.run) == {damaged}
        assert set(reused(again.run)) == set(again.retrained["id"]) - {damaged}
        assert f"{damaged} is trained anew" in caplog.text

    @pytest.mark.parametrize(("place", "ops"), [(0, "8k"), (1, "12k")])
    def test_a_space_with_targets_takes_those_of_each(self, family, tmp_path, place, ops) -> None:
        one = list(family.values())[place]
        again = bnas.search(
            family.run.path / "space.yaml", budget=[f"ops={ops}"], supernet_of=family.run.path, out=tmp_path / "run",
            progress=False,
        )  # fmt: skip
        assert alone(again.run) == set()
        assert set(reused(again.run)) >= set(one.retrained["id"])

    @pytest.mark.parametrize("name", ["config.yaml", "space.yaml"])
    @pytest.mark.parametrize("fate", ["damaged", "gone"])
    def test_another_search_that_cannot_be_read_stops_none(self, name, fate, family, tmp_path, caplog) -> None:
        source = shutil.copytree(family.run.path, tmp_path / "source")
        broken = source / "targets" / list(family)[1] / name
        broken.write_text("]") if fate == "damaged" else broken.unlink()
        again = bnas.search(
            source / "space.yaml", budget=["ops=8k"], supernet_of=source, out=tmp_path / "run", progress=False
        )
        assert again.run.best.is_sound()
        assert "nothing that it has trained alone is taken" in caplog.text

    def test_those_that_began_with_another_supernet_are_trained_anew(self, tmp_path) -> None:
        first = tmp_path / "first"

        def search(out: str, progress: Any = False, **how: Any) -> bnas.SearchResult:
            return bnas.search(inherits_space(), trials=4, top=1, out=tmp_path / out, progress=progress, **how)

        def stops(phase: str, done: int, total: int, note: str = "") -> None:
            if phase.startswith("twin"):
                raise Stopped("enough")

        search("first")
        with pytest.raises(Stopped):
            search("run", stops, supernet_of=first)
        shutil.rmtree(first)
        search("first", budget=["ops=11k"])  # the same settings, another supernet
        again = search("run", supernet_of=first)
        assert alone(again.run) == set(again.retrained["id"])
