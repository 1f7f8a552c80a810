"""Whole searches on processes and on a Ray cluster, workers and a node of which are killed: the same candidates."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import optuna
import pytest
import torch

import bnas
from bnas.api import searching
from bnas.cost.budget import Budget
from bnas.data import load_data
from bnas.errors import SpecError
from bnas.progress import Progress, silent
from bnas.searcher import evolution, sampler
from bnas.searcher.candidate import Candidate
from bnas.searcher.executors.engine import Engine
from bnas.searcher.executors.in_process import InProcess
from bnas.searcher.journal import Journal
from bnas.searcher.samplers import SAMPLERS
from bnas.searcher.score import Scorer
from bnas.searcher.storage import StoredStudy
from bnas.searcher.study import Search
from bnas.space.space import Genes
from bnas.supernet import Supernet
from tests.mortal import SERVER
from tests.tiny import tiny_space

SPACE = tiny_space()
CPU = torch.device("cpu")
TRIALS = 24
POPULATION = 4  # so that so short a search breeds from what was scored
IN_FLIGHT = Engine("processes", workers=2).in_flight(CPU)

pytestmark = pytest.mark.slow
without_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed: pip install 'bnas[ray]'")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    torch.manual_seed(0)
    return Scorer(Supernet(SPACE), load_data("digits", limit=600), SPACE.search.scoring, seed=0, device=CPU)


def search(folder: Path, submit, progress: Progress = silent) -> list[Candidate]:
    bred: list[Genes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "_POPULATION", (POPULATION, POPULATION))
        child = evolution.Evolution._child
        patch.setattr(evolution.Evolution, "_child", lambda *known: bred.append(child(*known)) or bred[-1])
        found = _search(folder, submit, progress)
    assert {candidate.genes for candidate in found} & set(bred)
    return found


def _search(folder: Path, submit, progress: Progress) -> list[Candidate]:
    study = Search(
        SPACE, Budget.parse(SPACE.search.budget), sampler=SAMPLERS["evolution"], seed=0, name="search",
        stored=StoredStudy(f"sqlite:///{folder}/study.db", "search"), journal=Journal(), in_flight=IN_FLIGHT,
    )  # fmt: skip
    return study.run(TRIALS, submit, progress=progress, note=lambda candidate: None)


@pytest.fixture(scope="module")
def alone(scorer, tmp_path_factory) -> list[Candidate]:
    """What a search finds that scores in this process, in one thread, as workers do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = search(tmp_path_factory.mktemp("alone"), InProcess(scorer).submit)
    torch.set_num_threads(threads)
    return found


def assert_each_is_stored_once(folder: Path, found: list[Candidate]) -> None:
    trials = optuna.load_study(storage=f"sqlite:///{folder}/study.db", study_name="search").trials
    assert sorted(trial.user_attrs["id"] for trial in trials) == sorted(c.id for c in found if c.status == "paid")
    assert len(trials) == TRIALS


def after(done: int, action) -> Progress:
    """Return a progress that acts once so many candidates are paid for."""
    left = [action]

    def progress(phase: str, now: int, total: int, note: str = "") -> None:
        if now >= done and left:
            left.pop()()

    return progress


def test_processes_of_which_one_is_killed_find_what_one_process_finds(scorer, alone, tmp_path) -> None:
    lost: list = []
    with Engine("processes", workers=2).executor(lambda _: scorer, CPU, lambda *_, **said: lost.append(said)) as pool:
        kill = after(10, lambda: os.kill(pool._workers[1]._process.pid, signal.SIGKILL))
        found = search(tmp_path, pool.submit, kill)
    assert found == alone
    assert_each_is_stored_once(tmp_path, found)
    assert lost


