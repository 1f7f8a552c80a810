"""The run folder of a search -> what its page and its figures need of it."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bnas.amounts import percent
from bnas.cost.budget import Budget
from bnas.data.facts import Guessing
from bnas.report.classes import Classes, read_classes
from bnas.report.final_training import final_sentence, teacher_accuracy
from bnas.report.tables import ranking_table, retrained_table
from bnas.runs import Run
from bnas.runs.contents import CONFIG
from bnas.runs.documents import taking
from bnas.searcher.ranking import Ranking
from bnas.space.arch import Architecture
from bnas.space.space import SearchSpace, genes_of
from bnas.spec import parse, parse_yaml

CANDIDATE_COLUMNS = (
    "number", "id", "status", "proxy_accuracy", "proxy_loss",
    "ops", "bops", "flops", "bytes", "parameters", "genes",
)  # fmt: skip
_NUMBERS = ("proxy_accuracy", "proxy_loss", "ops", "bytes")  # columns of them, which a page says


class Work(NamedTuple):
    """When the run was worked on, by its log: times in UTC, seconds from the first to the last entry of each start."""

    first: str
    last: str
    starts: int
    seconds: float


@dataclass(frozen=True)
class Findings:
    """What a run has found so far. A table that is not there yet is empty, `manifest` and `work` are None."""

    path: Path
    config: dict[str, Any]
    space: SearchSpace
    budget: Budget
    candidates: pd.DataFrame
    twin: pd.DataFrame
    front: pd.DataFrame
    searched: bool  # the search has ended
    retrained: pd.DataFrame
    reused: dict[str, str]  # networks that another search trained alone, by id: the folder of that
    subject: Architecture | None  # the best network; before there is one, the leading candidate
    manifest: dict[str, Any] | None  # of the best network
    environment: dict[str, Any]
    work: Work | None
    teacher: str  # what the teacher of the networks gets right of the held-out images, once it is known
    losses: dict[str, dict[int, float]]  # training loss of each epoch, by phase of training
    ranking: dict[str, Any] | None  # how far the proxy can be trusted, once it was checked
    ranked: pd.DataFrame  # the networks that it was checked with
    classes: Classes | None  # what the best network takes the test images for

    @property
    def folder(self) -> Path:
        """The path of the run, with a name also where it is given as the current folder."""
        return self.path if self.path.name.strip(".") else Path(os.path.abspath(self.path))

    @property
    def best_id(self) -> str | None:
        """The id of the best network, once there is one."""
        return self.subject.id if self.subject and self.manifest else None


def read_findings(run: Run) -> Findings:
    """Return what a run has found so far.

    Raises:
        RunError, SpecError: a file that is there is damaged, or one that must be there is not.
    """
    events = run.events()
    searched = run.has_table("pareto") and not _goes_on(run, events)
    candidates, twin = (_table(run, name, needed=searched) for name in ("candidates", "twin"))
    subject, manifest = _subject(run, run.space, candidates)
    return Findings(
        path=run.path,
        config=run.config,
        space=run.space,
        budget=_budget(run),
        candidates=candidates,
        twin=twin,
        front=_table(run, "pareto", needed=True) if searched else front_so_far(candidates),
        searched=searched,
        retrained=_retrained(run),
        reused={
            name: event["taken_from"] for event in events if event["event"] == "reused" for name in event["networks"]
        },
        subject=subject,
        manifest=manifest,
        environment=_environment(events, manifest),
        work=work_of(events),
        teacher=_teacher(events),
        losses=losses_of(events),
        ranking=_ranking(run),
        ranked=_ranked(run),
        classes=read_classes(run) if manifest else None,
    )


def _goes_on(run: Run, events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a search that had ended was asked for more trials, and has not ended again."""
    ended = [event for event in events if event["event"] == "retrained"]
    trials = run.config.get("trials")
    return bool(ended) and ended[-1].get("trials", trials) != trials


def paid_rows(candidates: pd.DataFrame) -> pd.DataFrame:
    """Return the scored candidates in the order in which they were paid for."""
    return candidates[candidates["status"] == "paid"]


def front_so_far(candidates: pd.DataFrame) -> pd.DataFrame:
    """Return the Pareto front over proxy loss and ops of a search that is under way, cheapest first."""
    rows = paid_rows(candidates).astype({"proxy_loss": float, "ops": float}).sort_values(["ops", "proxy_loss"])
    better = rows["proxy_loss"] < rows["proxy_loss"].cummin().shift(fill_value=math.inf)
    return rows[better]


