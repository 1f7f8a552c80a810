"""The study in a storage: what Optuna itself would have stored, by however many at once, and no word of a password."""

import sqlite3
import threading
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.engine import Engine

from bnas.api.exploring import open_studies
from bnas.cost.budget import Budget
from bnas.errors import RunError
from bnas.progress import silent
from bnas.runs import Run
from bnas.searcher import storage
from bnas.searcher.candidate import Candidate, Score
from bnas.searcher.database import DIRECTIONS, DamagedStorage
from bnas.searcher.executors.in_process import InProcess
from bnas.searcher.feasible import cost_of
from bnas.searcher.journal import Journal
from bnas.searcher.sampler import distributions, to_params
from bnas.searcher.samplers import SAMPLERS
from bnas.searcher.storage import StoredStudy
from bnas.searcher.storage_url import check_url, shown, without_secrets_of
from bnas.searcher.study import RECORDED_AT_ONCE, Search
from bnas.space.arch import Architecture
from bnas.spec import dump
from tests.mortal import SERVER
from tests.tiny import MemoryLog, tiny_space

SPACE = tiny_space()
BUDGET = Budget.parse(SPACE.search.budget)
SECRET = "geh31m"


def quality_of(arch: Architecture) -> Score:
    value = sum(stage.width * stage.depth - stage.groups for stage in arch.stages) / 100
    return Score(value, 1 - value / 3)


def search(
    url: str | None, name: str = "search", *, trials: int = 12, seed: int = 0, log: Any = None, score=quality_of
):
    study = Search(
        SPACE, BUDGET, sampler=SAMPLERS["evolution"], seed=seed, name="search", stored=StoredStudy(url, name),
        journal=Journal(log),
    )  # fmt: skip
    return study.run(trials, InProcess(score).submit, progress=silent, note=lambda candidate: None)


def candidates(count: int) -> list[Candidate]:
    each = list(dict.fromkeys(SPACE.sample(Random(number)) for number in range(2 * count)))[:count]
    return [Candidate(n, SPACE.architecture(g).id, "paid", g, cost_of(SPACE, g)) for n, g in enumerate(each)]