def test_a_run_on_processes_ends_as_any_other(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(searching.report, "write_report", lambda run: None)  # the same on every engine
    result = bnas.search(SPACE, out=tmp_path / "run", engine=Engine("processes", workers=2))
    events = [event for event in result.run.events() if event["event"] == "in flight"]
    assert [event["candidates"] for event in events] == [IN_FLIGHT] * 2
    assert result.ledger["search"]["paid"] == 6
    assert result.best.load()


class Cluster(NamedTuple):
    """A Ray cluster of two nodes, of one core each."""

    address: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """What Ray reads of it."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_USAGE_STATS_ENABLED": "0"}

    def kill_an_actor_of_the_first_node(self) -> None:
        """Kill a process that scores; it is told from those of other nodes by what it inherits."""
        os.kill(actor_with(self.token, "BNAS_TEST=head"), signal.SIGKILL)

    def kill_the_second_node(self) -> None:
        """Kill a node with all its processes, the actor too, which outlives the rest for a while."""
        for process in processes_with(self.token, "BNAS_TEST=second"):
            os.kill(process, signal.SIGKILL)

    def wait_for(self, nodes: int) -> None:
        """Wait until so many nodes are alive; the driver must be connected."""
        import ray

        deadline = time.monotonic() + 60
        while sum(node["Alive"] for node in ray.nodes()) != nodes:
            assert time.monotonic() < deadline, ray.nodes()
            time.sleep(0.1)


def processes_with(*inherited: str) -> list[int]:
    """The processes that have these in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (path / "environ").read_bytes()
            if all(what.encode() in environment for what in inherited):
                found.append(int(path.name))
    return found


def actor_with(*inherited: str) -> int:
    """The one of them that is an actor."""
    named = [(process, Path(f"/proc/{process}/cmdline").read_bytes()) for process in processes_with(*inherited)]
    return next(process for process, name in named if b"ray::_Twin" in name)


def on_a_cluster(folder: Path, scorer: Scorer, cluster: Cluster, told) -> None:
    """Search on Ray, in a process of its own, for Ray reads its environment once; kill an actor, then a node."""
    os.environ.update(cluster.environment)
    lost: list[str] = []
    kill_one, kill_two = after(5, cluster.kill_an_actor_of_the_first_node), after(12, cluster.kill_the_second_node)

    def progress(*said) -> None:
        kill_one(*said)
        kill_two(*said)

    engine = Engine("ray", workers=2, ray_address=cluster.address)
    with engine.executor(lambda _: scorer, CPU, lambda event, **_: lost.append(event)) as pool:
        cluster.wait_for(nodes=2)
        both_at_work(pool)
        found = search(folder, pool.submit, progress)
        cluster.wait_for(nodes=1)
        told.put((found, lost))


def both_at_work(pool) -> None:
    """Wait until an actor on each node can score, so that each has something in hand when it is killed."""
    pool.submit(SPACE.smallest()).result(120)
    while len(pool._workers) < 2:
        time.sleep(0.1)
    for worker in pool._workers.values():
        worker.ready()


def on_its_own(scorer: Scorer, told) -> None:
    """Score on a cluster that the engine starts; have an actor hang in between."""
    secret = secrets.token_hex(8)
    os.environ["BNAS_TEST"] = secret
    arch, lost = SPACE.smallest(), list[str]()
    with Engine("ray", workers=1).executor(lambda _: scorer, CPU, lambda _, **said: lost.append(said["why"])) as pool:
        import ray

        scores = [pool.submit(arch).result(120)]
        pool._workers[0]._seconds = 2.0
        os.kill(actor_with(secret), signal.SIGSTOP)
        scores.append(pool.submit(arch).result(120))
        told.put((ray.util.get_node_ip_address(), os.environ["RAY_AUTH_MODE"], scores, lost))


def without_a_home(scorer: Scorer, told) -> None:
    os.environ["HOME"] = os.devnull
    try:
        with Engine("ray", workers=1).executor(lambda _: scorer, CPU, lambda *_, **said: None):
            told.put("started")
    except Exception as problem:
        told.put(f"{type(problem).__name__}: {problem}")


def in_a_process(target, *arguments: object):
    told = SERVER.Queue()
    process = SERVER.Process(target=target, args=(*arguments, told))
    process.start()
    while process.is_alive() and told.empty():
        time.sleep(0.1)
    assert not told.empty() or process.exitcode == 0
    found = told.get()
    process.join()
    return found


@pytest.fixture
def cluster():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    token, started = secrets.token_hex(32), list[subprocess.Popen]()
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    start += ["--node-ip-address=127.0.0.1", "--object-store-memory=100000000"]
    # Actors must find the code under test, which may not be what is installed.
    environment = Cluster(address, token).environment | {"PYTHONPATH": str(Path(bnas.__file__).parents[1])}

    def node(*arguments: str) -> None:
        own = os.environ | environment | {"BNAS_TEST": "second" if started else "head"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen([*start, *arguments], env=own, start_new_session=True, **quiet))

    node("--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false")
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", int(address.partition(":")[2]))):
            assert started[0].poll() is None
            time.sleep(0.1)
    node(f"--address={address}")
    yield Cluster(address, token)
    for process in processes_with(token):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for process in started:
        process.wait()


@without_ray
def test_a_ray_cluster_that_loses_an_actor_and_then_a_node_finds_what_one_process_finds(
    scorer, alone, tmp_path, cluster
) -> None:
    found, lost = in_a_process(on_a_cluster, tmp_path, scorer, cluster)
    assert found == alone
    assert_each_is_stored_once(tmp_path, found)
    assert lost.count("worker lost") >= 2  # the actor, and that of the node


@without_ray
def test_a_cluster_of_our_own_is_out_of_reach_of_others_and_replaces_an_actor_that_hangs(scorer) -> None:
    address, token, scores, lost = in_a_process(on_its_own, scorer)
    assert (address, token) == ("127.0.0.1", "token")
    assert scores[0] == scores[1]
    assert lost == ["no answer for 2 s"]


@without_ray
def test_a_ray_that_cannot_write_its_home_is_one_line(scorer) -> None:
    said = in_a_process(without_a_home, scorer)
    assert said.startswith("RunError: a Ray cluster on this machine: cannot be used: ")
    assert said.endswith("; mend it and run the same command")
    assert "\n" not in said


@without_ray
def test_how_many_actors_has_to_be_said() -> None:
    with pytest.raises(SpecError, match="--workers"):
        Engine("ray")
