"""Executors: the same scores from whoever computes them, each once, whatever becomes of the workers."""

import copy
import errno
import itertools
import math
import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.context import SpawnProcess
from pathlib import Path
from random import Random

import pytest
import torch

from bnas.cost.budget import Budget
from bnas.data import from_arrays, load_data
from bnas.errors import LookupFailed, RunError, SpecError, Stopped, TrainingError
from bnas.progress import silent
from bnas.searcher.candidate import Score, paid
from bnas.searcher.executors import pool as pool_module
from bnas.searcher.executors.engine import Engine
from bnas.searcher.executors.in_process import InProcess
from bnas.searcher.executors.pool import Lost, WorkerPool, attempt
from bnas.searcher.executors.processes import shares
from bnas.searcher.executors.shared_memory import pack, unpack
from bnas.searcher.journal import Journal
from bnas.searcher.samplers import SAMPLERS
from bnas.searcher.score import Scorer
from bnas.searcher.storage import StoredStudy
from bnas.searcher.study import Search
from bnas.space.arch import Architecture
from bnas.supernet import Supernet
from tests.tiny import MemoryLog, tiny_space

SPACE = tiny_space()
BUDGET = Budget.parse(SPACE.search.budget)
CPU = torch.device("cpu")
ARCHS = [SPACE.architecture(SPACE.sample(Random(seed))) for seed in range(12)]


def quality_of(arch: Architecture) -> Score:
    value = sum(stage.width * stage.depth + 3 * stage.experts - stage.groups for stage in arch.stages) / 100
    return Score(value, 1 - value)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    torch.manual_seed(0)
    data = load_data("digits", limit=600)
    return Scorer(Supernet(SPACE), data, SPACE.search.scoring, seed=0, device=CPU)


class TestBlock:
    def test_tensors_come_back_as_views_of_one_block(self) -> None:
        tensors = {"a": torch.randn(3, 5), "b": torch.tensor(7), "c": torch.arange(4), "d": torch.ones(2, 0)}
        block, layout = pack(tensors)
        views = unpack(block, layout)
        assert all(torch.equal(views[name], tensor) for name, tensor in tensors.items())
        assert {view.untyped_storage().data_ptr() for view in views.values()} == {block.untyped_storage().data_ptr()}
        assert all(place.offset % 64 == 0 for place in layout.values())

    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_twin_scores_alike_and_has_no_weights_or_images_of_its_own(self, channels) -> None:
        torch.manual_seed(0)
        space = tiny_space(input=(channels, 8, 8))
        pixels, labels = torch.randint(0, 256, (300, channels, 8, 8), dtype=torch.uint8), torch.arange(300) % 10
        data = from_arrays("noise", pixels, labels, pixels, labels, validation=0.5)
        scorer = Scorer(Supernet(space), data, space.search.scoring, seed=0, device=CPU)
        block, layout = pack(scorer.tensors())
        before = block.clone()
        twin = Scorer.from_tensors(space, unpack(block, layout), CPU)
        archs = [space.smallest(), space.largest()]
        assert [twin(arch) for arch in archs] == [scorer(arch) for arch in archs]
        assert len({scorer(arch) for arch in archs}) == 2
        memory = block.untyped_storage().data_ptr()
        assert {t.untyped_storage().data_ptr() for t in twin.tensors().values()} == {memory}
        assert torch.equal(block, before)  # scoring writes nothing into it


