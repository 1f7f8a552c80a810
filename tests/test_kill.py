"""Kill -9 at any moment of a whole search: the same command goes on to the same end, and nothing is paid for twice."""

import json
import signal
from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

import optuna
import pytest

from tests.mortal import Ended, bnas
from tests.tiny import tiny_file

SEED = 7
MOMENTS = {"start": 2, "supernet": 4, "search": 5, "twin": 2, "retrain": 5, "report": 2}  # twenty
FOUND = (
    "candidates.csv",
    "twin.csv",
    "pareto.csv",
    "ledger.json",
    "best/architecture.yaml",
    "best/weights.safetensors",
)

pytestmark = pytest.mark.slow


class Whole(NamedTuple):
    """A search that nobody interrupted."""

    space: Path
    run: Path
    ended: Ended


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    space = tiny_file(folder)
    ended = bnas("search", space, "--out", folder / "run", folder=folder)
    assert ended.code == 0, ended.said
    return Whole(space, folder / "run", ended)


def scores(run: Path) -> Counter:
    """How often each architecture was paid for, by the log."""
    log = run / "log.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return Counter(event["id"] for event in events if event["event"] == "scored")


def assert_equal_end(run: Path, whole: Whole) -> None:
    for name in FOUND:
        assert (run / name).read_bytes() == (whole.run / name).read_bytes(), name
    assert set(scores(run).values()) == {1}
    storage = f"sqlite:///{run}/study.db"
    for study in ("search", "twin"):
        trials = optuna.load_study(storage=storage, study_name=study).trials
        assert len({trial.user_attrs["id"] for trial in trials}) == len(trials) == 6
    assert not [path for path in run.rglob("*") if ".tmp" in path.name and path.parent.name != "figures"]


@pytest.mark.parametrize(("phase", "number"), [(phase, k) for phase, count in MOMENTS.items() for k in range(count)])
def test_killed_at_a_random_moment_the_same_command_ends_as_if_nothing_had_happened(
    whole, tmp_path, phase, number
) -> None:
    command, run = ("search", whole.space, "--out", tmp_path / "run"), tmp_path / "run"
    at = moment(whole.ended, phase, number)
    killed = bnas(*command, folder=tmp_path, at=at, report=phase == "report")
    assert killed.code == -signal.SIGKILL
    assert killed.done[-1] == whole.ended.done[at]
    paid = scores(run)
    ended = bnas(*command, folder=tmp_path, report=phase == "report")
    assert ended.code == 0, ended.said
    assert not paid - scores(run)
    assert_equal_end(run, whole)


def test_an_export_killed_at_any_moment_is_whole_after_the_same_command(whole, tmp_path) -> None:
    command = ("export", whole.run, "--to", "training", "-o", tmp_path / "once" / "handover")
    once = bnas(*command, folder=tmp_path)
    assert once.code == 0, once.said
    for number in range(2):
        out = tmp_path / str(number) / "handover"
        killed = bnas(*command[:-1], out, folder=tmp_path, at=moment(once, "start", number))
        assert killed.code == -signal.SIGKILL
        assert bnas(*command[:-1], out, folder=tmp_path).code == 0
        assert contents(out) == contents(tmp_path / "once" / "handover")


def moment(ended: Ended, phase: str, number: int) -> int:
    """A place, drawn by its number, among the things that a command did in a phase."""
    return Random(f"{SEED}/{phase}/{number}").choice([k for k, what in enumerate(ended.done) if what.startswith(phase)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
