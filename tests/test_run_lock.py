"""A run has one driver: a living one keeps it, a dead one loses it."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from runfolder import contents, kill, opened, starts, weights

from bnas.errors import RunError
from bnas.runs import Run, replacing
from bnas.runs import lock as lock_module
from bnas.runs.lock import LEASE_SECONDS, driving


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return opened(tmp_path / "run")


def _drive(path: Path, ready: Any) -> None:
    with opened(path).lock():
        ready.set()
        time.sleep(60)


def _foreign(path: Path, *, lease_seconds: float) -> None:
    """The lock of a process on another machine."""
    path.write_text(f"filelock/2\npid=41\nhost=elsewhere\nmode=lease\ntoken=abc\nduration={lease_seconds!r}\n")


@contextmanager
def _beating(lock: Path) -> Iterator[None]:
    """Its signs of life, by a clock that runs backwards."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.1):
            os.utime(lock, (1e9, 1e9 - time.monotonic()))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class TestLock:
    def test_second_driver_is_refused_by_name(self, run: Run) -> None:
        process = starts(_drive, run.path)
        begun = run.events()[-1]["time"]
        with pytest.raises(RunError) as error, run.lock():
            pass
        kill(process)
        for part in (f"pid {process.pid}", f"since {begun}", "host ", "--out"):
            assert part in str(error.value)

    def test_lock_of_a_killed_driver_is_taken_over_at_once(self, run: Run) -> None:
        for _ in range(2):
            process = starts(_drive, run.path)
            kill(process)
            begun = time.monotonic()
            with run.lock():
                assert time.monotonic() - begun < 5  # and not a lease of 30
        assert not (run.path / "driver.lock").exists()

    def test_same_process_is_refused_too(self, run: Run) -> None:
        with run.lock(), pytest.raises(RunError, match=f"pid {os.getpid()}"), opened(run.path).lock():
            pass

    def test_error_in_the_block_frees_the_lock(self, run: Run) -> None:
        with pytest.raises(ZeroDivisionError), run.lock():
            raise ZeroDivisionError
        with run.lock():
            pass

    def test_silent_driver_elsewhere_loses_the_lock_after_its_lease(self, tmp_path: Path) -> None:
        _foreign(tmp_path / "driver.lock", lease_seconds=1.0)
        os.utime(tmp_path / "driver.lock", (4e9, 4e9))  # its clock is far ahead; only change counts
        begun = time.monotonic()
        with driving(tmp_path / "driver.lock", since=lambda _: None, lease_seconds=1.0):
            assert time.monotonic() - begun >= 1.0

    def test_living_driver_elsewhere_keeps_the_lock(self, tmp_path: Path) -> None:
        lock = tmp_path / "driver.lock"
        _foreign(lock, lease_seconds=1.0)
        with _beating(lock), pytest.raises(RunError, match="host elsewhere, pid 41"):
            driving(lock, since=lambda _: None, lease_seconds=1.0).__enter__()
        assert "host=elsewhere" in lock.read_text()

    def test_lease_of_another_length_is_not_waited_out(self, tmp_path: Path) -> None:
        _foreign(tmp_path / "driver.lock", lease_seconds=7.0)
        with (
            pytest.raises(RunError, match="host elsewhere"),
            driving(tmp_path / "driver.lock", since=lambda _: None, lease_seconds=1.0),
        ):
            pass

    @pytest.mark.parametrize("taken", [True, False])
    def test_driver_that_lost_the_lock_writes_no_more(self, run: Run, taken: bool) -> None:
        lock = run.path / "driver.lock"
        with run.lock():
            run.save_checkpoint("supernet", weights(1), {"epoch": 1})
            lock.unlink()
            if taken:
                _foreign(lock, lease_seconds=30.0)
            for write in (lambda: run.save_checkpoint("supernet", weights(2), {}), lambda: run.log("event")):
                with pytest.raises(RunError, match="elsewhere, pid 41" if taken else "was removed"):
                    write()
        assert lock.exists() == taken  # the other's lock is not removed

    def test_lefts_of_killed_writers_are_swept(self, run: Run) -> None:
        (run.path / "retrain" / "a").mkdir(parents=True)
        (run.path / ".best.7.tmp").mkdir()
        (run.path / ".best.7.tmp" / "weights.safetensors").touch()
        (run.path / "figures").mkdir()
        lefts = [
            run.path / "retrain" / "a" / ".weights.7.tmp.safetensors",
            run.path / ".report.0123456789abcdef.tmp.html",
            run.path / "figures" / ".topology.7.tmp.png",
        ]
        for file in lefts:
            file.touch()
        with run.lock():
            assert not [file for file in lefts if file.exists()]
            assert not (run.path / ".best.7.tmp").exists()

    @pytest.mark.parametrize("name", ["report.html", "figures/topology.png"])
    def test_what_a_report_is_writing_meanwhile_is_not_swept(self, run: Run, name: str) -> None:
        with replacing(run.path / name) as temporary:
            temporary.write_text("whole")
            with run.lock():
                assert temporary.exists()
        assert (run.path / name).read_text() == "whole"

    def test_what_a_sleeping_driver_is_about_to_put_in_place_is_swept(self, run: Run) -> None:
        """Where it slept after its last look at the lock, the rename itself is what fails."""

        def write_asleep() -> None:
            with replacing(run.path / "candidates.csv") as temporary:
                temporary.write_text("old")
                with run.lock():
                    assert not temporary.exists()

        with pytest.raises(RunError, match=r"candidates\.csv: cannot be written: No such file"):
            write_asleep()
        assert not run.has_table("candidates")