class TestShares:
    def test_every_core_belongs_to_one_worker(self, monkeypatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
        parts = shares(3, CPU)
        assert sorted(itertools.chain.from_iterable(part.cores for part in parts)) == list(range(8))
        assert [part.threads for part in parts] == [2, 2, 2]

    def test_more_workers_than_cores_take_turns(self, monkeypatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
        assert [part.cores for part in shares(3, CPU)] == [(3,), (5,), (3,)]

    def test_gpus_are_dealt_in_turn_unless_one_is_named(self, monkeypatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert [part.device for part in shares(3, torch.device("cuda"))] == ["cuda:0", "cuda:1", "cuda:0"]
        assert [part.device for part in shares(2, torch.device("cuda:1"))] == ["cuda:1", "cuda:1"]


class Fake:
    """A worker whose fate is decided by a function of the place and the architecture."""

    def __init__(self, place: int, fate, log: list) -> None:
        self.place, self._fate, self._log, self._stopped = place, fate, log, threading.Event()

    def ready(self) -> None:
        self._fate(self.place, None)

    def score(self, arch: Architecture) -> Score:
        self._log.append((self.place, arch.id))
        self._fate(self.place, arch)
        return quality_of(arch)

    def stop(self) -> None:
        self._stopped.set()


def pool_of(fate, *, workers=2, log=None, events=None):
    tried = [] if log is None else log
    told = [] if events is None else events
    return WorkerPool(
        lambda place: Fake(place, fate, tried), workers=workers, report=lambda event, **fields: told.append(event)
    )


def fine(place: int, arch: Architecture | None) -> None:
    """Nothing happens."""


class TestPool:
    @pytest.fixture(autouse=True)
    def brief(self, monkeypatch) -> None:
        monkeypatch.setattr(pool_module, "PAUSE_SECONDS", 0.0)

    def test_every_architecture_is_handed_out_once(self) -> None:
        log: list = []
        with pool_of(fine, workers=3, log=log) as pool:
            scores = [future.result(10) for future in [pool.submit(arch) for arch in ARCHS]]
        assert scores == [quality_of(arch) for arch in ARCHS]
        assert Counter(arch_id for _, arch_id in log) == Counter(arch.id for arch in ARCHS)

    def test_what_a_lost_worker_had_in_hand_goes_to_another(self) -> None:
        lost: list = []

        def fate(place, arch):
            if arch is ARCHS[3] and len(lost) < 2:
                lost.append(place)
                raise Lost("killed")

        events: list = []
        with pool_of(fate, events=events) as pool:
            assert pool.submit(ARCHS[3]).result(10) == quality_of(ARCHS[3])
        assert events == ["worker lost"] * 2

    def test_an_architecture_that_loses_every_worker_fails_after_two_retries(self) -> None:
        log: list = []

        def fate(place, arch):
            if arch is ARCHS[0]:
                raise Lost("out of memory")

        with pool_of(fate, log=log) as pool:
            futures = [pool.submit(arch) for arch in ARCHS]
            with pytest.raises(TrainingError, match=f"{ARCHS[0].id}: 3 workers were lost with it: out of memory"):
                futures[0].result(10)
            assert futures[-1].result(10) == quality_of(ARCHS[-1])
        assert sum(arch_id == ARCHS[0].id for _, arch_id in log) == 3

    def test_where_one_worker_cannot_start_the_others_do_its_work(self) -> None:
        def fate(place, arch):
            if place == 0 and arch is None:
                raise Lost("no room")

        with pool_of(fate) as pool:
            assert [f.result(10) for f in [pool.submit(a) for a in ARCHS]] == [quality_of(a) for a in ARCHS]

    def test_a_worker_that_cannot_be_made_is_tried_again(self) -> None:
        tries, events = itertools.count(), list[str]()

        def make(place: int) -> Fake:
            if next(tries) < 2:
                raise Lost("no room")
            return Fake(place, fine, [])

        with WorkerPool(make, workers=1, report=lambda event, **_: events.append(event)) as pool:
            assert pool.submit(ARCHS[0]).result(10) == quality_of(ARCHS[0])
        assert events == ["worker not started"] * 2

    def test_where_none_can_start_everybody_hears_of_it(self) -> None:
        def fate(place, arch):
            raise Lost("no room")

        with pool_of(fate) as pool:
            futures = [pool.submit(arch) for arch in ARCHS]
            for future in futures:
                with pytest.raises(RunError, match="no worker can be started: no room"):
                    future.result(10)
            with pytest.raises(RunError):
                pool.submit(ARCHS[0]).result(10)

    def test_what_the_scorer_says_reaches_the_driver_without_a_retry(self) -> None:
        log: list = []

        def fate(place, arch):
            if arch is not None:
                raise TrainingError("not finite")

        with pool_of(fate, log=log) as pool, pytest.raises(TrainingError, match="not finite"):
            pool.submit(ARCHS[0]).result(10)
        assert len(log) == 1

    def test_leaving_ends_workers_in_the_middle_of_their_work(self) -> None:
        entered = threading.Event()

        class Endless(Fake):
            def score(self, arch):
                entered.set()
                assert self._stopped.wait(10)
                raise Lost("stopped")

        with WorkerPool(lambda place: Endless(place, fine, []), workers=1, report=lambda *_, **__: None) as pool:
            pool.submit(ARCHS[0])
            assert entered.wait(10)
        assert threading.active_count() < 10


def test_errors_that_travel_keep_what_they_say() -> None:
    def fails(problem: Exception):
        def action() -> None:
            raise problem

        return attempt(action)

    assert str(fails(TrainingError("mine"))) == "mine"
    for problem in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        assert isinstance(fails(problem), Lost)
    other = fails(KeyError("x"))
    assert isinstance(other, RuntimeError)
    assert "test_executors" in other.__notes__[0]


def test_in_this_process_a_candidate_too_large_for_memory_fails_alone() -> None:
    def score(arch: Architecture) -> Score:
        raise MemoryError

    with pytest.raises(TrainingError, match="out of memory"):
        InProcess(score).submit(ARCHS[0]).result()


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"name": "process"}, LookupFailed, "did you mean 'processes'"),
        ({"name": "os.path:join"}, LookupFailed, "choose from in-process, processes, ray"),
        ({"workers": 2}, SpecError, "--engine processes"),
        ({"name": "processes", "workers": 0}, SpecError, "at least 1"),
        ({"name": "processes", "lease_seconds": 0.0}, SpecError, "more than 0"),
        ({"name": "processes", "lease_seconds": math.nan}, SpecError, "at most 604800 seconds .*got nan"),
        ({"name": "processes", "lease_seconds": math.inf}, SpecError, "got inf; give --lease"),
        ({"name": "processes", "lease_seconds": 604_801.0}, SpecError, "a week"),
        ({"name": "processes", "ray_address": "auto"}, SpecError, "--engine ray"),
    ],
)
def test_an_engine_that_cannot_be_is_refused(asked, error, says) -> None:
    with pytest.raises(error, match=says):
        Engine(**asked)


