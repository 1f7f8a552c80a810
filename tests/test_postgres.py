"""A study in PostgreSQL: shared by searches, outlived by them when it goes away, and silent about its password."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from bnas.cost.budget import Budget
from bnas.errors import RunError
from bnas.progress import silent
from bnas.runs import Run
from bnas.searcher import sampler, storage
from bnas.searcher.candidate import Score
from bnas.searcher.executors.in_process import InProcess
from bnas.searcher.journal import Journal
from bnas.searcher.samplers import SAMPLERS
from bnas.searcher.storage import StoredStudy
from bnas.searcher.study import Search
from bnas.space.arch import Architecture
from tests.mortal import Ended, bnas
from tests.postgres import PASSWORD, Server, own_folder, programs
from tests.tiny import tiny_file, tiny_space

SPACE = tiny_space()
TRIALS = 25

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(programs() is None, reason="no PostgreSQL server here: apt-get install postgresql"),
]


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg", reason="its driver is not installed: pip install 'bnas[postgres]'")
    folder = own_folder()
    server = Server(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def brief(monkeypatch) -> None:
    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(sampler, "_POPULATION", (4, 4))  # so that so short a search breeds from what was scored


def quality_of(arch: Architecture) -> Score:
    value = sum(stage.width * stage.depth - stage.groups for stage in arch.stages) / 100
    return Score(value, 1 - value)


def search(url: str | None, name: str, score=quality_of, *, progress=silent, seed=0):
    study = Search(
        SPACE, Budget.parse(SPACE.search.budget), sampler=SAMPLERS["evolution"], seed=seed, name="search",
        stored=StoredStudy(url, name), journal=Journal(),
    )  # fmt: skip
    return study.run(TRIALS, InProcess(score).submit, progress=progress, note=lambda candidate: None)


def ids(url: str, name: str) -> list[str]:
    return [trial.user_attrs["id"] for trial in optuna.load_study(storage=url, study_name=name).trials]


def test_two_searches_at_once_outlive_a_server_that_stops_and_starts_again(server) -> None:
    found, scored, lock, waits = {}, threading.Barrier(2), threading.Lock(), []

    def progress(phase: str, *_: object) -> None:
        with lock:
            if phase == "waiting for the storage" and not waits:
                waits.append(phase)
                server.start()

    def run(name: str, seed: int) -> None:
        calls: list[str] = []

        def score(arch: Architecture) -> Score:
            calls.append(arch.id)
            if len(calls) == 8:
                if scored.wait(60) == 0:  # both are in the middle of their work
                    server.stop()
                scored.wait(60)
            return quality_of(arch)

        found[name] = search(server.url, name, score, progress=progress, seed=seed)

    threads = [threading.Thread(target=run, args=(name, seed)) for seed, name in enumerate(("one", "two"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert waits
    for seed, name in enumerate(("one", "two")):
        assert found[name] == search(None, name, seed=seed)
        assert sorted(ids(server.url, name)) == sorted(c.id for c in found[name])
        assert len(set(ids(server.url, name))) == TRIALS


def test_a_search_keeps_few_connections(server) -> None:
    most = []

    def score(arch: Architecture) -> Score:
        with engine.connect() as connection:
            most.append(connection.execute(others).scalar())
        return quality_of(arch)

    engine = sqlalchemy.create_engine(server.url, poolclass=sqlalchemy.NullPool)
    others = sqlalchemy.text(
        "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
    )
    with engine.connect() as connection:
        before = connection.execute(others).scalar()
    search(server.url, "few", score)
    assert max(most) - before <= 2


def test_an_empty_database_is_filled_by_two_at_once(server) -> None:
    engine = sqlalchemy.create_engine(server.url, isolation_level="AUTOCOMMIT")
    problems = []

    def open_it(name: str) -> None:
        try:
            StoredStudy(server.database("fresh"), name)
        except RunError as problem:
            problems.append(problem)

    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("create database fresh"))
    threads = [threading.Thread(target=open_it, args=(f"study {k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems


def test_a_whole_run_killed_and_taken_up_again_says_the_password_to_nobody(server, tmp_path) -> None:
    space = tiny_file(tmp_path)
    there = ("search", space, "--out", tmp_path / "there", "--storage", server.url)
    here = ("search", space, "--out", tmp_path / "here")
    said = bnas(*there, folder=tmp_path, at="search: 4 of 6", report=False).said
    for command in (there, here):
        ended = bnas(*command, folder=tmp_path, report=False)
        assert ended.code == 0, ended.said
        said += ended.said
    assert (tmp_path / "there" / "candidates.csv").read_bytes() == (tmp_path / "here" / "candidates.csv").read_bytes()
    names = [n for n in optuna.get_all_study_names(server.url) if n.startswith("there-")]
    assert sorted(name.rpartition("-")[2] for name in names) == ["search", "twin"]
    assert all(len(set(ids(server.url, name))) == 6 for name in names)
    assert not (tmp_path / "there" / "study.db").exists()
    written = b"".join(path.read_bytes() for path in (tmp_path / "there").rglob("*") if path.is_file())
    for part in (PASSWORD, *server.url.partition("bnas:")[2].split("@")[:1], "geh", "eim"):
        assert part.encode() not in written
        assert part not in said


def test_a_whole_run_outlives_a_server_that_stops_and_starts_again(server, tmp_path) -> None:
    space, run, ended = tiny_file(tmp_path), tmp_path / "away", list[Ended]()
    (tmp_path / "said").mkdir()
    frozen = {"folder": tmp_path / "said", "at": "search: 4 of 6", "number": signal.SIGSTOP, "report": False}
    thread = threading.Thread(
        target=lambda: ended.append(bnas("search", space, "--out", run, "--storage", server.url, **frozen))
    )
    thread.start()
    wait_for(tmp_path / "said" / "done.txt", "search: 4 of 6")
    server.stop()
    driver = next(event for event in Run.read(run).events() if event["event"] == "driver")
    os.kill(driver["pid"], signal.SIGCONT)
    wait_for(tmp_path / "said" / "done.txt", "waiting for the storage")
    server.start()
    thread.join(120)
    assert ended[0].code == 0, ended[0].said
    assert bnas("search", space, "--out", tmp_path / "here", folder=tmp_path, report=False).code == 0
    assert (run / "candidates.csv").read_bytes() == (tmp_path / "here" / "candidates.csv").read_bytes()
    names = [n for n in optuna.get_all_study_names(server.url) if n.startswith("away-")]
    assert [len(set(ids(server.url, name))) for name in names] == [6, 6]


def wait_for(file: Path, text: str) -> None:
    deadline = time.monotonic() + 120
    while not (file.exists() and text in file.read_text()):
        assert time.monotonic() < deadline, f"{text} never happened"
        time.sleep(0.02)


def test_a_storage_may_change_between_two_starts_and_nothing_is_paid_for_twice(server, tmp_path) -> None:
    space, run = tiny_file(tmp_path), tmp_path / "moved"
    bnas("search", space, "--out", run, folder=tmp_path, at="search: 4 of 6", report=False)
    ended = bnas("search", space, "--out", run, "--storage", server.url, folder=tmp_path, report=False)
    assert ended.code == 0, ended.said
    assert (run / "log.jsonl").read_text().count('"scored"') == len(set(ids_of(run)))
    names = [n for n in optuna.get_all_study_names(server.url) if n.startswith("moved-")]
    assert [len(ids(server.url, name)) for name in sorted(names)] == [6, 6]


def ids_of(run) -> list[str]:
    lines = (run / "candidates.csv").read_text().splitlines()[1:] + (run / "twin.csv").read_text().splitlines()[1:]
    return [line.split(",")[1] for line in lines]


def test_a_server_that_is_not_there_or_does_not_know_us_is_an_error_at_once_without_the_password(server) -> None:
    begun = time.monotonic()
    for url in (server.url.replace(str(server.port), "1"), server.url.replace("eim", "eimer"), server.url + "x"):
        with pytest.raises(RunError, match=r"postgresql\+psycopg://bnas:\*\*\*@127\.0\.0\.1.*cannot be used") as caught:
            StoredStudy(url, "search")
        assert "geh" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("url", ["nonsense", "postgresql+psycopg://me:pass@word@host/db", "oracle+nothing://h/d"])
def test_what_is_no_clear_url_is_refused_without_showing_a_password(url) -> None:
    with pytest.raises(RunError, match=r"must be the URL of a database|cannot be used") as caught:
        StoredStudy(url, "search")
    assert "word" not in str(caught.value).replace("password", "")
