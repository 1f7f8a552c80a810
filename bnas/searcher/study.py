"""Propose and score until enough is paid for; what was paid for is kept in an Optuna study the moment it is known.

Samplers work on a study in memory. A search that goes on after a kill proposes the same candidates again from the
first, and takes their scores from the stored study instead of paying: so it ends as if nothing had happened.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from bnas.arch import Architecture
from bnas.cost import Budget, Cost, cost
from bnas.errors import BudgetError, RunError, TrainingError
from bnas.plan import plan
from bnas.progress import Progress
from bnas.runs import mask_secrets
from bnas.searcher.candidate import Candidate, Score, Status
from bnas.searcher.sampler import MakeSampler, distributions, to_genes, to_params
from bnas.space import Genes, SearchSpace

ScoreOf = Callable[[Architecture], Score]

DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
METRICS = ["proxy accuracy", "ops"]
FREE_IN_A_ROW = 2000  # free proposals after which a sampler has nothing new


class Search:
    """One search in one study: `run` pays for `trials` scores and returns every candidate with its fate."""

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget,
        *,
        sampler: MakeSampler,
        seed: int,
        storage: str | None,
        name: str,
        known: dict[str, Score | None],
    ) -> None:
        """Open the study `name` in an Optuna storage, or make it.

        Args:
            sampler: makes the Optuna sampler for one proposal.
            storage: the URL of an Optuna storage; None keeps the study in memory alone.
            known: scores by architecture id, shared between searches with the same supernet; what is stored is added.
        """
        self._space, self._budget, self._make, self._seed = space, budget, sampler, seed
        self._distributions = distributions(space)
        with _naming(storage):
            self._stored = optuna.create_study(
                storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # names that optuna-dashboard shows
                self._stored.set_metric_names(METRICS)
            trials = self._stored.get_trials(deepcopy=False)
        stored = {trial.user_attrs["id"]: _score_of(trial) for trial in trials}
        self._known, self._is_stored, self._storage = known, set(stored), storage
        known |= stored
        self._memory: Study = optuna.create_study(directions=DIRECTIONS)
        self._seen: dict[Genes, Candidate] = {}

    def run(
        self, trials: int, score_of: ScoreOf, *, progress: Progress, note: Callable[[Candidate], None]
    ) -> list[Candidate]:
        """Propose until `trials` are paid for, or nothing new is to be had.

        Args:
            score_of: the score of an architecture; paid for.
            note: called with each candidate as its fate is known.
        Raises:
            BudgetError: nothing fits the budget.
        """
        candidates: list[Candidate] = []
        free, paid, best = 0, 0, 0.0
        while paid < trials and free < FREE_IN_A_ROW:
            candidate = self._try_one(len(candidates), score_of)
            candidates.append(candidate)
            note(candidate)
            is_paid = candidate.status in ("paid", "failed")
            paid, free = paid + is_paid, 0 if is_paid else free + 1
            best = max(best, candidate.score.proxy_accuracy if candidate.score else 0.0)
            progress(self._stored.study_name, paid, trials, f"best proxy accuracy {best:.3f}")
        if not paid:
            raise BudgetError(f"search: none of {len(candidates)} proposals fits the budget {self._budget}")
        return candidates

    def _try_one(self, number: int, score_of: ScoreOf) -> Candidate:
        drawn = Random(f"{self._seed}/{self._stored.study_name}/{number}").getrandbits(31)
        self._memory.sampler = self._make(self._space, self._budget, drawn)
        trial = self._memory.ask(self._distributions)
        genes = to_genes(self._space, trial.params)
        arch = self._space.architecture(genes)
        price = cost(plan(arch))
        for quantity, limit in self._budget.limits:
            trial.set_constraint(quantity, limit.excess(getattr(price, quantity)))
        status: Status = "paid"
        score = None
        if not self._budget.admits(price):
            status = "over_budget"
        elif genes in self._seen:
            status, score = "repeated", self._seen[genes].score
        else:
            score = self._pay(arch, genes, price, score_of)
            status = "paid" if score else "failed"
        if score and status == "paid":
            self._memory.tell(trial, [score.proxy_accuracy, price.ops])
        else:
            self._memory.tell(trial, state=TrialState.PRUNED if status != "failed" else TrialState.FAIL)
        candidate = Candidate(number, arch.id, status, genes, price, score if status == "paid" else None)
        self._seen.setdefault(genes, candidate)
        return candidate

    def _pay(self, arch: Architecture, genes: Genes, price: Cost, score_of: ScoreOf) -> Score | None:
        """Return the known score, or score the architecture; store it before anything else happens."""
        if arch.id not in self._known:
            try:
                self._known[arch.id] = score_of(arch)
            except TrainingError:
                self._known[arch.id] = None
        score = self._known[arch.id]
        if arch.id not in self._is_stored:
            self._store(arch, genes, price, score)
        return score

    def _store(self, arch: Architecture, genes: Genes, price: Cost, score: Score | None) -> None:
        # Few attributes: the storage takes a query or two for each.
        attributes: dict[str, Any] = {"id": arch.id, "cost": price.as_dict()}
        if score:
            attributes["proxy_loss"] = score.proxy_loss
        trial = create_trial(
            state=TrialState.COMPLETE if score else TrialState.FAIL,
            params=to_params(self._space, genes),
            distributions=self._distributions,
            values=[score.proxy_accuracy, price.ops] if score else None,
            user_attrs=attributes,
        )
        with _naming(self._storage):
            self._stored.add_trial(trial)
        self._is_stored.add(arch.id)


def _score_of(trial: optuna.trial.FrozenTrial) -> Score | None:
    if trial.state != TrialState.COMPLETE:
        return None
    return Score(trial.values[0], trial.user_attrs["proxy_loss"])


@contextmanager
def _naming(storage: str | None) -> Iterator[None]:
    """Turn what a database says into one line that names the storage, without its password."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, OSError) as problem:
        where = mask_secrets(storage or "the study in memory")
        reason = str(problem.__cause__ or problem).splitlines()[0]
        raise RunError(
            f"{where}: cannot be used: {reason}; what was scored before is kept: mend it and run the same command"
        ) from problem
