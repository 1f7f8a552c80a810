"""A searched run -> can its proxy be trusted? Some candidates are trained alone, and the two orders compared."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bnas.api.request import SearchRequest, load_matching, pick_device
from bnas.cost import Budget
from bnas.data import DataSet
from bnas.errors import RunError
from bnas.progress import Progress, silent
from bnas.ranking import Ranking, Table, dealt, judge, train_alone
from bnas.ranking.table import training
from bnas.report import write_ranking_figures
from bnas.runs import Run
from bnas.space import Genes, SearchSpace
from bnas.spec import parse, parse_yaml
from bnas.train import evaluate, train_supernet

PROXY, LOSS, AS_TRAINED, PARAMETERS = (
    "proxy accuracy", "proxy loss", "batch norm as trained", "parameters"
)  # fmt: skip


@dataclass(frozen=True)
class RankCheck:
    """How well the scores of a run rank its candidates."""

    run: Run
    networks: pd.DataFrame  # one a row: costs, scores, accuracy
    ranking: Ranking


def check_ranking(
    run: str | Path,
    *,
    networks: int = 24,
    repeated: int = 8,
    table: str | Path | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> RankCheck:
    """Train some of a run's candidates alone, and say whether its proxy ranks them as their accuracy does.

    Called again it trains what is missing; with more networks the sample grows. Written to the run folder: alone.csv,
    one training a row; ranking.csv, one network a row; ranking.json; figures/ranking.png.

    Args:
        run: the folder of a run whose candidates were scored.
        networks: candidates in the sample, drawn evenly from the cheapest to the dearest.
        repeated: how many of them are trained from a second seed, for the noise of the accuracy itself.
        table: a CSV file of networks trained alone by the same recipe; those it has are taken first, and not trained.
        device: as in `search`.
        progress: may raise `Stopped`, as in `search`.
    Raises:
        Stopped: progress asked for it.
        BnasError: one line that says where, which rule, which values, what to do.
    """
    looked_at = Run.read(run)
    opened = Run.open(run, config=looked_at.config, space_yaml=looked_at.space_yaml)
    known = Table.read(table) if table else None
    with opened.lock():
        check = _Check(opened, _request(opened, device), known, progress)
        chosen = _sample(opened, networks, known)
        wanted = [(candidate, 1) for candidate in chosen] + [(candidate, 2) for candidate in chosen[:repeated]]
        for number, (candidate, times) in enumerate(wanted, start=1):
            check.train(candidate, times=times, label=f"alone {number} of {len(wanted)}")
        rows, ranking = check.judged(chosen)
        opened.write_table("ranking", rows)
        opened.write_ranking(ranking.as_dict())
        write_ranking_figures(rows, ranking, opened.figures)
    return RankCheck(opened, rows, ranking)


def _request(run: Run, device: str | None) -> SearchRequest:
    """Return what the run was asked."""
    config = run.config
    space = parse(SearchSpace, parse_yaml(run.space_yaml, source="space.yaml"), source="space.yaml")
    budget = Budget.parse(config["budget"], source="config.yaml: budget")
    return SearchRequest(space, config["data"], budget, config["sampler"], config["seed"], pick_device(device))


def _sample(run: Run, networks: int, known: Table | None) -> list[dict[str, Any]]:
    """Return scored candidates, spread over ops; those in the table come first."""
    candidates = run.read_table("candidates")
    paid = candidates[candidates["status"] == "paid"].drop_duplicates("id")
    if len(paid) < 3:
        raise RunError(f"{run.path}: {len(paid)} candidates were scored; a ranking needs at least 3: search on")
    order = _records(paid.iloc[dealt(paid["ops"].tolist(), seed=run.config["seed"])])
    if known is not None:
        order.sort(key=lambda row: row["id"] not in known)  # stable: the others stay spread over ops
    return order[:networks]


class _Check:
    """The trainings of one run's candidates, and what they say of its scores."""

    def __init__(self, run: Run, request: SearchRequest, known: Table | None, progress: Progress) -> None:
        self._run, self._request, self._progress = run, request, progress
        self._known = _records(known.trainings) if known else []
        self._trainings = _records(run.read_table("alone")) if run.has_table("alone") else []
        self._data: DataSet | None = None

    def train(self, candidate: dict[str, Any], *, times: int, label: str) -> None:
        """Train a candidate from one seed after another until it was so many times, here or in the table."""
        while len(seen := {row["seed"] for row in self._every() if row["id"] == candidate["id"]}) < times:
            fresh = (seed for seed in itertools.count(self._request.seed) if seed not in seen)
            self._train(_genes(candidate), next(fresh), label)

    def _train(self, genes: Genes, seed: int, label: str) -> None:
        def labelled(phase: str, done: int, total: int, note: str = "") -> None:
            self._progress(label, done, total, note)

        arch, recipe = self._request.space.architecture(genes), self._request.settings.retrain.recipe
        name = f"alone/{arch.id}-{seed}"
        reached = train_alone(
            arch, recipe, self._images(), seed=seed, store=self._run, device=self._request.device, name=name,
            progress=labelled,
        )  # fmt: skip
        self._trainings.append(training(arch, genes, seed, reached))
        self._run.write_table("alone", self._trainings)
        for stage in range(len(recipe.stages)):  # what it reached is written down: its weights are not needed
            self._run.discard_checkpoint(f"{name}-{stage}")

    def judged(self, chosen: Sequence[dict[str, Any]]) -> tuple[pd.DataFrame, Ranking]:
        """Return the networks with scores and accuracy, and how well each score ranks them."""
        ids = {row["id"] for row in chosen}
        table = Table.of(pd.DataFrame([row for row in self._every() if row["id"] in ids]), name="alone")
        accuracy = table.networks[["validation_accuracy", "test_accuracy"]]
        rows = pd.DataFrame(chosen).drop(columns=["number", "status"]).set_index("id")
        rows = rows.assign(as_trained_accuracy=self._as_trained(chosen)).join(accuracy).reset_index()
        scores = {
            PROXY: rows["proxy_accuracy"], LOSS: -rows["proxy_loss"], AS_TRAINED: rows["as_trained_accuracy"],
            PARAMETERS: rows["parameters"],
        }  # fmt: skip
        repeated = table.repeated()
        ranking = judge(
            scores, rows["test_accuracy"], rows["ops"], proxy=PROXY, seed=self._request.seed,
            repeated=repeated if len(repeated[0]) > 1 else None,
        )  # fmt: skip
        return rows, ranking

    def _as_trained(self, chosen: Sequence[dict[str, Any]]) -> list[float]:
        """Return the proxy accuracy with the batch-norm statistics that training left, not set anew."""
        request, images = self._request, self._images()
        supernet = train_supernet(  # only read back: it is trained
            request.space, request.settings.supernet, images, seed=request.seed, store=self._run,
            device=request.device, progress=self._progress,
        )  # fmt: skip
        scoring = request.settings.scoring
        batches = images.validation.batches(scoring.batch, augment=False, drop_last=False, device=request.device)
        held_out = list(itertools.islice(batches, math.ceil(scoring.validation_images / scoring.batch)))
        return [evaluate(supernet.extract(request.space.architecture(_genes(row))), held_out)[0] for row in chosen]

    def _images(self) -> DataSet:
        if self._data is None:
            self._data = load_matching(self._request)
        return self._data

    def _every(self) -> list[dict[str, Any]]:
        return self._known + self._trainings


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _genes(row: dict[str, Any]) -> Genes:
    return tuple(map(int, row["genes"].split("-")))
