"""A scorer -> twins of it in processes of their own, which read its weights and images in memory that all share."""

import signal
from functools import partial
from multiprocessing.connection import Connection

import torch
import torch.multiprocessing as multiprocessing

from bnas.errors import RunError
from bnas.searcher.candidate import Score
from bnas.searcher.executors.attempt import attempt
from bnas.searcher.executors.block import Layout, pack, unpack
from bnas.searcher.executors.pool import Lost, Report, WorkerPool
from bnas.searcher.executors.share import Share, shares
from bnas.searcher.score import Scorer
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace

START_SECONDS = 300.0  # within which a worker has imported torch and built its twin
_SPAWN = multiprocessing.get_context("spawn")  # a forked process can use neither CUDA nor threads of the parent


def processes(
    scorer: Scorer, *, workers: int, device: torch.device, lease_seconds: float, report: Report
) -> WorkerPool:
    """Return an executor with workers on this machine.

    Args:
        scorer: what is twinned; on the CPU.
        device: what the workers compute on; `cuda` spreads them over all GPUs.
        lease_seconds: a worker that has had a candidate for so long is replaced.
    Raises:
        RunError: there is no room for the shared memory.
    """
    block, layout = _shared(scorer)
    parts = shares(workers, device)
    make = partial(_Process, scorer.space, block, layout, lease_seconds)
    return WorkerPool(lambda place: make(parts[place]), workers=workers, report=report)


def _shared(scorer: Scorer) -> tuple[torch.Tensor, Layout]:
    block, layout = pack(scorer.tensors())
    try:
        block.share_memory_()
    except RuntimeError as problem:
        raise RunError(
            f"engine processes: no room for {block.numel() / 2**20:.1f} MiB of weights and images in shared memory "
            f"({problem}); make /dev/shm larger, as docker run --shm-size does, or give --engine in-process, then run "
            "the same command again (what was trained is kept)"
        ) from problem
    return block, layout


class _Process:
    """A worker that is a process; a pipe that breaks says that it died."""

    def __init__(self, space: SearchSpace, block: torch.Tensor, layout: Layout, seconds: float, share: Share) -> None:
        self._seconds = seconds
        try:
            self._pipe, theirs = _SPAWN.Pipe()
            self._process = _SPAWN.Process(target=_serve, args=(theirs, space, block, layout, share), daemon=True)
            self._process.start()
        except OSError as problem:  # no more processes, files or memory for now
            raise Lost(f"the system starts no process: {problem.strerror or problem}") from problem
        theirs.close()

    def ready(self) -> None:
        self._answer(START_SECONDS)

    def score(self, arch: Architecture) -> Score:
        try:
            self._pipe.send(arch)
        except OSError as problem:
            raise self._death() from problem
        score = self._answer(self._seconds)
        assert isinstance(score, Score)
        return score

    def stop(self) -> None:
        self._process.kill()
        self._process.join()

    def _answer(self, seconds: float) -> object:
        try:
            if not self._pipe.poll(seconds):
                raise Lost(f"no answer for {seconds:g} s")
            said = self._pipe.recv()
        except (EOFError, OSError) as problem:
            raise self._death() from problem
        if isinstance(said, BaseException):
            raise said
        return said

    def _death(self) -> Lost:
        self._process.join(1.0)
        code = self._process.exitcode
        if code is not None and code < 0:
            return Lost(f"killed by {signal.Signals(-code).name}, as a system out of memory does")
        return Lost(f"ended with exit code {code}")


def _serve(pipe: Connection, space: SearchSpace, block: torch.Tensor, layout: Layout, share: Share) -> None:
    """Score what comes through the pipe until it closes, as it does when the driver dies."""
    # A terminal sends Ctrl-C, and SLURM its signals, to every process; the driver alone decides when workers end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    share.take()
    scorer = attempt(lambda: Scorer.from_tensors(space, unpack(block, layout), torch.device(share.device)))
    try:
        if isinstance(scorer, Exception):
            pipe.send(scorer)
            return
        pipe.send(None)
        while True:
            pipe.send(attempt(partial(scorer, pipe.recv())))
    except (EOFError, OSError):
        return
