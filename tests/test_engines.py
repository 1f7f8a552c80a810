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
from bnas.api import drive
from bnas.cost import Budget
from bnas.data import load_data
from bnas.errors import SpecError
from bnas.progress import Progress, silent
from bnas.searcher import SAMPLERS, Candidate, Engine, InProcess, Journal, Scorer, Search, StoredStudy
from bnas.supernet import Supernet
from tests.mortal import SERVER
from tests.tiny import tiny_space

SPACE = tiny_space()
CPU = torch.device("cpu")
TRIALS = 24
IN_FLIGHT = Engine("processes", workers=2).in_flight(CPU)

pytestmark = pytest.mark.slow
without_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed: pip install 'bnas[ray]'")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    torch.manual_seed(0)
    return Scorer(Supernet(SPACE), load_data("digits", limit=600), SPACE.search.scoring, seed=0, device=CPU)


def search(folder: Path, submit, progress: Progress = silent) -> list[Candidate]:
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
    monkeypatch.setattr(drive, "write_report", lambda run: None)  # half the time, and the same on every engine
    result = bnas.search(SPACE, out=tmp_path / "run", engine="processes", workers=2)
    events = [event for event in result.run.events() if event["event"] == "in flight"]
    assert [event["candidates"] for event in events] == [IN_FLIGHT] * 2
    assert result.ledger["search"]["paid"] == 6
    assert result.best.load()


class Cluster(NamedTuple):
    """A Ray cluster of two nodes, of one core each."""

    address: str
    token: str
    second: int  # the process group of the second node

    @property
    def environment(self) -> dict[str, str]:
        """What Ray reads of it."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_USAGE_STATS_ENABLED": "0"}

    def kill_an_actor(self) -> None:
        """Kill one of the processes that score; it is told from those of other clusters by its token."""
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                is_actor = b"ray::_Twin" in (path / "cmdline").read_bytes()
                if is_actor and self.token.encode() in (path / "environ").read_bytes():
                    os.kill(int(path.name), signal.SIGKILL)
                    return
        raise AssertionError("there is no actor to kill")

    def kill_the_second_node(self) -> None:
        """Kill a node with all its processes."""
        os.killpg(self.second, signal.SIGKILL)


def on_a_cluster(folder: Path, scorer: Scorer, cluster: Cluster, told) -> None:
    """Search on Ray, in a process of its own, for Ray reads its environment once; kill an actor, then a node."""
    os.environ.update(cluster.environment)
    lost: list[str] = []
    kill_one, kill_two = after(5, cluster.kill_an_actor), after(12, cluster.kill_the_second_node)

    def progress(*said) -> None:
        kill_one(*said)
        kill_two(*said)

    engine = Engine("ray", workers=2, ray_address=cluster.address)
    with engine.executor(lambda _: scorer, CPU, lambda event, **_: lost.append(event)) as pool:
        told.put((search(folder, pool.submit, progress), lost))


def on_its_own(scorer: Scorer, told) -> None:
    with Engine("ray", workers=1).executor(lambda _: scorer, CPU, print):
        import ray

        told.put((ray.util.get_node_ip_address(), os.environ["RAY_AUTH_MODE"]))


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
    environment = Cluster(address, token, 0).environment | {"PYTHONPATH": str(Path(bnas.__file__).parents[1])}

    def node(*arguments: str) -> int:
        process = subprocess.Popen(
            [*start, *arguments], env=os.environ | environment, start_new_session=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        started.append(process)
        return process.pid

    node("--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false")
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", int(address.partition(":")[2]))):
            assert started[0].poll() is None
            time.sleep(0.1)
    yield Cluster(address, token, node(f"--address={address}"))
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@without_ray
def test_a_ray_cluster_that_loses_an_actor_and_then_a_node_finds_what_one_process_finds(
    scorer, alone, tmp_path, cluster
) -> None:
    found, lost = in_a_process(on_a_cluster, tmp_path, scorer, cluster)
    assert found == alone
    assert_each_is_stored_once(tmp_path, found)
    assert lost.count("worker lost") >= 1


@without_ray
def test_a_cluster_of_our_own_is_out_of_reach_of_others(scorer) -> None:
    assert in_a_process(on_its_own, scorer) == ("127.0.0.1", "token")


@without_ray
def test_how_many_actors_has_to_be_said() -> None:
    with pytest.raises(SpecError, match="--workers"):
        Engine("ray")
