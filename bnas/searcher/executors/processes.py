"""A scorer -> twins of it in processes of their own, which read its weights and images in memory that all share."""

import ast
import os
import signal
import sys
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
import torch.multiprocessing as multiprocessing

from bnas.allocator import keep_freed_memory
from bnas.errors import RunError
from bnas.searcher.candidate import Score
from bnas.searcher.executors.pool import Lost, Report, WorkerPool, attempt
from bnas.searcher.executors.shared_memory import Layout, pack, unpack
from bnas.searcher.score import Scorer
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace

START_SECONDS = 300.0  # within which a worker has imported torch and built its twin
_SPAWN = multiprocessing.get_context("spawn")  # a forked process can use neither CUDA nor threads of the parent


class Share(NamedTuple):
    """What one worker works on."""

    device: str
    threads: int
    cores: tuple[int, ...]  # empty where the system pins no process

    def take(self) -> None:
        """Confine this process to its share."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        torch.set_num_threads(self.threads)
        keep_freed_memory()


def shares(workers: int, device: torch.device) -> list[Share]:
    """Return the share of each worker: equal runs of cores, one at least, and the GPUs in turn.

    Args:
        device: `cuda` spreads the workers over all GPUs, `cuda:1` puts them all on that one.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    most = min(len(cores) or os.cpu_count() or 1, torch.get_num_threads())
    return [
        Share(_device(place, device), max(1, most // workers), tuple(_run(cores, place, workers)))
        for place in range(workers)
    ]


def _run(cores: list[int], place: int, workers: int) -> list[int]:
    if len(cores) < workers:
        return cores[place % len(cores) :][:1] if cores else []
    return cores[place * len(cores) // workers : (place + 1) * len(cores) // workers]


def _device(place: int, device: torch.device) -> str:
    if device.type != "cuda" or device.index is not None:
        return str(device)
    return f"cuda:{place % torch.cuda.device_count()}"


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


def check_main() -> None:
    """Raise unless processes can be started from what Python runs: each of them imports the script again.

    Raises:
        RunError: it would run from its first line again, or cannot be read again.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None:  # a notebook, a shell, `python -c`: nothing is imported again
        return
    frame = sys._getframe()
    while frame and not (frame.f_globals is vars(main) and frame.f_code.co_name == "<module>"):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return
    if not Path(file).is_file():
        raise RunError(
            f"engine processes: the script comes from {file}, which workers cannot read again; save it as a file"
        )
    guarded = [
        node for node in ast.walk(ast.parse(Path(file).read_bytes()))
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
    ]  # fmt: skip
    if not any(node.lineno <= frame.f_lineno <= (node.end_lineno or 0) for node in guarded):
        raise RunError(
            f"engine processes: {file}, line {frame.f_lineno}: each worker imports this script and would search again; "
            'put what starts the search under `if __name__ == "__main__":`'
        )


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
