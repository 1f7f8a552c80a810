"""Bad weather: a full disk, a folder that cannot be written, damaged files, a clock set back, two drivers at once."""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest

from tests.mortal import Ended, bnas
from tests.tiny import tiny_file

FOUND = ("candidates.csv", "twin.csv", "pareto.csv", "ledger.json", "best/weights.safetensors")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert search(folder, folder / "run").code == 0
    return folder / "run"


def search(folder: Path, run: Path, **fate) -> Ended:
    return bnas("search", tiny_file(folder), "--out", run, folder=folder, **{"report": False} | fate)


def assert_equal_end(run: Path, whole: Path) -> None:
    for name in FOUND:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory at a folder; the test is skipped where none may be mounted."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here: it takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_with_space_again_the_run_goes_on(whole, tmp_path) -> None:
    small, kib = tmp_path / "small", 64
    with mounted(small, f"size={kib}k"):
        stops = []
        while (ended := search(tmp_path, small / "run", report=True)).code:
            assert len(ended.lines) == 1
            assert "No space left on device; free some space" in ended.said or "disk is full" in ended.said
            stops.append(ended.said)
            kib *= 2
            subprocess.run(["mount", "-o", f"remount,size={kib}k", str(small)], check=True)
        assert len(set(stops)) > 2
        assert_equal_end(small / "run", whole)


def test_a_limit_on_the_size_of_files_is_one_line_and_without_it_the_run_goes_on(whole, tmp_path) -> None:
    run = tmp_path / "run"
    for largest in (2_000, 20_000):
        ended = search(tmp_path, run, largest=largest)
        assert (ended.code, len(ended.lines)) == (1, 1)
        assert "cannot be written: File too large; allow larger files" in ended.said or "study.db: cannot" in ended.said
    assert search(tmp_path, run).code == 0
    assert_equal_end(run, whole)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path) -> None:
    with mounted(tmp_path / "fixed", "ro"):
        ended = search(tmp_path, tmp_path / "fixed" / "run")
    assert ended.code == 1
    assert (
        "fixed/run: cannot be written: Read-only file system; make the folder writable or give another --out"
        in ended.said
    )
    assert ended.said.count("\n") == 1


def test_a_run_that_became_read_only_goes_on_when_it_can_be_written_again(whole, tmp_path) -> None:
    with mounted(tmp_path / "fixed", "rw"):
        run = tmp_path / "fixed" / "run"
        search(tmp_path, run, at="search: 3 of 6")
        subprocess.run(["mount", "-o", "remount,ro", str(run.parent)], check=True)
        ended = search(tmp_path, run)
        assert (ended.code, len(ended.lines)) == (1, 1)
        assert "Read-only file system" in ended.said
        subprocess.run(["mount", "-o", "remount,rw", str(run.parent)], check=True)
        assert search(tmp_path, run).code == 0
        assert_equal_end(run, whole)


def test_a_truncated_checkpoint_is_named_and_the_one_before_it_taken(whole, tmp_path) -> None:
    run = tmp_path / "run"
    for at in ("supernet: 4 of 10", "supernet: 7 of 10"):
        search(tmp_path, run, at=at, number=signal.SIGTERM)
    weights = run / "supernet" / "weights.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    ended = search(tmp_path, run)
    assert ended.code == 0, ended.said
    assert "weights.safetensors is damaged" in ended.said
    assert ended.done.count("supernet: 7 of 10") == 1
    assert ended.done.count("supernet: 6 of 10") == 0
    assert_equal_end(run, whole)


def garbled(content: bytes) -> bytes:
    return content[: len(content) // 2] + b"\xff" * 8192 + content[len(content) // 2 + 8192 :]


@pytest.mark.parametrize("damage", [lambda content: b"no database" * 99, lambda content: content[:9000], garbled])
def test_a_corrupted_study_is_set_aside_and_filled_again_from_the_log(whole, tmp_path, damage) -> None:
    run = tmp_path / "run"
    search(tmp_path, run, at="twin: 3 of 6")
    study = run / "study.db"
    damaged = damage(study.read_bytes())
    study.write_bytes(damaged)
    ended = search(tmp_path, run)
    assert ended.code == 0, ended.said
    assert_equal_end(run, whole)
    assert (run / "study.db.damaged-1").read_bytes() == damaged
    assert "study.db.damaged-1" in (run / "log.jsonl").read_text()
    for name in ("search", "twin"):
        assert len(optuna.load_study(storage=f"sqlite:///{study}", study_name=name).trials) == 6
    assert (run / "log.jsonl").read_text().count('"scored"') == (whole / "log.jsonl").read_text().count('"scored"')


def halved(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize(
    ("command", "damage", "names"),
    [
        (("report",), Path.unlink, ["candidates.csv", "ledger.json"]),
        (("report",), Path.unlink, ["twin.csv", "retrained.csv"]),
        (("export", "-o", "out"), halved, ["best/weights.safetensors"]),
        (("export", "-o", "out"), halved, ["best/manifest.json"]),
        (("export", "-o", "out"), halved, ["best/architecture.yaml"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_a_finished_run_has_lost_is_named_and_made_again_without_training(
    whole, tmp_path, command, damage, names
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    for name in names:
        damage(run / name)
    ended = bnas(*command, run, folder=tmp_path)
    assert (ended.code, len(ended.lines)) == (1, 1)
    assert names[0] in ended.said
    assert "run the command that began this run again" in ended.said
    again = search(tmp_path, run)
    assert again.code == 0, again.said
    assert not [what for what in again.done if what.startswith(("supernet: ", "retrain"))]
    assert_equal_end(run, whole)
    assert (run / "log.jsonl").read_text().count('"scored"') == (whole / "log.jsonl").read_text().count('"scored"')


def test_a_damaged_network_is_made_again_from_the_checkpoints_of_its_training(whole, tmp_path) -> None:
    run, weights = tmp_path / "trained", tmp_path / "trained" / "best" / "weights.safetensors"
    command = ("train", whole / "best" / "architecture.yaml", "--epochs", 3, "--out", run)
    assert bnas(*command, folder=tmp_path).code == 0
    before = weights.read_bytes()
    halved(weights)
    again = bnas(*command, folder=tmp_path)
    assert again.code == 0, again.said
    assert not [what for what in again.done if what.startswith("train, stage")]
    assert weights.read_bytes() == before


def test_a_clock_set_back_by_a_day_in_mid_search_changes_nothing(whole, tmp_path) -> None:
    run = tmp_path / "run"
    ended = search(tmp_path, run, at="search: 3 of 6", number=0, clock=-86400.0, report=True)
    assert ended.code == 0, ended.said
    assert_equal_end(run, whole)
    assert (run / "report.html").exists()
    times = [json.loads(line)["time"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert times[-1] < times[0] < max(times)


def test_of_two_drivers_at_once_one_works_and_the_other_is_told_who(whole, tmp_path) -> None:
    run, first = tmp_path / "run", []
    (tmp_path / "first").mkdir()
    thread = threading.Thread(target=lambda: first.append(search(tmp_path / "first", run, report=True)))
    thread.start()
    while not (run / "log.jsonl").exists():
        thread.join(0.01)
    second = search(tmp_path, run)
    thread.join()
    assert second.code == 1
    assert "another driver works on this run (host " in second.said
    assert first[0].code == 0
    assert_equal_end(run, whole)
