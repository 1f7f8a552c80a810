"""Workers that may die -> scores: an architecture is in the hands of one worker at a time, of another if that is lost.

One thread a worker waits for it, so that a worker that hangs or dies holds up nobody else.
"""

import queue
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

from bnas.allocator import is_out_of_memory
from bnas.errors import BnasError, RunError, TrainingError
from bnas.searcher.candidate import Score
from bnas.space.arch import Architecture

RETRIES = 2  # after a worker was lost with an architecture in hand
STARTS = 3  # tries to start a worker
PAUSE_SECONDS = 1.0  # between two of them
T = TypeVar("T")


class Lost(Exception):
    """A worker died, gave no answer in time, or has no memory left: another may do better."""


class Worker(Protocol):
    """Scores one architecture at a time, somewhere else."""

    def ready(self) -> None:
        """Wait until it can work; raises `Lost`."""

    def score(self, arch: Architecture) -> Score:
        """Return the score; raises `Lost`, or what the scorer raised."""

    def stop(self) -> None:
        """End it at once, whatever it does; called from another thread than the others."""


Make = Callable[[int], Worker]  # place -> a worker that starts; raises `Lost` where it cannot
Report = Callable[..., None]  # (event, **fields)


@dataclass
class _Task:
    arch: Architecture
    future: "Future[Score]" = field(default_factory=Future)
    losses: list[str] = field(default_factory=list)


class WorkerPool:
    """Executes on workers, which start when the first architecture is submitted."""

    def __init__(self, make: Make, *, workers: int, report: Report) -> None:
        """Keep as many places for workers that `make` makes; `report` is told of each that is lost."""
        self._make, self._report = make, report
        self._tasks: queue.Queue[_Task | None] = queue.Queue()
        self._threads = [threading.Thread(target=self._serve, args=(place,), daemon=True) for place in range(workers)]
        self._lock = threading.Lock()
        self._workers: dict[int, Worker] = {}
        self._served = workers  # places that are not given up
        self._failure: BnasError | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._closed = True
            workers = list(self._workers.values())
        for worker in workers:
            worker.stop()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def submit(self, arch: Architecture) -> "Future[Score]":
        """Ask for the score of an architecture.

        The future raises what the scorer raised; `TrainingError` where all of 1 + RETRIES workers were lost with it;
        `RunError` where no worker can be started.
        """
        task = _Task(arch)
        self._put(task)
        for thread in self._threads:
            if thread.ident is None:
                thread.start()
        return task.future

    def _put(self, task: _Task) -> None:
        with self._lock:
            if self._failure:
                task.future.set_exception(self._failure)
            else:
                self._tasks.put(task)

    def _serve(self, place: int) -> None:
        """Keep one place manned, and hand tasks to who is there."""
        try:
            while worker := self._manned(place):
                self._hand_out(place, worker)
        except Exception as problem:  # whatever it is, who waits for a score must hear of it
            self._fail(problem if isinstance(problem, BnasError) else RunError(f"worker {place}: {problem!r}"))

    def _manned(self, place: int) -> Worker | None:
        """Return a worker that is ready; None where there is no more need of one, or none to be had."""
        why = ""
        for start in range(STARTS):
            time.sleep(PAUSE_SECONDS if start else 0.0)  # a system short of something may have it again by then
            worker = None
            try:
                with self._lock:
                    if self._closed:
                        return None
                    worker = self._workers[place] = self._make(place)
                worker.ready()
                return worker
            except Lost as problem:
                if worker:
                    worker.stop()
                why = str(problem)
                self._note("worker not started", worker=place, why=why)
        with self._lock:
            self._served -= 1
            is_last = not self._served
        if is_last:
            raise RunError(f"search: no worker can be started: {why}; what was scored before is kept")
        return None

    def _hand_out(self, place: int, worker: Worker) -> None:
        """Hand tasks to a worker until it is lost or the pool is closed."""
        while (task := self._tasks.get()) is not None:
            if not task.losses and not task.future.set_running_or_notify_cancel():
                continue
            try:
                task.future.set_result(worker.score(task.arch))
            except Lost as problem:
                worker.stop()
                self._again(task, str(problem))  # first, for the log may be one that cannot be written
                self._note("worker lost", worker=place, id=task.arch.id, why=str(problem))
                return
            except Exception as problem:
                task.future.set_exception(problem)

    def _again(self, task: _Task, why: str) -> None:
        task.losses.append(why)
        if len(task.losses) <= RETRIES:
            self._put(task)
        else:
            said = "; ".join(dict.fromkeys(task.losses))
            task.future.set_exception(
                TrainingError(f"candidate {task.arch.id}: {len(task.losses)} workers were lost with it: {said}")
            )

    def _fail(self, problem: BnasError) -> None:
        with self._lock:
            self._failure, ends = problem, 0
            with suppress(queue.Empty):  # others take tasks, too
                while True:
                    task = self._tasks.get_nowait()
                    if task is None:
                        ends += 1
                    elif task.losses or task.future.set_running_or_notify_cancel():
                        task.future.set_exception(problem)
            for _ in range(ends):
                self._tasks.put(None)

    def _note(self, event: str, **fields: object) -> None:
        if not self._closed:
            self._report(event, **fields)


def attempt(action: Callable[[], T]) -> T | Exception:
    """Return what `action` returns; or our own error, `Lost` where memory ran out, any other with its traceback."""
    try:
        return action()
    except BnasError as problem:
        return problem
    except Exception as problem:
        if is_out_of_memory(problem):
            return Lost("out of memory")
        error = RuntimeError(f"{type(problem).__name__}: {problem}")  # the original may not survive pickling
        error.add_note("".join(traceback.format_exception(problem)))
        return error
