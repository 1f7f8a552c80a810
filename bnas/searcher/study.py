"""Propose and score until enough is paid for; what was paid for is kept the moment it is known.

Samplers work on a study in memory. A search that goes on after a kill proposes the same candidates again from the
first, and takes what it has paid for from the journal: so it ends as if nothing had happened.

With several workers some candidates are in flight: proposal n knows the outcomes of all before it but the last few,
however fast each worker is. So proposals depend on how many are in flight, and on nothing else that happens at the
time. Where that number changes between two starts, it changes for the proposals that come after those paid for.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from random import Random
from typing import NamedTuple

import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState

from bnas.cost.budget import Budget
from bnas.errors import BudgetError, Stopped, TrainingError
from bnas.progress import Progress
from bnas.searcher.candidate import Candidate, Outcome, Score, Status
from bnas.searcher.feasible import cost_of
from bnas.searcher.journal import Journal
from bnas.searcher.sampler import FeasibleSampler, MakeSampler, ask, distributions, to_params
from bnas.searcher.storage import DIRECTIONS, StoredStudy
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace

Submit = Callable[[Architecture], "Future[Score]"]
Note = Callable[[Candidate], None]

FREE_IN_A_ROW = 2000  # genotypes looked at for nothing after which a sampler has nothing new


class _Bought(NamedTuple):
    """A candidate that is being paid for, or that the journal knows already."""

    trial: Trial
    candidate: Candidate
    future: "Future[Score] | None"


class Search:
    """One search: `run` pays for `trials` scores and returns every candidate with its fate."""

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget,
        *,
        sampler: MakeSampler,
        seed: int,
        name: str,
        stored: StoredStudy,
        journal: Journal,
        in_flight: int = 1,
    ) -> None:
        """Take up a search where it was left.

        Args:
            sampler: makes the Optuna sampler for one proposal.
            name: tells searches with one journal apart.
            stored: where people look at the search; it is filled from the journal.
            journal: what was paid for, in this search and in others with the same supernet.
            in_flight: how many candidates may be waited for at once; with one, each proposal knows all before it.
        """
        self._space, self._budget, self._make, self._seed = space, budget, sampler, seed
        self._name, self._stored, self._journal = name, stored, journal
        self._distributions = distributions(space)
        journal.learn(stored.outcomes)
        self._unclaimed = set(stored.outcomes)
        self._asked_in_flight = in_flight
        self._memory: Study = optuna.create_study(directions=DIRECTIONS)
        self._candidates: list[Candidate] = []
        self._window: deque[_Bought] = deque()
        self._seen: set[Genes] = set()

    def run(self, trials: int, submit: Submit, *, progress: Progress, note: Note) -> list[Candidate]:
        """Propose until `trials` are paid for, or nothing new is to be had.

        Args:
            submit: asks for the score of an architecture, which is paid for.
            progress: where it raises `Stopped`, what the workers have in hand is finished and kept first.
            note: called with each candidate as its fate is known.
        Raises:
            BudgetError: nothing fits the budget.
        """

        def tell(candidate: Candidate) -> None:
            note(candidate)
            best = max((c.score for c in self._candidates if c.score), key=lambda score: score.quality, default=None)
            said = f"best proxy loss {best.proxy_loss:.3f}, accuracy {best.proxy_accuracy:.1%}" if best else ""
            progress(self._name, bought - len(self._window), trials, said)

        bought = free = 0
        try:
            while bought < trials and free < FREE_IN_A_ROW and len(self._seen) < self._space.size:
                while len(self._window) >= self._in_flight():
                    tell(self._settle(progress))
                candidate = self._propose(submit)
                is_bought = candidate.status == "paid"
                bought, free = bought + is_bought, 0 if is_bought else free + self._draws()
                if not is_bought:
                    tell(candidate)
            while self._window:
                tell(self._settle(progress))
        except Stopped:
            self._put_down()
            raise
        if not bought:
            raise BudgetError(f"search: none of {len(self._candidates)} proposals fits the budget {self._budget}")
        return self._candidates

    def _draws(self) -> int:
        """Return how many genotypes the sampler looked at for its last proposal."""
        sampler = self._memory.sampler
        return sampler.draws if isinstance(sampler, FeasibleSampler) else 1

    def _in_flight(self) -> int:
        """Return how many candidates the next proposal does not wait for."""
        number = len(self._candidates)
        windows = reversed(self._journal.windows(self._name))
        now = next((in_flight for begin, in_flight in windows if begin <= number), None)
        if now is None or (now != self._asked_in_flight and not self._unclaimed):
            now = self._asked_in_flight
            self._journal.widen(self._name, number, now)
        return now

    def _propose(self, submit: Submit) -> Candidate:
        """Return the next candidate; one to be paid for is in the window, its score not yet in it."""
        number = len(self._candidates)
        drawn = Random(f"{self._seed}/{self._name}/{number}").getrandbits(31)
        trial, genes = ask(self._memory, self._make, self._space, self._budget, seed=drawn)
        arch = self._space.architecture(genes)
        price = cost_of(self._space, genes)
        for quantity, limit in self._budget.limits:
            trial.set_constraint(quantity, limit.excess(getattr(price, quantity)))
        fits = self._budget.admits(price)
        status: Status = "repeated" if fits and genes in self._seen else "paid" if fits else "over_budget"
        candidate = Candidate(number, arch.id, status, genes, price)
        self._candidates.append(candidate)
        self._seen.add(genes)
        if status == "paid":
            self._unclaimed.discard(arch.id)
            self._window.append(_Bought(trial, candidate, None if arch.id in self._journal else submit(arch)))
        else:
            self._memory.tell(trial, state=TrialState.PRUNED)
        return candidate

    def _settle(self, progress: Progress) -> Candidate:
        """Return the oldest candidate in the window with its fate; keep every outcome that comes in meanwhile."""
        oldest = self._window[0].candidate.id
        self._keep_known(progress)
        while oldest not in self._journal:
            wait([b.future for b in self._unknown() if b.future], return_when=FIRST_COMPLETED)
            self._keep_known(progress)
        trial, candidate, _ = self._window.popleft()
        outcome = self._journal[candidate.id]
        if isinstance(outcome, Score):
            self._memory.tell(trial, [outcome.quality, candidate.cost.ops])
            candidate = candidate._replace(score=outcome)
        else:
            self._memory.tell(trial, state=TrialState.FAIL)
            candidate = candidate._replace(status="failed")
        self._candidates[candidate.number] = candidate
        return candidate

    def _keep_known(self, progress: Progress) -> None:
        self._write_down()
        for _, candidate, _ in [bought for bought in self._window if bought.candidate.id in self._journal]:
            params = to_params(self._space, candidate.genes)
            self._stored.add(
                candidate, self._journal[candidate.id], params=params, distributions=self._distributions,
                progress=progress,
            )  # fmt: skip

    def _write_down(self) -> None:
        for _, candidate, future in self._unknown():
            if future is not None and future.done():
                self._journal.add(candidate.id, _outcome(future))

    def _unknown(self) -> list[_Bought]:
        return [bought for bought in self._window if bought.candidate.id not in self._journal]

    def _put_down(self) -> None:
        """Wait for what workers have in hand, and keep it; what they have not begun is not begun."""
        self._window = deque(b for b in self._window if b.future is None or not b.future.cancel())
        wait([b.future for b in self._window if b.future])
        self._write_down()


def _outcome(future: "Future[Score]") -> Outcome:
    try:
        return future.result()
    except TrainingError as problem:
        return str(problem)