class TestTornLock:
    """Killed, or without power, between making the lock file and writing it."""

    WHOLE = b"filelock/2\npid=41\nhost=elsewhere\nmode=lease\ntoken=abc\nduration=30.0\n"

    @pytest.mark.parametrize("content", [b"", WHOLE[:20], bytes(64)])
    def test_the_same_command_goes_on(self, run: Run, content: bytes) -> None:
        (run.path / "driver.lock").write_bytes(content)
        begun = time.monotonic()
        with run.lock():
            assert time.monotonic() - begun < LEASE_SECONDS
        assert not (run.path / "driver.lock").exists()

    def test_a_lock_that_is_just_being_written_is_respected(self, tmp_path: Path) -> None:
        lock = tmp_path / "driver.lock"
        lock.touch()
        writer = threading.Timer(0.5, lambda: _foreign(lock, lease_seconds=1.0))
        writer.start()
        begun = time.monotonic()
        with driving(lock, since=lambda _: None, lease_seconds=1.0):
            assert time.monotonic() - begun > 1.5  # half a second until it is written, then a whole lease


class TestTakenOver:
    """A driver that slept beyond its lease finds, before it puts anything in place, that another has been there."""

    @pytest.mark.parametrize("taken", [True, False])
    def test_nothing_is_replaced(self, run: Run, taken: bool) -> None:
        with run.lock():
            run.write_table("candidates", [{"id": "a"}])
            run.best.write("a", weights(1), {})
            run.save_checkpoint("supernet", weights(1), {})
            lock, own = run.path / "driver.lock", (run.path / "driver.lock").read_bytes()
            before = contents(run.path)
            for write in (
                lambda: run.write_table("candidates", [{"id": "b"}]),
                lambda: run.write_ledger({}),
                lambda: run.best.write("b", weights(2), {}),
                lambda: run.save_checkpoint("supernet", weights(2), {}),
                lambda: run.log("event"),
            ):
                with pytest.MonkeyPatch.context() as patch:
                    asleep(patch, lock, taken=taken)
                    with pytest.raises(RunError, match="taken over by host elsewhere" if taken else "was removed"):
                        write()
                lock.write_bytes(own)
                assert contents(run.path) == before


def asleep(patch: pytest.MonkeyPatch, lock: Path, *, taken: bool) -> None:
    """Have a driver lose its lock after its first look at it, as one does that sleeps in the midst of a write."""
    look = lock_module.check_held

    def look_and_sleep(lease: Any) -> None:
        look(lease)
        lock.unlink(missing_ok=True)
        if taken:
            _foreign(lock, lease_seconds=30.0)

    patch.setattr(lock_module, "check_held", look_and_sleep)
