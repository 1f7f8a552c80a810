"""Killed, torn, or out of space, a run folder loses nothing that it had."""

import errno
import logging
import math
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from runfolder import contents, kill, opened, starts, weights

from bnas.errors import RunError
from bnas.runs import Run, replacing


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return opened(tmp_path / "run")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


class TestCheckpoint:
    def test_comes_back_as_it_was(self, run: Run) -> None:
        tensors = {
            "real": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)),
            "half": torch.ones(2, dtype=torch.bfloat16),
            "flags": torch.tensor([True, False]),
            "scalar": torch.tensor(7),
            "empty": torch.empty(0, 4),
            "generator": torch.Generator().manual_seed(1).get_state(),
            "transposed": torch.arange(6.0).reshape(2, 3).t(),
            "learned": torch.nn.Parameter(torch.ones(2)),
        }
        state = {"epoch": 3, "loss": 0.1 + 0.2, "best": math.inf, "seen": ["ä", None]}
        run.save_checkpoint("retrain/a-1", tensors, state)
        found = Run.read(run.path).load_checkpoint("retrain/a-1")
        assert found is not None
        assert found.state == state
        assert found.tensors.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found.tensors[name].dtype == tensor.dtype
            assert torch.equal(found.tensors[name], tensor)

    def test_tied_weights_are_written_under_each_name(self, run: Run) -> None:
        tied = torch.arange(6.0)
        run.save_checkpoint("supernet", {"a": tied, "b": tied, "c": tied[:3]}, {})
        found = run.load_checkpoint("supernet")
        assert found is not None
        assert torch.equal(found.tensors["b"], tied)
        assert torch.equal(found.tensors["c"], tied[:3])

    def test_none_before_the_first(self, run: Run) -> None:
        assert run.load_checkpoint("supernet") is None

    def test_none_after_it_is_discarded(self, run: Run) -> None:
        for value in (1, 2):
            run.save_checkpoint("supernet", weights(value), {"epoch": value})
        run.discard_checkpoint("supernet")
        assert run.load_checkpoint("supernet") is None
        run.discard_checkpoint("supernet")

    def test_equal_content_gives_equal_bytes(self, run: Run) -> None:
        for name in ("one", "two"):
            run.save_checkpoint(name, weights(1), {"epoch": 1})
        assert contents(run.path / "one") == contents(run.path / "two")

    def test_every_truncation_is_noticed(self, run: Run) -> None:
        run.save_checkpoint("supernet", weights(1), {"epoch": 1})
        file = run.path / "supernet" / "weights.safetensors"
        whole = file.read_bytes()
        for length in range(len(whole)):
            file.write_bytes(whole[:length])
            with pytest.raises(RunError, match="is damaged"):
                run.load_checkpoint("supernet")

    def test_every_flipped_bit_is_noticed_or_harmless(self, run: Run) -> None:
        run.save_checkpoint("supernet", weights(1), {"epoch": 1})
        file = run.path / "supernet" / "weights.safetensors"
        whole = file.read_bytes()
        for position in range(len(whole)):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << position % 8
            file.write_bytes(flipped)
            try:
                found = run.load_checkpoint("supernet")
            except RunError:
                continue
            assert found is not None
            assert found.state == {"epoch": 1}
            assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
                name: tensor.tolist() for name, tensor in weights(1).items()
            }

    def test_damaged_one_falls_back_to_the_one_before(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        for epoch in (1, 2):
            run.save_checkpoint("supernet", weights(epoch), {"epoch": epoch})
        file = run.path / "supernet" / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
        with caplog.at_level(logging.WARNING):
            found = run.load_checkpoint("supernet")
        assert found is not None
        assert found.state == {"epoch": 1}
        assert str(file) in caplog.text
        assert [(event["event"], str(file) in event["message"]) for event in run.events()] == [("warning", True)]
        # The next one must not push the only sound one out of its place.
        run.save_checkpoint("supernet", weights(3), {"epoch": 3})
        file.write_bytes(b"")
        found = run.load_checkpoint("supernet")
        assert found is not None
        assert found.state == {"epoch": 1}

    def test_all_damaged_is_an_error_that_names_both(self, run: Run) -> None:
        for epoch in (1, 2):
            run.save_checkpoint("supernet", weights(epoch), {"epoch": epoch})
        for file in (run.path / "supernet").iterdir():
            file.write_bytes(b"torn")
        with pytest.raises(RunError) as error:
            run.load_checkpoint("supernet")
        for part in ("weights.safetensors is damaged", "weights.safetensors.previous is damaged", "remove"):
            assert part in str(error.value)

    def test_killed_between_two_renames_the_one_before_is_found(self, run: Run) -> None:
        for epoch in (1, 2):
            run.save_checkpoint("supernet", weights(epoch), {"epoch": epoch})
        (run.path / "supernet" / "weights.safetensors").unlink()
        found = run.load_checkpoint("supernet")
        assert found is not None
        assert found.state == {"epoch": 1}

    def test_state_that_json_does_not_know_is_refused_before_anything_is_written(self, run: Run) -> None:
        run.save_checkpoint("supernet", weights(1), {"epoch": 1})
        before = contents(run.path)
        with pytest.raises(TypeError):
            run.save_checkpoint("supernet", weights(2), {"epoch": object()})
        assert contents(run.path) == before


def _save_for_ever(path: Path, first: int, ready: Any) -> None:
    run = opened(path)
    with run.lock():
        ready.set()
        for epoch in range(first, 1_000_000):
            run.save_checkpoint("supernet", {"w": torch.full((20_000,), float(epoch))}, {"epoch": epoch})
            run.log("epoch", epoch=epoch)
            run.best.write(f"epoch: {epoch}\n", {"w": torch.full((100,), float(epoch))}, {"epoch": epoch})


def test_killed_at_any_moment_the_newest_checkpoint_is_whole(tmp_path: Path) -> None:
    moments = random.Random(0)
    opened(tmp_path / "run")
    epoch = 0
    for _ in range(10):
        process = starts(_save_for_ever, tmp_path / "run", epoch)
        time.sleep(moments.uniform(0.02, 0.15))
        kill(process)
        run = opened(tmp_path / "run")
        with run.lock():  # sweeps
            assert not list(run.path.rglob(".*.tmp*"))
        found = run.load_checkpoint("supernet")
        logged = [event["epoch"] for event in run.events() if event["event"] == "epoch"]
        if found is None:
            assert not logged
            continue
        epoch = found.state["epoch"]
        assert torch.equal(found.tensors["w"], torch.full((20_000,), float(epoch)))
        assert not logged or epoch >= logged[-1]  # what was logged after its checkpoint is not lost
        if run.best.is_sound():
            architecture, tensors, manifest = run.best.read()
            assert architecture == f"epoch: {manifest['epoch']}\n"
            assert tensors["w"].unique().tolist() == [manifest["epoch"]]
    assert epoch > 0


class TestWriting:
    def test_interrupted_write_leaves_the_old_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("old")

        def interrupted() -> None:
            with replacing(tmp_path / "file") as temporary:
                temporary.write_text("ne")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert contents(tmp_path) == {"file": b"old"}

    @pytest.mark.parametrize(
        ("code", "advice"),
        [(errno.ENOSPC, "free some space"), (errno.EROFS, "--out"), (errno.EACCES, "--out"), (errno.EIO, "disk")],
    )
    def test_disk_that_fails_at_any_step_leaves_the_old_files(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
    ) -> None:
        def writes(value: int) -> list[Callable[[], object]]:
            return [
                lambda: run.save_checkpoint("supernet", weights(value), {}),
                lambda: run.write_table("candidates", [{"id": value}]),
                lambda: run.write_ledger({"paid": value}),
                lambda: run.best.write("", weights(value), {}),
            ]

        for write in writes(1):
            write()
        before = contents(run.path)

        def fails(*_: Any, **__: Any) -> None:
            raise OSError(code, os.strerror(code))

        for step in ("fsync", "replace"):
            with monkeypatch.context() as patched:
                patched.setattr(os, step, fails)
                for write in writes(2):
                    with pytest.raises(RunError, match=f"run/.*{os.strerror(code)}.*{advice}"):
                        write()
            assert contents(run.path) == before

    def test_full_disk_keeps_what_was_written(self, small_disk: Path) -> None:
        run = opened(small_disk / "run")
        run.save_checkpoint("supernet", {"w": torch.ones(10_000)}, {"epoch": 1})
        for write in (
            lambda: run.save_checkpoint("supernet", {"w": torch.ones(200_000)}, {"epoch": 2}),
            lambda: run.write_table("candidates", [{"id": "x" * 100} for _ in range(10_000)]),
            lambda: run.best.write("", {"w": torch.ones(200_000)}, {}),
            lambda: run.log("event", text="x" * 1_000_000),
        ):
            with pytest.raises(RunError, match="No space left on device; free some space"):
                write()
            assert not list(run.path.rglob(".*.tmp*"))
        found = run.load_checkpoint("supernet")
        assert found is not None
        assert found.state == {"epoch": 1}

    def test_lock_on_a_full_disk_is_refused_and_free_later(self, small_disk: Path) -> None:
        run = opened(small_disk / "run")
        with suppress(OSError):
            (small_disk / "filler").write_bytes(bytes(2**20))
        with pytest.raises(RunError, match="No space left"), run.lock():
            pass
        (small_disk / "filler").unlink()
        with run.lock():
            pass

    def test_read_only_disk_is_named(self, small_disk: Path) -> None:
        run = opened(small_disk / "run")
        run.save_checkpoint("supernet", weights(1), {})
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        for write in (
            lambda: run.save_checkpoint("supernet", weights(2), {}),
            lambda: run.log("event"),
            lambda: run.lock().__enter__(),
            lambda: opened(small_disk / "other"),
        ):
            with pytest.raises(RunError, match="Read-only file system; make the folder writable or give another --out"):
                write()
        assert Run.read(run.path).load_checkpoint("supernet") is not None

    def test_line_after_a_torn_line_is_whole(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        run.log("first", loss=math.nan, path=Path("a"), tensor=torch.tensor(1))
        with (run.path / "log.jsonl").open("a") as log:
            log.write('{"time": "2')
        run.log("second")
        with caplog.at_level(logging.WARNING):
            found = run.events()
        assert [event["event"] for event in found] == ["first", "second"]
        assert found[0]["loss"] == "nan"
        assert found[0]["time"].endswith("+00:00")
        assert "line 2 is torn" in caplog.text

    def test_a_line_that_is_no_text_costs_one_event(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        for number in range(3):
            run.log("event", number=number)
        log = run.path / "log.jsonl"
        log.write_bytes(log.read_bytes().replace(b'"number": 1', b'"number": \xff'))
        with caplog.at_level(logging.WARNING):
            assert [event["number"] for event in run.events()] == [0, 2]
        assert "log.jsonl: line 2 is damaged; run the command that began this run again" in caplog.text
