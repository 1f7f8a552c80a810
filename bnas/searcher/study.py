"""Propose and score until enough is paid for; what was paid for is kept the moment it is known.

Samplers work on a study in memory. A search that goes on after a kill proposes the same candidates again from the
first, and takes what it has paid for from the journal: so it ends as if nothing had happened. Where the sampler is a
function of the seed and of what was scored, as ours are, its proposals are in the journal too, and are not made again.

With several workers some candidates are in flight: proposal n knows the outcomes of all before it but the last few,
however fast each worker is. So proposals depend on how many are in flight, and on nothing else that happens at the
time. Where that number changes between two starts, it changes for the proposals that come after those paid for.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from random import Random
from typing import NamedTuple

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from bnas.amounts import percent
from bnas.cost.budget import Budget
from bnas.errors import BudgetError, Stopped, TrainingError
from bnas.progress import Progress
from bnas.searcher.candidate import Candidate, Outcome, Score, Status
from bnas.searcher.database import DIRECTIONS
from bnas.searcher.feasible import cost_of
from bnas.searcher.journal import Journal, Proposal
from bnas.searcher.sampler import FeasibleSampler, Given, MakeSampler, ask, distributions, to_params
from bnas.searcher.storage import StoredStudy
from bnas.space.arch import Architecture
from bnas.space.space import Genes, SearchSpace

Submit = Callable[[Architecture], "Future[Score]"]
Note = Callable[[Candidate], None]

FREE_IN_A_ROW = 2000  # genotypes looked at for nothing after which a sampler has nothing new
RECORDED_AT_ONCE = 100  # proposals; of a killed search the last of them are made again


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
        first: Sequence[Genes] = (),
        in_flight: int = 1,
    ) -> None:
        """Take up a search where it was left.

        Args:
            sampler: makes the Optuna sampler for one proposal.
            name: tells searches with one journal apart.
            stored: where people look at the search; it is filled from the journal.
            journal: what was paid for, in this search and in others with the same supernet.
            first: what is proposed before a sampler is asked.
            in_flight: how many candidates may be waited for at once; with one, each proposal knows all before it.
        """
        self._space, self._budget, self._make, self._seed = space, budget, sampler, seed
        self._name, self._stored, self._journal = name, stored, journal
        self._distributions = distributions(space)
        journal.learn(stored.outcomes, search=name)
        self._unclaimed = set(stored.outcomes) | journal.paid_in(name)
        self._first, self._asked_in_flight = first, in_flight
        self._memory: Study = optuna.create_study(directions=DIRECTIONS)
        self._candidates: list[Candidate] = []
        self._window: deque[_Bought] = deque()
        self._seen: set[Genes] = set()
        self._bought = self._free = 0
        self._best: Score | None = None
        # Of a search that is asked for more, or what is proposed anew would be bred otherwise than what was paid for.
        self._asked_first = _for_trials(space, journal.begin(name, space.search.trials))
        probe = sampler(self._asked_first, budget, seed)
        self._draws = probe.draws if isinstance(probe, FeasibleSampler) else 1  # genotypes looked at for a proposal
        self._is_pure = isinstance(probe, FeasibleSampler) and probe.is_pure
        self._known = list(_sound(space, journal.proposals(name), first)) if self._is_pure else []
        self._new: list[Proposal] = []  # proposals that the journal has not yet

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
            if candidate.score and (self._best is None or candidate.score.quality > self._best.quality):
                self._best = candidate.score
            best = self._best
            said = (
                f"best proxy loss {best.proxy_loss:.3f}, proxy accuracy {percent(best.proxy_accuracy)}" if best else ""
            )
            progress(self._name, self._bought - len(self._window), trials, said)

        try:
            for candidate in self._settled(trials):
                tell(self._replay(candidate, progress))
            while self._goes_on(trials):
                while len(self._window) >= self._in_flight():
                    tell(self._settle(progress))
                candidate = self._propose(submit)
                if candidate.status != "paid":
                    tell(candidate)
            while self._window:
                tell(self._settle(progress))
            if self._bought < trials:
                progress(self._name, self._bought, self._bought, "nothing new is left")
        except Stopped:
            self._put_down()
            self._record()
            raise
        self._record()
        self._stored.flush(progress)
        if not self._bought:
            raise BudgetError(f"search: none of {len(self._candidates)} proposals fits the budget {self._budget}")
        return self._candidates

    def _goes_on(self, trials: int) -> bool:
        return self._bought < trials and self._free < FREE_IN_A_ROW and len(self._seen) < self._space.size

    def _settled(self, trials: int) -> Iterator[Candidate]:
        """Yield the known candidates but for those that a proposal still to come may find in flight."""
        many = max([self._asked_in_flight, *(in_flight for _, in_flight in self._journal.windows(self._name))])
        found, bought, seen = list[Candidate](), list[int](), set[Genes]()
        for proposal in self._known:
            candidate = self._judged(len(found), proposal, seen)
            if candidate.status == "paid":
                if proposal.id not in self._journal:
                    break
                bought.append(len(found))
            found.append(candidate)
            seen.add(proposal.genes)
        for candidate in found[: bought[-many] if len(bought) > many else 0]:
            if not self._goes_on(trials):
                return
            yield candidate

    def _replay(self, candidate: Candidate, progress: Progress) -> Candidate:
        """Take a candidate whose fate is known for proposed and settled."""
        if candidate.status == "paid":
            self._store(candidate, progress)
            candidate = _with_fate(candidate, self._journal[candidate.id])
        self._memory.add_trial(self._finished(candidate))
        self._count(candidate, is_bought=candidate.status in ("paid", "failed"))
        return candidate

    def _finished(self, candidate: Candidate) -> FrozenTrial:
        states = {"paid": TrialState.COMPLETE, "failed": TrialState.FAIL}
        return create_trial(
            state=states.get(candidate.status, TrialState.PRUNED), distributions=self._distributions,
            params=to_params(self._space, candidate.genes),
            values=[candidate.score.quality, candidate.cost.ops] if candidate.score else None,
        )  # fmt: skip

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
        trial, proposal = self._asked(len(self._candidates))
        candidate = self._judged(len(self._candidates), proposal, self._seen)
        for quantity, limit in self._budget.limits:
            trial.set_constraint(quantity, limit.excess(getattr(candidate.cost, quantity)))
        is_bought = candidate.status == "paid"
        self._count(candidate, is_bought=is_bought)
        if is_bought:
            is_known = candidate.id in self._journal
            future = None if is_known else submit(self._space.architecture(candidate.genes))
            self._window.append(_Bought(trial, candidate, future))
        else:
            self._memory.tell(trial, state=TrialState.PRUNED)
        return candidate

    def _asked(self, number: int) -> tuple[Trial, Proposal]:
        """Return the next trial and what it proposes: as the journal knows it, or as a sampler answers."""
        if number < len(self._known):
            self._memory.sampler = Given(self._space, self._budget, self._known[number].genes)
            return self._memory.ask(self._distributions), self._known[number]
        if number < len(self._first):
            self._memory.sampler = Given(self._space, self._budget, self._first[number])
            trial, genes = self._memory.ask(self._distributions), self._first[number]
        else:
            drawn = Random(f"{self._seed}/{self._name}/{number}").getrandbits(31)
            trial, genes = ask(self._memory, self._make, self._asked_first, self._budget, seed=drawn)
        proposal = Proposal(genes, self._space.architecture(genes).id)
        self._new.append(proposal)
        self._record(least=RECORDED_AT_ONCE)
        return trial, proposal

    def _judged(self, number: int, proposal: Proposal, seen: set[Genes]) -> Candidate:
        price = cost_of(self._space, proposal.genes)
        fits = self._budget.admits(price)
        status: Status = "repeated" if fits and proposal.genes in seen else "paid" if fits else "over_budget"
        return Candidate(number, proposal.id, status, proposal.genes, price)

    def _count(self, candidate: Candidate, *, is_bought: bool) -> None:
        self._candidates.append(candidate)
        self._seen.add(candidate.genes)
        self._bought, self._free = self._bought + is_bought, 0 if is_bought else self._free + self._draws
        if is_bought:
            self._unclaimed.discard(candidate.id)

    def _settle(self, progress: Progress) -> Candidate:
        """Return the oldest candidate in the window with its fate; keep every outcome that comes in meanwhile."""
        oldest = self._window[0].candidate.id
        self._keep_known(progress)
        while oldest not in self._journal:
            wait([b.future for b in self._unknown() if b.future], return_when=FIRST_COMPLETED)
            self._keep_known(progress)
        trial, candidate, _ = self._window.popleft()
        candidate = _with_fate(candidate, self._journal[candidate.id])
        if candidate.score:
            self._memory.tell(trial, [candidate.score.quality, candidate.cost.ops])
        else:
            self._memory.tell(trial, state=TrialState.FAIL)
        self._candidates[candidate.number] = candidate
        return candidate

    def _keep_known(self, progress: Progress) -> None:
        self._write_down()
        for _, candidate, _ in [bought for bought in self._window if bought.candidate.id in self._journal]:
            self._store(candidate, progress)

    def _store(self, candidate: Candidate, progress: Progress) -> None:
        self._stored.add(
            candidate, self._journal[candidate.id], params=to_params(self._space, candidate.genes),
            distributions=self._distributions, progress=progress,
        )  # fmt: skip

    def _write_down(self) -> None:
        for _, candidate, future in self._unknown():
            if future is not None and future.done():
                self._journal.add(candidate.id, _outcome(future), search=self._name)

    def _record(self, *, least: int = 1) -> None:
        """Write proposals into the journal, so many at least; those of a sampler that keeps a state are made again."""
        if self._is_pure and len(self._new) >= least:
            self._journal.propose(self._name, self._new)
            self._new = []

    def _unknown(self) -> list[_Bought]:
        return [bought for bought in self._window if bought.candidate.id not in self._journal]

    def _put_down(self) -> None:
        """Wait for what workers have in hand, and keep it; what they have not begun is not begun."""
        self._window = deque(b for b in self._window if b.future is None or not b.future.cancel())
        wait([b.future for b in self._window if b.future])
        self._write_down()


def _for_trials(space: SearchSpace, trials: int) -> SearchSpace:
    """Return a space for a search of so many trials."""
    if trials == space.search.trials:
        return space
    return space.model_copy(update={"search": space.search.model_copy(update={"trials": trials})})


def _sound(space: SearchSpace, proposals: Sequence[Proposal], given: Sequence[Genes]) -> Iterator[Proposal]:
    """Yield proposals up to the first that is neither given nor one of this space."""
    for proposal in proposals:
        lengths = [len(dimension.choices) for dimension in space.dimensions]
        inside = len(proposal.genes) == len(lengths) and all(
            0 <= gene < length for gene, length in zip(proposal.genes, lengths, strict=True)
        )
        if not inside or (proposal.genes not in given and space.canonical(proposal.genes) != proposal.genes):
            return
        yield proposal


def _with_fate(candidate: Candidate, outcome: Outcome) -> Candidate:
    if isinstance(outcome, Score):
        return candidate._replace(score=outcome)
    return candidate._replace(status="failed")


def _outcome(future: "Future[Score]") -> Outcome:
    try:
        return future.result()
    except TrainingError as problem:
        return str(problem)
