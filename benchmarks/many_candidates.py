"""What a candidate costs the driver of a search, the last of 5,000 as well as the first; and to take it up again.

    python benchmarks/many_candidates.py [--quick] [--json]

The search is that of a run, on the space of the demo, with a scorer that takes no time: what is measured is proposing,
the log, and the study in SQLite. Times are milliseconds of the processor. The first claim compares the mean of the last
500 candidates with that of the first 500. The second takes up the finished search again, as the same command does where
its tables are gone, and compares it with the five seconds that this may take. The third compares a candidate of the
first 500 with what Optuna alone takes to store one by `Study.add_trial`, in the same run.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
from claim import Claim, main
from optuna.trial import TrialState, create_trial

from bnas.cost.budget import Budget
from bnas.progress import silent
from bnas.runs import Run
from bnas.searcher.candidate import Candidate, Score
from bnas.searcher.executors.in_process import InProcess
from bnas.searcher.journal import Journal
from bnas.searcher.sampler import distributions, to_params
from bnas.searcher.samplers import SAMPLERS
from bnas.searcher.storage import StoredStudy
from bnas.searcher.study import Search
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace
from bnas.spec import dump

SPACE = Path(__file__).parents[1] / "search_spaces" / "digits.yaml"
PART = 500  # candidates that are averaged
REOPENED = 5_000.0  # milliseconds that taking it up again may take
ALONE = 50  # trials that Optuna stores for comparison


def measure(quick: bool) -> Iterator[Claim]:
    """Search once, and once more."""
    space = SearchSpace.read(SPACE)
    trials = 1_500 if quick else 5_000
    with TemporaryDirectory() as folder:
        first, last, found = searched(space, Path(folder), trials)
        what = f"a candidate of the last {PART} of {trials:,}, against one of the first {PART}"
        yield Claim(what, last, first, 1.3)
        again = _processor_time(lambda: _search(space, Path(folder), trials).run(trials, _no_score, **_quiet()))
        yield Claim(f"taking up a search of {trials:,} candidates again, against five seconds", again, REOPENED, 1.0)
        alone = stored_by_optuna(space, Path(folder), found[:ALONE])
        yield Claim(f"a candidate of the first {PART}, against storing it as Optuna does", first, alone, 1.0)


def searched(space: SearchSpace, folder: Path, trials: int) -> tuple[float, float, list[Candidate]]:
    """Return what one of the first candidates took, and one of the last, and all of them."""
    times = list[float]()
    search = _search(space, folder, trials)
    begun = time.process_time()
    quiet = _quiet() | {"note": lambda candidate: times.append(1e3 * (time.process_time() - begun))}
    found = search.run(trials, InProcess(_score).submit, **quiet)
    return times[PART - 1] / PART, (times[-1] - times[-1 - PART]) / PART, found


def stored_by_optuna(space: SearchSpace, folder: Path, candidates: list[Candidate]) -> float:
    """Return what Optuna takes to store one candidate."""
    study = optuna.create_study(storage=f"sqlite:///{folder}/alone.db", directions=["maximize", "minimize"])
    kinds = distributions(space)
    trials = [
        create_trial(
            state=TrialState.COMPLETE, params=to_params(space, one.genes), distributions=kinds,
            values=[0.5, one.cost.ops], user_attrs={"id": one.id, "cost": one.cost.as_dict(), "proxy_loss": 0.5},
        )
        for one in candidates
    ]  # fmt: skip
    return _processor_time(lambda: study.add_trials(trials)) / len(trials)


def _search(space: SearchSpace, folder: Path, trials: int) -> Search:
    run = Run.open(folder / "run", config={"trials": trials}, space_yaml=dump(space))
    return Search(
        space, Budget.parse(space.search.budget), sampler=SAMPLERS["evolution"], seed=0, name="search",
        stored=StoredStudy(run.storage_url, "search"), journal=Journal(run),
    )  # fmt: skip


def _score(arch: Architecture) -> Score:
    """Return a score without any work, which only the architecture decides."""
    value = sum(stage.width * stage.depth + 3 * stage.experts - stage.groups for stage in arch.stages) / 1000
    return Score(value, 1 - value)


def _no_score(arch: Architecture) -> "object":
    raise AssertionError(f"{arch.id} is paid for twice")


def _quiet() -> dict[str, object]:
    return {"progress": silent, "note": lambda candidate: None}


def _processor_time(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return 1e3 * (time.process_time() - begun)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main(measure, __doc__.splitlines()[0])
