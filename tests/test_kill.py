"""Kill -9 at any moment of a whole search: the same command goes on to the same end, and nothing is paid for twice."""

import json
import re
import shutil
import signal
from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

import optuna
import pytest
from runfolder import contents

from bnas.spec import dump
from tests.mortal import Ended, bnas
from tests.packed import MANY
from tests.tiny import tiny_file, tiny_space

SEED = 7
MOMENTS = {"start": 1, "supernet": 1, "search": 2, "twin": 1, "retrain": 1, "report": 1}
OF_TARGETS = {"search": 1, "retrain": 1}
if MANY:
    MOMENTS = {"start": 2, "supernet": 4, "search": 5, "twin": 2, "retrain": 5, "report": 2}  # twenty
    OF_TARGETS = {"start": 2, "supernet": 2, "search": 3, "twin": 1, "retrain": 4}  # a dozen more
ON_ALL = "retrain the best on all"  # the phase of the winner's last training
TARGETS = ("--target", "ops=8k", "--target", "ops=12k,bytes=3k")
EXPORTS = 4  # moments more
STEPS = 5  # of an epoch, in the supernet and in each network
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


def moment(ended: Ended, phase: str, number: int) -> int:
    """A place, drawn by its number, among the things that a command did in a phase."""
    return Random(f"{SEED}/{phase}/{number}").choice([k for k, what in enumerate(ended.done) if what.startswith(phase)])


def steps(done: list[str]) -> list[tuple[str, int]]:
    """The steps of training among what was done: phase and number."""
    found = [re.fullmatch(r"(supernet|retrain .*): (\d+) of \d+", what) for what in done]
    return [(match[1], int(match[2])) for match in found if match]


def test_the_search_breeds_and_some_moments_lie_within_an_epoch(whole) -> None:
    assert "search: breeds" in whole.ended.done
    taken = [steps(whole.ended.done[: moment(whole.ended, *at)])[-1:] for at in [("supernet", k) for k in range(4)]]
    assert [step for found in taken for _, step in found if step % STEPS and step > 1]


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
    assert not set(steps(ended.done)) & set(steps(killed.done)[:-1])  # but for the last, no step is taken again
    assert_equal_end(run, whole)


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Whole:
    """A search for two targets, whose networks begin with the supernet's weights, that nobody interrupted."""
    folder = tmp_path_factory.mktemp("family")
    space = folder / "inherits.yaml"
    recipe = {"batch": 256, "stages": [{"epochs": 2, "rate": 4e-3}]}
    search = tiny_space().search.model_dump()
    search["retrain"] |= {"start": "supernet", "recipe": recipe}
    space.write_text(dump(tiny_space(search=search)), encoding="utf-8")
    ended = bnas("search", space, *TARGETS, "--out", folder / "run", folder=folder)
    assert ended.code == 0, ended.said
    return Whole(space, folder / "run", ended)


@pytest.mark.parametrize(("phase", "number"), [(phase, k) for phase, count in OF_TARGETS.items() for k in range(count)])
def test_a_search_for_several_targets_killed_at_a_random_moment_ends_alike(family, tmp_path, phase, number) -> None:
    command, run = ("search", family.space, *TARGETS, "--out", tmp_path / "run"), tmp_path / "run"
    killed = bnas(*command, folder=tmp_path, at=moment(family.ended, phase, number), report=False)
    assert killed.code == -signal.SIGKILL
    ended = bnas(*command, folder=tmp_path, report=False)
    assert ended.code == 0, ended.said
    targets = sorted(path.name for path in (family.run / "targets").iterdir())
    assert len(targets) == 2
    for target in targets:
        assert_equal_end(run / "targets" / target, Whole(family.space, family.run / "targets" / target, family.ended))
    assert (run / "targets.csv").read_bytes() == (family.run / "targets.csv").read_bytes()


@pytest.fixture(scope="module")
def final(tmp_path_factory) -> Whole:
    """A search whose winner is trained once more, that nobody interrupted."""
    folder = tmp_path_factory.mktemp("final")
    space = tiny_file(folder)
    ended = bnas("search", space, "--final-on-all", "--out", folder / "run", folder=folder, report=False)
    assert ended.code == 0, ended.said
    return Whole(space, folder / "run", ended)


@pytest.mark.parametrize("number", range(4 if MANY else 1))
def test_the_winners_last_training_killed_at_a_random_moment_ends_alike(final, tmp_path, number) -> None:
    command, run = ("search", final.space, "--final-on-all", "--out", tmp_path / "run"), tmp_path / "run"
    killed = bnas(*command, folder=tmp_path, at=moment(final.ended, ON_ALL, number), report=False)
    assert killed.code == -signal.SIGKILL
    ended = bnas(*command, folder=tmp_path, report=False)
    assert ended.code == 0, ended.said
    assert {phase.partition(",")[0] for phase, _ in steps(ended.done)} <= {ON_ALL}
    assert not set(steps(ended.done)) & set(steps(killed.done)[:-1])
    assert_equal_end(run, final)


@pytest.fixture(scope="module")
def exported(whole, tmp_path_factory) -> tuple[Path, Ended]:
    """An export over an earlier one that nobody interrupted, and how it went."""
    folder = tmp_path_factory.mktemp("once")
    once = [bnas("export", whole.run, "-o", folder / "handover", folder=folder, report=False) for _ in range(2)]
    assert [ended.code for ended in once] == [0, 0], once[0].said
    return folder / "handover", once[1]


@pytest.mark.parametrize("at", [*range(EXPORTS), "rename handover", "rename new", "rmdir old"])
def test_an_export_killed_at_any_moment_is_whole_after_the_same_command_and_leaves_nothing_beside(
    whole, exported, tmp_path, at
) -> None:
    out, (once, ended) = tmp_path / "handover", exported
    shutil.copytree(once, out)
    killed = bnas(
        "export", whole.run, "-o", out, folder=tmp_path, report=False,
        at=moment(ended, "start", at) if isinstance(at, int) else f"start: os.{at}",
    )  # fmt: skip
    assert killed.code == -signal.SIGKILL
    again = bnas("export", whole.run, "-o", out, folder=tmp_path, report=False)
    assert again.code == 0, again.said
    assert contents(out) == contents(once)
    assert {path.name for path in tmp_path.iterdir()} == {"handover", "stderr.txt", "done.txt"}
