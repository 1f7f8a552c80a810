"""A scorer -> twins of it that are actors on a Ray cluster; those of one node share its weights and images."""

import ipaddress
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from bnas.allocator import keep_freed_memory
from bnas.errors import RunError
from bnas.searcher.candidate import Score
from bnas.searcher.executors.pool import Lost, Report, WorkerPool, attempt
from bnas.searcher.executors.shared_memory import Layout, pack, unpack
from bnas.searcher.score import Scorer
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace

try:
    import ray
    from ray._private import ray_constants
    from ray.exceptions import GetTimeoutError, RayError
except ImportError as problem:
    raise RunError("engine ray: Ray is not installed; run: pip install 'bnas[ray]'") from problem

START_SECONDS = 300.0  # within which the cluster has found a place for an actor and started it


@contextmanager
def actors(
    scorer: Scorer, *, workers: int, device: torch.device, lease_seconds: float, address: str | None, report: Report
) -> Iterator[WorkerPool]:
    """Give an executor whose workers are actors, of one core or one GPU each.

    Args:
        scorer: what is twinned; on the CPU.
        device: what the actors compute on.
        lease_seconds: an actor that has had a candidate for so long is replaced.
        address: of a running cluster; None starts one that listens on this machine alone, with Ray's tokens on.
    Raises:
        RunError: no cluster can be reached or started.
    """
    with _connected(address, workers, device):
        block, layout = pack(scorer.tensors())
        stored = ray.put(block.numpy())
        gpus = int(device.type == "cuda")
        remote = ray.remote(num_cpus=1 - gpus, num_gpus=gpus, max_restarts=0)(_Twin)
        make = partial(remote.remote, scorer.space, stored, layout, device.type)
        with WorkerPool(lambda place: _Actor(make, lease_seconds), workers=workers, report=report) as pool:
            yield pool


@contextmanager
def _connected(address: str | None, workers: int, device: torch.device) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    where = f"Ray cluster {address}" if address else "a Ray cluster on this machine"
    try:
        if address:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            _start(cpus=workers, gpus=workers if device.type == "cuda" else 0)
    except (RayError, OSError, RuntimeError, ValueError) as problem:  # OSError: no network, or no home to write
        said = " ".join(str(problem).split())
        raise RunError(f"{where}: cannot be used: {said}; mend it and run the same command") from problem
    try:
        yield
    finally:
        ray.shutdown()


def _start(*, cpus: int, gpus: int) -> None:
    """Start a cluster that listens on loopback alone. It asks for a token, as Ray does unless told not to."""
    with _without_other_machines():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports home unless told not to
        ray.init(
            "local", num_cpus=cpus, num_gpus=gpus, include_dashboard=False, log_to_driver=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
    here = ray.util.get_node_ip_address()
    if not ipaddress.ip_address(here).is_loopback:
        ray.shutdown()
        raise RuntimeError(
            f"it listens on {here}, not on loopback; start a cluster as you want it and give its address"
        )


@contextmanager
def _without_other_machines() -> Iterator[None]:
    """Have Ray listen on loopback, as it does where clusters of several machines are switched off.

    Told loopback, it would take the address that others reach. The public switch is a variable that Ray reads when it
    is imported: too late here, and too early for a cluster that is elsewhere.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


class _Actor:
    """A worker that is an actor."""

    def __init__(self, make: Callable[[], Any], seconds: float) -> None:
        self._seconds = seconds
        try:
            self._actor = make()
        except RayError as problem:
            raise _lost(problem) from problem

    def ready(self) -> None:
        self._answer(self._actor.ready.remote(), START_SECONDS)

    def score(self, arch: Architecture) -> Score:
        score = self._answer(self._actor.score.remote(arch), self._seconds)
        assert isinstance(score, Score)
        return score

    def stop(self) -> None:
        ray.kill(self._actor)

    def _answer(self, promised: Any, seconds: float) -> object:
        try:
            said = ray.get(promised, timeout=seconds)
        except GetTimeoutError as problem:
            raise Lost(f"no answer for {seconds:g} s") from problem
        except RayError as problem:
            raise _lost(problem) from problem
        if isinstance(said, Exception):
            raise said
        return said


def _lost(problem: RayError) -> Lost:
    return Lost(f"{type(problem).__name__}: {' '.join(str(problem).split())}")


class _Twin:
    """What runs in an actor."""

    def __init__(self, space: SearchSpace, block: "np.ndarray[Any, Any]", layout: Layout, device: str) -> None:
        torch.set_num_threads(1)
        keep_freed_memory()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that Ray's memory cannot be written: nobody writes
            tensors = unpack(torch.from_numpy(block), layout)
        self._scorer = attempt(partial(Scorer.from_tensors, space, tensors, torch.device(device)))

    def ready(self) -> Exception | None:
        """Return what went wrong while it was made."""
        return self._scorer if isinstance(self._scorer, Exception) else None

    def score(self, arch: Architecture) -> Score | Exception:
        """Return the score, or what went wrong."""
        assert isinstance(self._scorer, Scorer)
        return attempt(partial(self._scorer, arch))
