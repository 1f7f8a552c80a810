"""Ctrl-C and SIGTERM: what is in hand is finished and saved, and one line says how to go on."""

import os
import signal
from pathlib import Path

import pytest
from runfolder import contents

from bnas.cli.stop import Stop
from bnas.errors import Stopped
from bnas.progress import silent
from tests.mortal import bnas
from tests.tiny import tiny_file


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A search that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    ended = bnas("search", tiny_file(folder), "--out", folder / "run", folder=folder, report=False)
    assert ended.code == 0, ended.said
    return folder / "run"


@pytest.mark.slow
def test_stopped_in_every_phase_the_same_command_goes_on_to_the_same_end(whole, tmp_path) -> None:
    space = tiny_file(tmp_path)
    stops = {
        "supernet: 3 of 10": signal.SIGTERM,
        "search: 2 of 6": signal.SIGINT,
        "retrain 1 of 4, stage 2: 4 of 5": signal.SIGTERM,
    }
    run = tmp_path / "run"
    for what, number in stops.items():
        ended = bnas("search", space, "--out", run, folder=tmp_path, at=what, number=number, report=False)
        assert ended.code == 1
        phase, _, done = what.partition(": ")
        assert ended.lines == [
            "bnas: stopping after the step in hand; once more stops at once",
            f"bnas: stopped at {phase}, {done} done, all of it saved; the same command goes on",
        ]
        assert not (run / "driver.lock").exists()
    assert bnas("search", space, "--out", run, folder=tmp_path, report=False).code == 0
    for name in ("candidates.csv", "best/weights.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends_at_once(number, capfd) -> None:
    before = signal.getsignal(number)
    with Stop(silent) as stop:
        stop("search", 1, 10)
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped, match="stopped at search, 2 of 10 done, all of it saved; the same command goes on"):
            stop("search", 2, 10)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    assert capfd.readouterr().err.count("once more stops at once") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_export_or_a_report_that_is_stopped_leaves_nothing_half_written(whole, tmp_path, number) -> None:
    commands = {
        ("export", whole, "-o", tmp_path / "out"): "start: open model.py",
        ("report", whole): "report: open .pareto.png",
    }
    for command, moment in commands.items():
        before = contents(whole)
        ended = bnas(*command, folder=tmp_path, at=moment, number=number)
        assert ended.code == 1
        assert ended.said == "bnas: stopped; nothing is half written; run the same command again\n"
        assert contents(whole) == before
        assert not list(tmp_path.rglob("*out*"))