class TestRows:
    def test_are_those_that_optuna_would_have_written(self, tmp_path: Path) -> None:
        kinds, (one, two) = distributions(SPACE), candidates(2)
        stored = StoredStudy(f"sqlite:///{tmp_path}/ours.db", "search")
        theirs = optuna.create_study(storage=f"sqlite:///{tmp_path}/theirs.db", directions=DIRECTIONS)
        for candidate, outcome in ((one, Score(0.1 + 0.2, 1 / 3)), (two, "out of memory")):
            params = to_params(SPACE, candidate.genes)
            stored.add(candidate, outcome, params=params, distributions=kinds, progress=silent)
            is_scored = isinstance(outcome, Score)
            theirs.add_trial(
                create_trial(
                    state=TrialState.COMPLETE if is_scored else TrialState.FAIL, params=params, distributions=kinds,
                    values=[outcome.proxy_accuracy, candidate.cost.ops] if is_scored else None,
                    user_attrs={"id": candidate.id, "cost": candidate.cost.as_dict()}
                    | ({"proxy_loss": outcome.proxy_loss} if is_scored else {"why": outcome}),
                )
            )  # fmt: skip
        stored.flush(silent)
        ours = optuna.load_study(storage=f"sqlite:///{tmp_path}/ours.db", study_name="search")
        assert len(ours.trials) == len(theirs.trials) == 2
        for mine, other in zip(ours.trials, theirs.trials, strict=True):
            assert mine.user_attrs.pop("sum")
            for key in ("number", "state", "values", "params", "distributions", "user_attrs"):
                assert getattr(mine, key) == getattr(other, key), key
            assert abs((mine.datetime_complete - other.datetime_complete).total_seconds()) < 60
        assert ours.metric_names == ["proxy accuracy", "ops"]

    def test_outcomes_come_back_exactly(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/study.db"
        found = search(url)
        again = StoredStudy(url, "search").outcomes
        assert again == {c.id: c.score for c in found if c.score}

    def test_fifty_trials_take_few_statements(self, tmp_path: Path) -> None:
        statements: list[str] = []
        stored, kinds = StoredStudy(f"sqlite:///{tmp_path}/study.db", "search"), distributions(SPACE)
        count = lambda *told: statements.append(told[2])  # noqa: E731
        event.listen(Engine, "before_cursor_execute", count)
        for candidate in (some := candidates(50)):
            params = to_params(SPACE, candidate.genes)
            stored.add(candidate, Score(0.5, 0.5), params=params, distributions=kinds, progress=silent)
        stored.flush(silent)
        event.remove(Engine, "before_cursor_execute", count)
        assert len(some) == 50
        assert len(statements) < 2 * len(some)

    def test_whoever_lost_the_run_stores_nothing(self, tmp_path: Path) -> None:
        url, (one,) = f"sqlite:///{tmp_path}/study.db", candidates(1)

        def lost() -> None:
            raise RunError("the lock of this run was taken over")

        stored = StoredStudy(url, "search", check=lost)
        stored.add(one, Score(0.5, 0.5), params={}, distributions={}, progress=silent)
        with pytest.raises(RunError, match="taken over"):
            stored.flush(silent)
        assert StoredStudy(url, "search").outcomes == {}


class TestGoingOn:
    def test_a_finished_search_asks_no_sampler_and_scores_nothing(self, tmp_path: Path, monkeypatch) -> None:
        log = MemoryLog()
        found = search(None, log=log, trials=40)
        made = SAMPLERS["evolution"]
        monkeypatch.setattr(made, "_propose", None)
        assert search(f"sqlite:///{tmp_path}/study.db", log=log, trials=40, score=None) == found
        assert len(StoredStudy(f"sqlite:///{tmp_path}/study.db", "search").outcomes) == 40  # filled from the log

    def test_more_trials_go_on_from_what_is_known(self, monkeypatch) -> None:
        log, wide = MemoryLog(), tiny_space(search={"trials": 60})
        assert wide.size > 60
        few = search(None, log=log, trials=20)
        more = search(None, log=log, trials=40)
        assert more[:20] == few
        assert more == search(None, trials=40)

    @pytest.mark.parametrize("kept", [0, 1, RECORDED_AT_ONCE])
    def test_what_is_lost_of_the_proposals_is_proposed_again(self, kept: int) -> None:
        log = MemoryLog()
        whole = search(None, log=log, trials=40)
        for recorded in [e for e in log._events if e["event"] == "proposed"]:
            recorded["candidates"] = recorded["candidates"][:kept]
        assert search(None, log=log, trials=40, score=None) == whole

    @pytest.mark.parametrize("genes", ["", "x", "0", "0-" * 40 + "0", "9" * 30])
    def test_proposals_that_are_none_of_the_space_are_made_again(self, genes: str) -> None:
        log = MemoryLog()
        whole = search(None, log=log, trials=20)
        recorded = next(e for e in log._events if e["event"] == "proposed")
        recorded["candidates"][7][0] = genes
        assert search(None, log=log, trials=20, score=None) == whole


def open_and_search(url: str, name: str, begin, problems) -> None:
    begin.wait()
    try:
        search(url, name, trials=6)
    except BaseException as problem:
        problems.put(f"{type(problem).__name__}: {problem}")


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(3))
def test_searches_that_start_at_once_in_one_new_file_all_work(tmp_path: Path, round_: int) -> None:
    url, begin, problems = f"sqlite:///{tmp_path}/shared.db", SERVER.Event(), SERVER.Queue()
    searches = [SERVER.Process(target=open_and_search, args=(url, f"s{n}", begin, problems)) for n in range(7)]
    for process in searches:
        process.start()
    begin.set()
    for process in searches:
        process.join()
    assert problems.empty(), problems.get()
    assert all(len(StoredStudy(url, f"s{n}").outcomes) == 6 for n in range(7))
    assert [path.name for path in tmp_path.iterdir()] == ["shared.db"]


