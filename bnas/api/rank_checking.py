"""A searched run -> can its proxy be trusted? Some candidates are trained alone, and the two orders compared."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from bnas import report
from bnas.api.opening import load_matching
from bnas.api.progress_bars import say_images, watched
from bnas.api.request import SearchRequest, name_of, pick_device
from bnas.api.result import SearchResult, request_of
from bnas.api.teacher import teacher_in
from bnas.data import DataSet
from bnas.errors import LookupFailed, RunError
from bnas.progress import Progress
from bnas.runs import Run
from bnas.runs.contents import TARGETS
from bnas.runs.documents import records
from bnas.searcher.ranking import Ranking, Table, Terms, dealt, judge, train_alone
from bnas.searcher.ranking.table import training
from bnas.searcher.score import scored_on
from bnas.space.space import Genes, genes_of
from bnas.supernet import Supernet
from bnas.train import evaluate
from bnas.train.oneshot import load_supernet
from bnas.train.staged import labelled

Row = dict[str, Any]
LOSS, ACCURACY, AS_TRAINED, PARAMETERS = (
    "proxy loss", "proxy accuracy", "batch norm as trained", "parameters"
)  # fmt: skip
TRAINED_EVENT = "trained alone"  # the event of a training
EPOCHS = "epochs"  # of a training; older runs, which have no such column, trained for those of the recipe


@dataclass(frozen=True)
class RankCheck:
    """How well the scores of a run rank its candidates."""

    run: Run
    networks: pd.DataFrame  # one a row: costs, scores, accuracy
    ranking: Ranking


def check_ranking(
    run: str | Path,
    *,
    data: Any = None,
    networks: int = 24,
    repeated: int = 8,
    epochs: int | None = None,
    table: str | Path | None = None,
    device: str | None = None,
    trust: bool = False,
    progress: Progress | bool = True,
) -> RankCheck:
    """Train some of a run's candidates alone, and say whether its proxy loss ranks them as their accuracy does.

    They begin with fresh weights, also where the run's finalists inherit theirs. Called again it trains what is
    missing; with more networks the sample grows. Written to the run folder: alone.csv, one training a row; ranking.csv,
    one network a row; ranking.json; figures/ranking.png; report.html, anew.

    Args:
        run: the folder of a run whose candidates were scored.
        data: what the run was given, where that was no name or path.
        networks: candidates in the sample, drawn evenly from the cheapest to the dearest.
        repeated: how many of them, 0 or 2 and more, are trained twice, for the noise of accuracy itself.
        epochs: of each training, where the recipe's own take too long; then the verdict is of networks trained so long.
        table: a CSV file of benchmarks/table.py, of networks trained alone on the same data by the same recipe; those
            it has are taken first, and not trained.
        device: as in `search`.
        trust: run code that the run names, as `file.py:attr`.
        progress: as in `search`.
    Raises:
        Stopped: progress asked for it.
        BnasError: one line that says where, which rule, which values, what to do.
    """
    if repeated == 1:
        raise RunError("repeated: one network trained twice has no order to compare; take 2 at least, or 0")
    looked_at = Run.read(run)
    if looked_at.has_targets:
        raise RunError(f"{run}: is a search under several targets; give the run of one of them, below {run}/{TARGETS}")
    opened = Run.open(run, config=looked_at.config, space_yaml=looked_at.space_yaml)
    whole = request_of(opened, SearchResult(opened).space, data=data, device=pick_device(device), trust=trust)
    request = _lasting(whole, epochs)
    known = _known(table, request)
    with opened.lock(), watched(progress) as tell:
        teacher = teacher_in(opened, request.settings, trust=trust)
        usual = whole.settings.retrain.recipe.epochs
        supernet = load_supernet(request.space, store=opened).to(request.device)
        check = _Check(opened, request, load_matching(request), tell, teacher, supernet, usual)
        say_images(check.images, progress)
        chosen = _sample(opened, networks, known)
        trainings = _trained(check, chosen, repeated, known)
        rows = _networks(check, chosen, trainings)
        ranking = _judged(check, rows, trainings)
        opened.write_ranking(ranking.as_dict())
        opened.write_table("ranking", rows)  # the last of the two: where it is, both are
        report.write_report(opened)
    return RankCheck(opened, rows, ranking)


@dataclass(frozen=True)
class _Check:
    """What a check works with."""

    run: Run
    request: SearchRequest
    images: DataSet
    progress: Progress
    teacher: nn.Module | None
    supernet: Supernet
    usual: int  # epochs of the run's own recipe

    @property
    def epochs(self) -> int:
        """Epochs of each training."""
        return self.request.settings.retrain.recipe.epochs

    def checkpoint(self, arch_id: str, seed: int) -> str:
        """Return the name under which a training is kept."""
        return f"alone/{arch_id}-{seed}" + ("" if self.epochs == self.usual else f"-{self.epochs}")

    def train(self, genes: Genes, seed: int, label: str) -> Row:
        """Return the training of a network from a seed."""
        arch, recipe = self.request.space.architecture(genes), self.request.settings.retrain.recipe
        reached = train_alone(
            arch, recipe, self.images, seed=seed, store=self.run, device=self.request.device,
            name=self.checkpoint(arch.id, seed), teacher=self.teacher, progress=labelled(self.progress, label, arch.id),
        )  # fmt: skip
        return training(arch, genes, seed, reached) | {EPOCHS: self.epochs}

    def as_trained(self, candidates: Sequence[Row]) -> list[float]:
        """Return proxy accuracies with the batch-norm statistics that training left, not set anew."""
        request, scoring = self.request, self.request.settings.scoring
        scored = scored_on(self.images, scoring, seed=request.seed)
        held_out = list(scored.batches(scoring.batch, augment=False, drop_last=False, device=request.device))
        return [
            evaluate(self.supernet.extract(request.space.architecture(genes_of(row["genes"]))), held_out)[0]
            for row in candidates
        ]


def _lasting(request: SearchRequest, epochs: int | None) -> SearchRequest:
    """Return what is asked for, with trainings that last so long."""
    if epochs is None:
        return request
    alone = request.settings.retrain
    return request.retraining(alone.model_copy(update={"recipe": alone.recipe.lasting(epochs)}))


def _known(table: str | Path | None, request: SearchRequest) -> Table | None:
    """Return the table of networks that were trained as the run's own are."""
    if table is None:
        return None
    if request.settings.teacher:
        raise LookupFailed(
            f"table {table}: its networks had no teacher, but those of the run had {request.settings.teacher.model}; "
            "leave the table out"
        )
    Terms.of(name_of(request.data), request.settings).check(Path(table))
    return Table.read(table)


