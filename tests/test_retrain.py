"""Successive halving: who goes on, who is tested, and that a killed retraining decides alike."""

from dataclasses import replace
from random import Random

import pytest
import torch

from bnas.data import load_data
from bnas.errors import Stopped
from bnas.space.recipe import Recipe, Stage
from bnas.space.settings import Retraining
from bnas.train import evaluate
from bnas.train.retrain import EVALUATION_BATCH, retrain
from tests.tiny import MemoryStore, tiny_space

SPACE = tiny_space()
ARCHS = [SPACE.architecture(SPACE.sample(Random(seed))) for seed in range(4)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=600)


def run(digits, store, **how):
    settings = SPACE.search.retrain.model_copy(update={"top": 4})
    return retrain({"search": ARCHS}, settings, digits, seed=0, store=store, device=CPU, **how)


def facts(results):
    return [(r.arch.id, r.epochs, r.validation_accuracy, r.test_accuracy) for r in results]


def test_the_worse_half_stops_and_the_best_is_trained_to_the_end(digits) -> None:
    results = run(digits, MemoryStore())
    assert [r.epochs for r in results] == [1 + 2, 1 + 2, 1 + 1, 1 + 1]
    assert results[0].validation_accuracy >= results[1].validation_accuracy
    assert {r.arch.id for r in results} == {arch.id for arch in ARCHS}


def test_of_networks_equally_accurate_the_one_of_lower_loss_comes_first(digits, monkeypatch) -> None:
    losses = iter([0.4, 0.1, 0.3, 0.2] + [0.5, 0.3] + [9.0] * 4)  # first halving, last, test
    monkeypatch.setattr("bnas.train.retrain.evaluate", lambda *_: (0.9, next(losses)))
    assert [r.arch.id for r in run(digits, MemoryStore())] == [ARCHS[k].id for k in (3, 1, 2, 0)]


def test_killed_at_every_save_it_decides_alike(digits) -> None:
    whole, store = facts(run(digits, MemoryStore())), MemoryStore()
    for saves in range(1, 50):
        dying = MemoryStore(saves=3)
        dying.kept = store.kept
        try:
            assert facts(run(digits, dying)) == whole
            assert saves > 3
            return
        except KeyboardInterrupt:
            pass
    pytest.fail("never ended")


def test_the_test_split_is_read_after_the_last_choice(digits) -> None:
    reads = []

    class Watched:
        train, validation, input_shape = digits.train, digits.validation, digits.input_shape

        @property
        def test(self):
            reads.append(len(store.kept["retrain/rungs"].state))
            return digits.test

    store = MemoryStore()
    run(Watched(), store)
    assert set(reads) == {4 + 2}  # four at the first halving, two at the end: all choices made


def test_replaying_a_finished_retraining_trains_nothing(digits) -> None:
    store = MemoryStore()
    first = run(digits, store)
    again = run(digits, store)
    assert facts(again) == facts(first)
    assert [r.seconds for r in again] == [r.seconds for r in first]
    assert replace(again[0], network=None) == replace(first[0], network=None)


def test_what_was_stopped_between_halvings_when_the_time_is_up_is_said_of_the_weights_it_has(digits) -> None:
    archs = [arch.with_one_expert() for arch in (SPACE.largest(), SPACE.smallest())]
    settings = Retraining(halvings=(0.25,), recipe=Recipe(batch=128, stages=(Stage(epochs=8, rate=5e-3),)))
    steps, store = digits.train.steps(128), MemoryStore()

    def stop(phase: str, done: int, total: int, note: str = "") -> None:
        if total == 8 * steps and done == 6 * steps + 1:
            raise Stopped

    def trained(**how):
        return retrain({"search": archs}, settings, digits, seed=0, store=store, device=CPU, **how)

    with pytest.raises(Stopped):
        trained(progress=stop)
    results = trained(is_time_up=lambda: True)
    assert sorted(one.epochs for one in results) == [2, 6]
    for one in results:
        held_out = digits.validation.batches(EVALUATION_BATCH)
        assert one.validation_accuracy == evaluate(one.network, held_out)[0]