class Shuffled:
    """Scores on threads, each after a pause drawn at random: outcomes come in any order."""

    def __init__(self, threads: int) -> None:
        self._threads, self.scored = ThreadPoolExecutor(threads), list[str]()

    def submit(self, arch: Architecture) -> "Future[Score]":
        return self._threads.submit(self._score, arch)

    def _score(self, arch: Architecture) -> Score:
        time.sleep(random.random() / 200)
        self.scored.append(arch.id)
        return quality_of(arch)


def search(submit, *, in_flight, folder=None, journal=None, sampler="evolution", trials=60, progress=silent):
    stored = StoredStudy(f"sqlite:///{folder}/study.db" if folder else None, "search")
    study = Search(
        SPACE, BUDGET, sampler=SAMPLERS[sampler], seed=0, name="search", stored=stored, journal=journal or Journal(),
        in_flight=in_flight,
    )  # fmt: skip
    return study.run(trials, submit, progress=progress, note=lambda candidate: None)


class TestInFlight:
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_candidates_depend_on_how_many_are_in_flight_not_on_how_fast_workers_are(self, sampler) -> None:
        slow = search(InProcess(quality_of).submit, in_flight=4, sampler=sampler, trials=30)
        for threads in (1, 4):
            assert search(Shuffled(threads).submit, in_flight=4, sampler=sampler, trials=30) == slow

    def test_scores_do_not_depend_on_who_computed_them(self) -> None:
        alone = {c.id: c.score for c in paid(search(InProcess(quality_of).submit, in_flight=1))}
        many = {c.id: c.score for c in paid(search(Shuffled(3).submit, in_flight=6))}
        both = alone.keys() & many.keys()
        assert both
        assert all(alone[arch_id] == many[arch_id] for arch_id in both)

    def test_nothing_is_scored_twice(self) -> None:
        executor = Shuffled(4)
        found = search(executor.submit, in_flight=8)
        assert sorted(executor.scored) == sorted(c.id for c in paid(found))
        assert len(set(executor.scored)) == len(executor.scored) == 60

    def test_killed_with_some_in_flight_it_ends_as_if_nothing_had_happened(self, tmp_path) -> None:
        whole, scored, log = search(InProcess(quality_of).submit, in_flight=4), list[str](), MemoryLog()
        for limit in (7, 52):
            with pytest.raises(KeyboardInterrupt):
                search(mortal(scored, limit), in_flight=4, folder=tmp_path, journal=Journal(log))
        assert search(Shuffled(2).submit, in_flight=4, folder=tmp_path, journal=Journal(log)) == whole

    def test_workers_may_change_between_two_starts_and_nothing_that_was_paid_for_is_left_out(self, tmp_path) -> None:
        log, scored = MemoryLog(), list[str]()
        for limit, in_flight in ((20, 4), (40, 1), (55, 6)):
            with pytest.raises(KeyboardInterrupt):
                search(mortal(scored, limit), in_flight=in_flight, folder=tmp_path, journal=Journal(log))
        executor = Shuffled(2)
        found = search(executor.submit, in_flight=2, folder=tmp_path, journal=Journal(log))
        kept = StoredStudy(f"sqlite:///{tmp_path}/study.db", "search").outcomes
        assert {c.id for c in paid(found)} == set(kept)
        assert len(found) == len(kept) == 60
        again = search(mortal(scored, 0), in_flight=2, folder=tmp_path, journal=Journal(log))
        assert again == found  # nothing was paid for, and the changes came at the same places

    def test_put_down_it_keeps_what_workers_have_in_hand_and_begins_no_more(self) -> None:
        executor, log, calls = Shuffled(2), MemoryLog(), itertools.count()

        def progress(phase, done, total, note="") -> None:
            if next(calls) == 10:
                raise Stopped

        with pytest.raises(Stopped):
            search(executor.submit, in_flight=4, journal=Journal(log), progress=progress)
        assert {event["id"] for event in log.events() if event["event"] == "scored"} == set(executor.scored)
        assert len(executor.scored) < 20


