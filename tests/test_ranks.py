"""Processes that train together: the losses of one process, the same search, and a rank that is killed."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import bnas
from bnas.api import searching
from bnas.data import Split, load_data
from bnas.data.stream import Stream
from bnas.errors import DataError, TrainingError
from bnas.layers.binary_conv import BinaryConv
from bnas.runs import Run
from bnas.space.recipe import Distillation, Recipe, Stage
from bnas.space.settings import SupernetRecipe
from bnas.supernet import Supernet
from bnas.train import ALONE, Ranks, SharedStore, fit
from bnas.train.objective import answering, stage_loss
from bnas.train.oneshot import WholeSpace
from bnas.train.supernet_loss import SupernetLoss
from tests.mortal import SERVER
from tests.reference import in_parts
from tests.tiny import MemoryStore, tiny_file, tiny_space

CPU = torch.device("cpu")
STEPS = 20
TEACHING = Stage(epochs=STEPS, rate=1e-2, mixup=0.4, label_smoothing=0.1, distill=Distillation())


class TestParts:
    @pytest.mark.parametrize(("batch", "count"), [(8, 1), (8, 2), (50, 3), (33, 2), (7, 3), (101, 8)])
    def test_every_place_is_that_of_one_rank_and_parts_turned_round_are_parts(self, batch, count) -> None:
        parts = [Ranks(rank, count).part(batch) for rank in range(count)]
        assert sorted(torch.cat(parts).tolist()) == list(range(batch))
        assert all(torch.equal(part.flip(0), batch - 1 - part) for part in parts)
        assert max(map(len, parts)) - min(map(len, parts)) <= 2

    def test_a_batch_that_leaves_a_rank_without_is_refused(self) -> None:
        with pytest.raises(TrainingError, match=r"5 images are too few for 3 processes.*set batch to 6 or more"):
            Ranks(0, 3).part(5)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_a_part_of_a_batch_is_what_lies_there_in_the_whole_one(self, streamed) -> None:
        images = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        stored = Stream(images.__getitem__, torch.arange(50), (1, 8, 8))
        split = Split(stored if streamed else images, torch.arange(50), (0.5,), (0.2,), ("flip", "shift"))
        places = Ranks(1, 2).part(12)
        parts = split.batches(12, seed=3, epoch=1, places=places)
        for (part, labels), (whole, all_labels) in zip(parts, split.batches(12, seed=3, epoch=1), strict=True):
            assert torch.equal(part, whole[places])
            assert torch.equal(labels, all_labels[places])
        with pytest.raises(DataError, match="drop the short last one"):
            split.batches(12, seed=3, drop_last=False, places=places)


def in_ranks(work, *arguments: object, count: int = 2, grouped: bool = False) -> object:
    """Do work(ranks, ...) in as many processes as if torchrun had started them; return what rank 0 returned.

    With `grouped` they have a process group already, as those of Ray Train have.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = SERVER.Queue()
    processes = []
    for rank in range(count):
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count), "RANK": str(rank)}
        processes.append(SERVER.Process(target=_ranked, args=(environment, work, arguments, told, grouped)))
        processes[-1].start()
    while processes[0].is_alive() and told.empty():
        time.sleep(0.02)
    found = told.get(timeout=10) if not told.empty() else None
    for process in processes:
        process.join()
    codes = ", ".join(str(process.exitcode) for process in processes)
    assert set(codes) <= {"0", ",", " "}, codes
    return found


def _ranked(environment: dict[str, str], work, arguments, told, grouped: bool) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    if grouped:
        dist.init_process_group("gloo")
    bnas.together(lambda ranks: told.put(work(ranks, *arguments)))
    if grouped:
        assert dist.is_initialized()
        dist.destroy_process_group()


def in_step(work, ranks: Ranks, *arguments: object) -> object:
    """Do the same on every rank."""
    ranks.call(partial(work, *arguments))
    return work(*arguments, ranks)


