"""As many threads as are worth it: one, unless more take much less time, and who says a number is heard."""

import pytest
import torch

import bnas
from bnas.runs import Run
from bnas.train.thread_count import is_chosen_by_user, using, worthwhile
from tests.tiny import tiny_space


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [({1: 1.0, 4: 0.9}, 1), ({1: 1.0, 4: 0.5}, 4), ({1: 1.0, 4: 3.0}, 1), ({1: 0.02, 4: 0.005}, 1)],
)
def test_more_threads_are_taken_where_they_take_much_less_time(seconds, expected) -> None:
    now = 0.0

    def step(number: int) -> None:
        nonlocal now
        now += seconds[torch.get_num_threads()]

    with using(4):
        assert worthwhile(step, clock=lambda: now) == expected
        assert torch.get_num_threads() == 4


def test_the_number_of_threads_is_given_back_when_the_work_fails() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), using(before + 1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_who_says_a_number_is_heard(monkeypatch) -> None:
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert is_chosen_by_user()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert not is_chosen_by_user()


def test_a_run_keeps_the_number_and_goes_on_with_it(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    asked: list[int] = []
    monkeypatch.setattr("bnas.api.threads.worthwhile", lambda step: asked.append(step(0)) or 1)
    for trials in (2, 3):
        run = bnas.search(tiny_space(), trials=trials, out=tmp_path / "run", progress=False).run
    assert len(asked) == 1
    assert [event["threads"] for event in run.events() if event["event"] == "threads"] == [1]


def test_the_supernet_of_several_budgets_keeps_it_too(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("bnas.api.threads.worthwhile", lambda _: 1)
    targets = [{"ops": "8k"}, {"ops": "12k"}]
    for _ in range(2):
        bnas.search_targets(tiny_space(), targets, trials=2, out=tmp_path / "run", progress=False)
    run = Run.read(tmp_path / "run")
    assert [event["threads"] for event in run.events() if event["event"] == "threads"] == [1]