def mortal(scored: list[str], limit: int):
    """Scores until `limit` were scored in all, then dies."""

    def score(arch: Architecture) -> Score:
        if len(scored) >= limit:
            raise KeyboardInterrupt
        assert arch.id not in scored  # paid for twice
        scored.append(arch.id)
        return quality_of(arch)

    return InProcess(score).submit


LOST: list[dict] = []  # what the pool of real processes said of lost workers in the test at hand


@pytest.fixture(scope="module")
def processes(scorer):
    with Engine("processes", workers=2).executor(lambda _: scorer, CPU, lambda _, **said: LOST.append(said)) as pool:
        scores(pool, ARCHS[:2])
        yield pool


def scores(pool, archs) -> list[Score]:
    return [future.result(120) for future in [pool.submit(arch) for arch in archs]]


def test_a_system_that_starts_no_process_is_tried_three_times(scorer, monkeypatch) -> None:
    def refused(process: SpawnProcess) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    lost: list[str] = []
    monkeypatch.setattr(SpawnProcess, "start", refused)
    monkeypatch.setattr(pool_module, "PAUSE_SECONDS", 0.0)
    with (
        Engine("processes", workers=1).executor(
            lambda _: scorer, CPU, lambda _, **said: lost.append(said["why"])
        ) as pool,
        pytest.raises(RunError, match="no worker can be started: the system starts no process: Resource temporarily"),
    ):
        pool.submit(ARCHS[0]).result(10)
    assert lost == ["the system starts no process: Resource temporarily unavailable"] * 3


def test_a_full_shared_memory_is_one_line_that_says_what_to_do(scorer, monkeypatch) -> None:
    def full(block: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(RunError, match=r"no room for 0\.\d MiB .*No space left.*make /dev/shm larger.*in-process"):
        Engine("processes", workers=2).executor(lambda _: scorer, CPU, print)


@pytest.mark.slow
class TestProcesses:
    """Two real processes, which the tests, one after the other, kill, stop and starve."""

    @pytest.fixture(autouse=True)
    def truth(self, scorer) -> list[Score]:
        LOST.clear()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        alone = [scorer(arch) for arch in ARCHS]
        torch.set_num_threads(threads)
        return alone

    def test_they_give_the_scores_of_this_process(self, processes, truth) -> None:
        assert scores(processes, ARCHS) == truth

    def test_a_killed_worker_loses_nothing(self, processes, truth) -> None:
        futures = [processes.submit(arch) for arch in ARCHS]
        os.kill(processes._workers[0]._process.pid, signal.SIGKILL)
        assert [future.result(120) for future in futures] == truth
        assert "SIGKILL" in LOST[0]["why"]

    def test_a_worker_that_hangs_is_replaced_when_its_lease_ends(self, processes, truth, monkeypatch) -> None:
        worker = processes._workers[1]
        monkeypatch.setattr(worker, "_seconds", 0.5)
        os.kill(worker._process.pid, signal.SIGSTOP)
        assert scores(processes, ARCHS) == truth  # by the other one, which has started by now
        assert LOST[0]["why"] == "no answer for 0.5 s"
        assert not worker._process.is_alive()


@pytest.mark.slow
def test_a_worker_out_of_memory_is_replaced_and_its_candidate_scored(scorer, monkeypatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")  # what a worker has freed is not there for the next score
    mib, smallest = 2**20, SPACE.smallest()
    large = copy.copy(scorer)
    large._held_out = [(torch.rand(40_000, 1, 8, 8), torch.zeros(40_000, dtype=torch.int64))]
    needed = 40_000 * smallest.stem.width * 8 * 8 * 4  # bytes of what the stem gives
    lost: list[dict] = []
    with Engine("processes", workers=1).executor(lambda _: large, CPU, lambda _, **said: lost.append(said)) as pool:
        score = pool.submit(smallest).result(120)
        pid = pool._workers[0]._process.pid
        used = resource.getpagesize() * int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        assert needed > 2 * 16 * mib  # so it does not fit, whatever the worker has to spare
        resource.prlimit(pid, resource.RLIMIT_AS, (used + 16 * mib, used + 16 * mib))
        assert pool.submit(smallest).result(120) == score
        assert pool._workers[0]._process.pid != pid
    assert [said["why"] for said in lost] == ["out of memory"]