def network() -> nn.Module:
    """A network without batch norm, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.PReLU(8), BinaryConv(8, 16, precision="weight"), nn.PReLU(16), nn.Flatten(),
        nn.Linear(16 * 36, 10),
    )  # fmt: skip


def images(batch: int) -> Split:
    """So many images that each epoch has one step."""
    return replace(load_data("digits", limit=100).train.select(torch.arange(batch + 3)), augmentation=("flip", "shift"))


def losses(make_objective, batch: int, ranks: Ranks, *, parts: list[Tensor] | None = None) -> list[float]:
    """Return the losses of the steps, each of its whole batch."""
    model, objective = make_objective()
    store = MemoryStore()
    fit(
        model, in_parts(objective, parts) if parts else objective, images(batch), stage=TEACHING, batch=batch,
        name="test", seed=0, store=SharedStore(store if ranks.leads else None, ranks), device=CPU, ranks=ranks,
    )  # fmt: skip
    return [event["loss"] for event in store.events]


def taught():
    model, teacher = network(), network()
    return model, partial(stage_loss, answering(model), answering(teacher), TEACHING, 0)


def supernet():
    """In double precision: the sums of two processes are in another order, which must not turn a sign."""
    torch.manual_seed(0)
    model = Supernet(tiny_space()).double()
    return model, partial(_doubled, SupernetLoss(model, SupernetRecipe(), WholeSpace(tiny_space(), seed=0), 5))


def _doubled(loss: SupernetLoss, shown: Tensor, *beside) -> Tensor:
    return loss(shown.double(), *beside)


@pytest.mark.parametrize(("batch", "grouped"), [(64, False), (33, True)])
def test_two_processes_have_the_losses_of_one_with_the_same_batches(batch, grouped) -> None:
    alone = losses(taught, batch, ALONE)
    assert len(alone) == STEPS
    assert in_ranks(partial(in_step, losses), taught, batch, grouped=grouped) == pytest.approx(alone, abs=1e-4)


def test_a_supernet_trains_as_in_one_process_whose_batch_norm_sees_a_part_at_a_time() -> None:
    parts = [Ranks(rank, 2).part(33) for rank in range(2)]
    alone = losses(supernet, 33, ALONE, parts=parts)
    assert in_ranks(partial(in_step, losses), supernet, 33) == pytest.approx(alone, abs=1e-6)  # added up in float32


def searched(ranks: Ranks, space: Path, out: Path) -> None:
    searching.report.write_report = lambda run: None  # half the time, and the same with any number of ranks
    bnas.search(space, out=out, ranks=ranks)


def trained(ranks: Ranks, out: Path) -> list[float]:
    recipe = Recipe(batch=100, stages=(Stage(epochs=3),))
    result = bnas.train_model(f"{__file__}:network", data="digits", recipe=recipe, out=out, ranks=ranks)
    return [event["loss"] for event in result.run.events() if event["event"] == "epoch"]


def test_a_network_trains_on_two_processes_as_on_one(tmp_path) -> None:
    alone = trained(ALONE, tmp_path / "alone")
    assert in_ranks(trained, tmp_path / "run") == pytest.approx(alone, abs=1e-4)


# A bnas command that keeps every step, and rank 1 of which sends a signal within an epoch, at the first start.
MORTAL = """
import os, signal, time
from bnas.cli.app import main
from bnas.train import loop

take_step = loop.Step.__call__

def mortal(self, images, labels, step, **told):
    if step == {step} and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill({process}, signal.{signal})
        time.sleep(2)  # it reaches rank 0 in the middle of this step
    return take_step(self, images, labels, step, **told)

loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0
loop.Step.__call__ = mortal
main()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of two ranks, of which nobody was killed."""
    folder = tmp_path_factory.mktemp("whole")
    in_ranks(searched, tiny_file(folder), folder / "run")
    return folder / "run"


def assert_equal_end(run: Path, whole: Path) -> None:
    for name in ("candidates.csv", "twin.csv", "best/weights.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def dying(ranks: Ranks, space: Path, out: Path) -> None:
    """Search, but die while networks are retrained."""

    def progress(phase: str, *_: object) -> None:
        if phase.startswith("retrain 2"):
            os.kill(os.getpid(), signal.SIGKILL)

    bnas.search(space, out=out, ranks=ranks, progress=progress)


@pytest.mark.slow
def test_after_rank_0_was_killed_the_other_ends_and_the_same_call_goes_on(whole, tmp_path) -> None:
    space, run = tiny_file(tmp_path), tmp_path / "run"
    with pytest.raises(AssertionError, match="-9, 1"):
        in_ranks(dying, space, run)
    in_ranks(searched, space, run)
    assert_equal_end(run, whole)
    assert [event["phase"] for event in begins(run)].count("supernet") == 1


def by_torchrun(folder: Path, run: Path, **fate: object) -> subprocess.CompletedProcess[str]:
    """Search on two ranks that torchrun starts, and starts once more."""
    script = folder / "mortal.py"
    script.write_text(MORTAL.format(**fate))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d",
        "--rdzv-endpoint=127.0.0.1:0", f"--rdzv-id={folder.name}", "--max-restarts=1",
        str(script), "search", str(tiny_file(folder)), "--out", str(run),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(bnas.__file__).parents[1])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_stopped_and_then_a_rank_killed_torchrun_goes_on_from_the_step_before(whole, tmp_path) -> None:
    run = tmp_path / "run"
    stopped = by_torchrun(tmp_path, run, step=1, process="os.getppid()", signal="SIGTERM")
    assert stopped.returncode
    said = re.search(r"bnas: stopped at supernet, ([12]) of 10 done, all of it saved; the same", stopped.stderr)
    assert said, stopped.stderr
    done = int(said[1])  # rank 0 was still in the step before, or waited in the next
    killed = by_torchrun(tmp_path, run, step=done + 1, process="os.getpid()", signal="SIGKILL")
    assert killed.returncode == 0, killed.stderr
    assert "bnas: torchrun: another process is gone" in killed.stderr
    first_steps = [event["done"] for event in begins(run) if event["phase"] == "supernet"]
    assert first_steps == [1, done + 1, done + 2]  # so none is taken again
    assert_equal_end(run, whole)
    assert (run / "report.html").exists()


def begins(run: Path) -> list[dict]:
    """The phases that drivers of a run began, in order."""
    return [event for event in Run.read(run).events() if event["event"] == "phase"]