def _sample(run: Run, networks: int, known: Table | None) -> list[Row]:
    """Return scored candidates, spread over ops; those in the table come first."""
    candidates = run.read_table("candidates")
    paid = candidates[candidates["status"] == "paid"].drop_duplicates("id")
    if len(paid) < 3:
        raise RunError(f"{run.path}: {len(paid)} candidates were scored; a ranking needs at least 3: search on")
    order = records(paid.iloc[dealt(paid["ops"].tolist(), seed=run.config["seed"])])
    if known is not None:
        order.sort(key=lambda row: row["id"] not in known)  # stable: the others stay spread over ops
    return order[:networks]


def _trained(check: _Check, chosen: Sequence[Row], repeated: int, known: Table | None) -> list[Row]:
    """Return the trainings of the table and of the run, with those that were missing: each is kept as it ends."""
    run, first = check.run, check.request.seed
    looked_up = records(known.trainings) if known else []
    kept = _own(run, check.usual)
    own = [row for row in kept if row[EPOCHS] == check.epochs]
    for row in own:  # of one that was killed before it could
        _discard(check, row["id"], row["seed"])
    wanted = [(candidate, 1) for candidate in chosen] + [(candidate, 2) for candidate in chosen[:repeated]]
    for number, (candidate, times) in enumerate(wanted, start=1):
        for seed in _missing_seeds([*looked_up, *own], candidate["id"], times=times, first=first):
            own.append(check.train(genes_of(candidate["genes"]), seed, f"alone {number} of {len(wanted)}"))
            kept.append(own[-1])
            run.log(TRAINED_EVENT, training=own[-1])
            run.write_table("alone", kept)
            _discard(check, candidate["id"], seed)
    return [*looked_up, *({name: row[name] for name in row if name != EPOCHS} for row in own)]


def _own(run: Run, usual: int) -> list[Row]:
    """Return the trainings of a run, of any length: those of its table, or where that is damaged, of its log."""
    found = _kept(run)
    return [row | {EPOCHS: usual if pd.isna(row.get(EPOCHS)) else int(row[EPOCHS])} for row in found]


def _kept(run: Run) -> list[Row]:
    try:
        return records(run.read_table("alone")) if run.has_table("alone") else []
    except RunError as problem:
        logged = [event["training"] for event in run.events() if event.get("event") == TRAINED_EVENT]
        if not logged:
            raise
        run.warn(f"{problem} (made anew of the log)")
    run.write_table("alone", logged)
    return records(run.read_table("alone"))


def _discard(check: _Check, arch_id: str, seed: int) -> None:
    """Remove the weights of a network whose accuracy is known: they are not needed."""
    for stage in range(len(check.request.settings.retrain.recipe.stages)):
        check.run.discard_checkpoint(f"{check.checkpoint(arch_id, seed)}-{stage}")


def _missing_seeds(trainings: Sequence[Row], arch_id: str, *, times: int, first: int) -> list[int]:
    """Return the seeds from which a network is still to be trained, so that it was so many times."""
    seen = {row["seed"] for row in trainings if row["id"] == arch_id}
    fresh = (seed for seed in itertools.count(first) if seed not in seen)
    return list(itertools.islice(fresh, max(0, times - len(seen))))


def _networks(check: _Check, chosen: Sequence[Row], trainings: Sequence[Row]) -> pd.DataFrame:
    """Return the networks with their costs, scores and accuracy."""
    accuracy = _table(trainings).networks[["validation_accuracy", "test_accuracy"]]
    rows = pd.DataFrame(chosen).drop(columns=["number", "status"]).set_index("id")
    return rows.assign(as_trained_accuracy=check.as_trained(chosen)).join(accuracy).reset_index()


def _judged(check: _Check, rows: pd.DataFrame, trainings: Sequence[Row]) -> Ranking:
    """Return how well each score ranks the networks; what a search ranks by is judged."""
    scores = {
        LOSS: -rows["proxy_loss"], ACCURACY: rows["proxy_accuracy"], AS_TRAINED: rows["as_trained_accuracy"],
        PARAMETERS: rows["parameters"],
    }  # fmt: skip
    ids = set(rows["id"])
    repeated = _table([row for row in trainings if row["id"] in ids]).repeated()
    return judge(
        scores, rows["test_accuracy"], rows["ops"], proxy=LOSS, seed=check.request.seed,
        repeated=repeated if len(repeated[0]) > 1 else None,
        epochs=None if check.epochs == check.usual else check.epochs,
    )  # fmt: skip


def _table(trainings: Sequence[Row]) -> Table:
    return Table.of(pd.DataFrame(trainings), name="alone")
