"""What is to score the candidates of a search: in this process, in others, on a cluster -> an executor."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch

from bnas.errors import LookupFailed, SpecError
from bnas.lookup import not_among
from bnas.searcher.candidate import Score
from bnas.searcher.executors.in_process import InProcess
from bnas.searcher.executors.pool import Report, WorkerPool
from bnas.searcher.executors.processes import check_main, processes
from bnas.searcher.score import Scorer
from bnas.space.arch import Architecture

CPU = torch.device("cpu")
LEASE_SECONDS = 600.0
LONGEST_LEASE_SECONDS = 7 * 86400.0  # systems count the milliseconds of a wait in 32 bits: no more than 24 days
_AHEAD = 2  # candidates in flight for each worker: while the oldest is waited for, the others have work


ScorerOn = Callable[[torch.device], Scorer]  # makes the scorer on a device


class Executor(Protocol):
    """Takes architectures and gives scores."""

    def submit(self, arch: Architecture) -> "Future[Score]":
        """Ask for the score of an architecture."""


@dataclass(frozen=True)
class Engine:
    """What scores the candidates of a search.

    Args:
        name: `in-process`, `processes` (on this machine) or `ray` (actors on a cluster).
        workers: how many; None takes one for each GPU here, or for each core where there is none.
        lease_seconds: a worker that has had a candidate for so long is taken for dead, and replaced.
        ray_address: of a running cluster; None starts one on this machine, for this machine alone.
    Raises:
        SpecError: these do not go together.
    """

    name: str = "in-process"
    workers: int | None = None
    lease_seconds: float = LEASE_SECONDS
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise LookupFailed(not_among(self.name, ENGINES, what="engine"))
        if self.name == "in-process" and (self.workers or 1) > 1:
            raise SpecError(
                f"engine in-process: has one worker, but {self.workers} were asked; give --engine processes"
            )
        if self.workers is not None and self.workers < 1:
            raise SpecError(f"workers must be at least 1, but got {self.workers}")
        if not 0 < self.lease_seconds <= LONGEST_LEASE_SECONDS:  # which nan is not
            raise SpecError(
                f"lease must be more than 0 and at most {LONGEST_LEASE_SECONDS:g} seconds (a week), but got "
                f"{self.lease_seconds:g}; give --lease what one candidate may take"
            )
        if self.ray_address is not None and self.name != "ray":
            raise SpecError(f"a Ray address goes with engine ray, but the engine is {self.name}; give --engine ray")
        if self.name == "ray":
            if self.workers is None:
                raise SpecError("engine ray: say how many actors the cluster is to run; give --workers")
            import bnas.searcher.executors.ray_actors  # noqa: F401  says now, not after hours, where Ray is missing

    def check(self) -> None:
        """Raise where workers could not be started later, after the work before them.

        Raises:
            RunError: as `check_main`.
        """
        if self.name == "processes":
            check_main()

    def executor(self, scorer_on: ScorerOn, device: torch.device, report: Report) -> AbstractContextManager[Executor]:
        """Return the executor, as a context that ends its workers when it is left.

        Args:
            scorer_on: makes the scorer, on a device.
            device: what is computed on.
            report: called with an event and its fields where a worker is lost.
        """
        return ENGINES[self.name](self, scorer_on, device, report)

    def in_flight(self, device: torch.device) -> int:
        """Return how many candidates are in flight: with one worker, one, so that each proposal knows all before it."""
        workers = self.count(device)
        return 1 if workers == 1 else _AHEAD * workers

    def count(self, device: torch.device) -> int:
        """Return how many workers there are."""
        if self.name == "in-process":
            return 1
        if self.workers is not None:
            return self.workers
        spread = device.type == "cuda" and device.index is None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return torch.cuda.device_count() if spread else 1 if device.type == "cuda" else cores


def _in_process(engine: Engine, scorer_on: ScorerOn, device: torch.device, _: Report) -> nullcontext[Executor]:
    return nullcontext(InProcess(scorer_on(device)))


def _processes(engine: Engine, scorer_on: ScorerOn, device: torch.device, report: Report) -> WorkerPool:
    return processes(
        scorer_on(CPU), workers=engine.count(device), device=device, lease_seconds=engine.lease_seconds, report=report
    )


def _ray(engine: Engine, scorer_on: ScorerOn, device: torch.device, report: Report) -> AbstractContextManager[Executor]:
    from bnas.searcher.executors.ray_actors import actors

    return actors(
        scorer_on(CPU), workers=engine.count(device), device=device, lease_seconds=engine.lease_seconds,
        address=engine.ray_address, report=report,
    )  # fmt: skip


MakeExecutor = Callable[[Engine, ScorerOn, torch.device, Report], AbstractContextManager[Executor]]
ENGINES: dict[str, MakeExecutor] = {"in-process": _in_process, "processes": _processes, "ray": _ray}