def architecture_of(space: SearchSpace, row: "pd.Series[Any]") -> Architecture:
    """Return the architecture of a row of a table of candidates."""
    return space.architecture(genes_of(str(row["genes"])))


def _budget(run: Run) -> Budget:
    with taking(path := run.file(CONFIG)):
        return Budget.parse(run.config.get("budget", {}), source=f"{path}: budget")


def _table(run: Run, name: str, *, needed: bool) -> pd.DataFrame:
    table = run.read_table(name) if needed or run.has_table(name) else pd.DataFrame()
    if table.empty:
        return pd.DataFrame(columns=list(CANDIDATE_COLUMNS))
    with taking(run.file(f"{name}.csv")):
        for column in _NUMBERS:
            table[column].astype(float)
        if not table["genes"].astype(str).str.fullmatch(r"\d+(-\d+)*").all() or "id" not in table:
            raise ValueError("a candidate is none")
    return table


def _retrained(run: Run) -> pd.DataFrame:
    table = run.read_table("retrained") if run.has_table("retrained") else pd.DataFrame()
    with taking(run.file("retrained.csv")):
        retrained_table(table)
    return table


def _ranking(run: Run) -> dict[str, Any] | None:
    if not run.has_table("ranking"):
        return None
    found = run.read_ranking()
    with taking(run.file("ranking.json"), hint="run bnas rank-check on this run folder"):
        ranking_table(found)
        Ranking.known(found)
        str(found["sentence"])
    return found


def _ranked(run: Run) -> pd.DataFrame:
    if not run.has_table("ranking"):
        return pd.DataFrame()
    table = run.read_table("ranking")
    with taking(run.file("ranking.csv"), hint="run bnas rank-check on this run folder"):
        for column in ("proxy_loss", "test_accuracy", "ops"):
            table[column].astype(float)
    return table


def _subject(
    run: Run, space: SearchSpace, candidates: pd.DataFrame
) -> tuple[Architecture | None, dict[str, Any] | None]:
    if run.best.was_written():
        text, _, manifest = run.best.read()
        with taking(run.best.folder / "manifest.json"):
            check_manifest(manifest)
        source = str(run.best.folder / "architecture.yaml")
        return parse(Architecture, parse_yaml(text, source=source), source=source), manifest
    scored = paid_rows(candidates)
    if scored.empty:
        return None, None
    leading = scored.sort_values("proxy_loss", kind="stable").iloc[0]
    with taking(run.file("candidates.csv")):
        return architecture_of(space, leading), None


def check_manifest(manifest: dict[str, Any]) -> None:
    """Take from a manifest what a page says of it.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it has not the form that it must have.
    """
    for part in ("accuracy", "cost"):
        {name: math.isfinite(value) for name, value in manifest[part].items() if value is not None}
    percent(manifest["accuracy"]["test"])
    final_sentence(manifest)
    guessing = Guessing.known(manifest)
    if guessing:
        guessing.remark(manifest["accuracy"]["test"])


def _environment(events: list[dict[str, Any]], manifest: dict[str, Any] | None) -> dict[str, Any]:
    """Return where the best network was made; before there is one, where the run was last driven."""
    driven = [event["environment"] for event in events if isinstance(event.get("environment"), dict)]
    made = (manifest or {}).get("versions")
    return made or (driven[-1] if driven else {})


def _teacher(events: list[dict[str, Any]]) -> str:
    said = [teacher_accuracy(event) for event in events if event.get("event") == "teacher"]
    return next(filter(None, reversed(said)), "")


def losses_of(events: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """Return the training loss of each epoch by phase; of an epoch trained again after a stop, the last."""
    losses: dict[str, dict[int, float]] = {}
    for event in events:
        match event:
            case {"event": "epoch", "phase": str(phase), "epoch": int(epoch), "loss": float(loss)}:
                losses.setdefault(phase, {})[epoch] = loss
    return losses


def work_of(events: list[dict[str, Any]]) -> Work | None:
    """Return when a run was worked on; the time between two starts does not count. None where the log is empty."""
    times = [(event.get("event") == "driver", datetime.fromisoformat(event["time"])) for event in events]
    if not times:
        return None
    starts = [index for index, (begins, _) in enumerate(times) if begins]
    ends = [*[index - 1 for index in starts[1:]], len(times) - 1]
    seconds = sum((times[end][1] - times[start][1]).total_seconds() for start, end in zip(starts, ends, strict=False))
    first, last = (f"{times[index][1]:%Y-%m-%d %H:%M}" for index in (0, -1))
    return Work(first, last, len(starts), seconds)