def test_threads_that_open_one_new_file_at_once_all_get_their_study(tmp_path: Path) -> None:
    url, begin, opened = f"sqlite:///{tmp_path}/shared.db", threading.Barrier(6), list[str]()

    def open_it(name: str) -> None:
        begin.wait()
        StoredStudy(url, name)
        opened.append(name)

    threads = [threading.Thread(target=open_it, args=(f"study {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(opened) == 6


class TestDamage:
    """The log and the study back each other up."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> Run:
        run = Run.open(tmp_path / "run", config={"seed": 0}, space_yaml=dump(SPACE))
        search(run.storage_url, log=run)
        return run

    @pytest.mark.parametrize(
        "statement",
        [
            "update trial_values set value = value + 0.5 where objective = 0 and trial_id = 3",
            "update trial_user_attributes set value_json = '0.25' where key = 'proxy_loss' and trial_id = 3",
            "update trial_user_attributes set value_json = '\"abc\"' where key = 'id' and trial_id = 3",
            "update trial_user_attributes set value_json = '[' where trial_id = 3",
            "update trial_user_attributes set value_json = null where trial_id = 3",
            "update trials set state = 'FAIL' where trial_id = 3",
            "update trials set state = 'nonsense' where trial_id = 3",
            "delete from trial_values where trial_id = 3",
            "update study_directions set direction = 'nonsense'",
            "drop table trial_values",
        ],
    )
    def test_a_study_that_is_not_as_it_was_stored_is_set_aside_and_filled_again(self, run: Run, statement: str) -> None:
        before = StoredStudy(run.storage_url, "search").outcomes
        with sqlite3.connect(run.path / "study.db") as database:
            database.execute(statement)
        database.close()
        stored = open_studies(run, None).search
        assert (run.path / "study.db.damaged-1").exists()
        assert "study.db.damaged-1" in run.events()[-1]["message"]
        found = Search(
            SPACE, BUDGET, sampler=SAMPLERS["evolution"], seed=0, name="search", stored=stored, journal=Journal(run)
        ).run(12, InProcess(None).submit, progress=silent, note=lambda candidate: None)  # type: ignore[arg-type]
        assert {c.id: c.score for c in found} == before == StoredStudy(run.storage_url, "search").outcomes

    def test_a_line_of_the_log_that_is_damaged_is_taken_from_the_study(self, run: Run) -> None:
        log, before = run.path / "log.jsonl", StoredStudy(run.storage_url, "search").outcomes
        text = log.read_text()
        line = next(line for line in text.splitlines() if '"scored"' in line)
        log.write_text(text.replace(line, line.replace('"proxy_loss": 0.', '"proxy_loss": 9.')))
        assert len(Journal(run)._outcomes) == len(before) - 1
        with run.lock():
            journal = Journal(run)
            journal.learn(open_studies(run, None).search.outcomes, search="search")
        assert Journal(run)._outcomes == before
        assert (run.path / "log.jsonl.damaged-1").read_text() != text

    def test_of_a_run_without_checksums_that_disagree_nobody_decides_in_silence(self, run: Run) -> None:
        log = run.path / "log.jsonl"
        lines = [line.partition(', "after"')[0] + "}" for line in log.read_text().splitlines()]
        log.write_text("\n".join(lines).replace('"proxy_loss": 0.', '"proxy_loss": 9.', 1) + "\n")
        (run.path / "sums.json").unlink()
        with pytest.raises(RunError, match=r"study\.db: study search: candidate .* by the log; take the line of log"):
            open_studies(run, None)

    def test_a_shared_storage_that_is_damaged_is_left_to_its_owners(self, run: Run, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/shared.db"
        search(url, f"{run.label}-search", log=run)
        with sqlite3.connect(tmp_path / "shared.db") as database:
            database.execute("update trial_values set value = 0.5 where objective = 0")
        database.close()
        with pytest.raises(DamagedStorage, match=r"shared\.db: cannot be used"):
            open_studies(run, url)
        assert (tmp_path / "shared.db").exists()


SERVERS = ["postgresql+psycopg", "postgresql", "mysql+pymysql", "mariadb", "oracle+oracledb", "mssql+pyodbc"]
UNCLEAR = [
    "postgresql://me:{}@x@host/db",
    "postgresql://me:a{}/b@host/db",
    "postgresql://me:{}?x@host/db",
    "postgresql://me:{}#x@host/db",
    "postgresql://me:{}",
    "postgresql://me:{}/db",
    "postgresql://me {}@host/db",
    "postgresql://me,{}@host/db",
    "postgresql://me;{}@host/db",
    "postgresql:/me:{}@host/db",
    "postgresql:me:{}@host/db",
    "postgresql//me:{}@host/db",
    "postgresql:\\\\me:{}@host\\db",
    "me:{}@host/db",
    "://me:{}@host/db",
    "{}",
    "{}@host",
    "postgres://me:{}@host/db",
    "POSTGRESQL://me:{}@host/db",
    " postgresql://me:{}@host/db",
    "postgresql://me:{} @host/db",
    "postgresql://me:{}\n@host/db",
    "'postgresql://me:{}@host/db'",
    "postgresql://[{}]/db",
    "host=h user=me password={}",
    "jdbc:postgresql://host/db?user=me&password={}",
    "postgresql://me:p:{}@host/db",
    "postgresql://me@{}@host/db",
    "postgresql:///me:{}@host/db",
    "sqlite://me:{}@host/db",
    "sqlite+pysqlcipher://:{}@/f.db",
    "redis://:{}@host",
    "http://me:{}@host/db",
    "postgresql://me%3A{}:x y@host/db",
    "postgresql+psycopg:/ /me:{}@host/db",
]


class TestUrls:
    @pytest.mark.parametrize("form", UNCLEAR)
    def test_of_what_is_no_clear_url_nothing_is_told(self, form: str) -> None:
        url = form.format(SECRET)
        with pytest.raises(RunError) as caught:
            StoredStudy(url, "search")
        assert SECRET not in str(caught.value)
        assert "must be the URL of a database, as in postgresql+psycopg://user:password@host/name" in str(caught.value)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("server", SERVERS)
    @pytest.mark.parametrize(
        ("part", "secrets"),
        [
            (f"me:{SECRET}@127.0.0.1:1/db", [SECRET]),
            (f"me:a%40{SECRET}@h.example/db", [f"a%40{SECRET}", f"a@{SECRET}"]),
            (f"h/db?password={SECRET}", [SECRET]),
            (f":1/db?x=one&pw={SECRET}", [SECRET, "one"]),
            (f"me:{SECRET}@[::1]:1/db", [SECRET]),
        ],
    )
    def test_of_a_clear_url_all_is_told_but_what_may_be_a_secret(self, server: str, part: str, secrets: list) -> None:
        url = f"{server}://{part}"
        check_url(url)
        assert shown(url).startswith(f"{server}://")
        assert SECRET not in shown(url)
        for secret in secrets:
            said = without_secrets_of(url, f"cannot connect with {secret}, that is {url}")
            assert not [each for each in secrets if each in said]

    @pytest.mark.parametrize("server", SERVERS[:2])
    def test_what_the_database_says_tells_no_secret(self, server: str) -> None:
        for url in (f"{server}://me:{SECRET}@127.0.0.1:1/db", f"{server}://me@127.0.0.1:1/db?password={SECRET}"):
            with pytest.raises(RunError, match=r"cannot be used|is not installed") as caught:
                StoredStudy(url, "search")
            assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        "path", ["study.db", "runs/a b/study.db", "/tmp/x.sqlite3", "sqlite://study.db", "sqlite:study.db"]
    )
    def test_a_path_is_answered_with_its_url(self, path: str) -> None:
        with pytest.raises(RunError) as caught:
            StoredStudy(path, "search")
        url = f"sqlite:///{path.removeprefix('sqlite://').removeprefix('sqlite:')}"
        assert str(caught.value) == f"storage {path}: must be the URL of a database; for a file write {url}"
        check_url(url)

    def test_waiting_for_a_server_tells_no_secret(self, monkeypatch) -> None:
        told: list[str] = []
        url = f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db?password={SECRET}"
        monkeypatch.setattr(storage, "check_url", lambda url: told.append(shown(url)))
        with pytest.raises(RunError):
            StoredStudy(url, "search")
        assert told == ["postgresql+psycopg://me:***@127.0.0.1/db?***"]
