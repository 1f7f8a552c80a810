"""What became of each proposed architecture, the ledger of it, and the Pareto front of those that were scored."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from bnas.cost.totals import Cost
from bnas.space.space import Genes, genes_text

Status = Literal["paid", "over_budget", "repeated", "failed"]
STATUSES: tuple[Status, ...] = ("paid", "over_budget", "repeated", "failed")


class Score(NamedTuple):
    """How a candidate does with shared weights, on held-out training images."""

    proxy_accuracy: float
    proxy_loss: float

    @property
    def quality(self) -> float:
        """What networks are ranked by: the lower loss, which tells more of few images than how many are right.

        benchmarks/ranking.py compares the two.
        """
        return -self.proxy_loss


Outcome = Score | str  # of what was paid for; text says why it failed


class Candidate(NamedTuple):
    """A proposed architecture with its fate; only a paid one has a score."""

    number: int
    id: str
    status: Status
    genes: Genes
    cost: Cost
    score: Score | None = None

    def row(self) -> dict[str, Any]:
        """Return what a line of candidates.csv holds."""
        score = self.score._asdict() if self.score else dict.fromkeys(Score._fields)
        fate = {"number": self.number, "id": self.id, "status": self.status}
        return fate | score | self.cost.as_dict() | {"genes": genes_text(self.genes)}

    def facts(self) -> dict[str, Any]:
        """Return what lines of pareto.csv and retrained.csv hold: without number and fate."""
        row = self.row()
        return {key: value for key, value in row.items() if key not in ("number", "status")}


def ledger(fates: Iterable[str]) -> dict[str, int]:
    """Return how many candidates were proposed, and how many of them had each fate."""
    counts = Counter(fates)
    return {"proposed": counts.total()} | {status: counts[status] for status in STATUSES}


def paid(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the scored candidates, the best first."""
    scored = [c for c in candidates if c.status == "paid"]
    return sorted(scored, key=lambda c: _score(c).quality, reverse=True)


def front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the Pareto front over quality and ops, cheapest first: no other is as good for as little."""
    chosen: list[Candidate] = []
    for candidate in sorted(paid(candidates), key=lambda c: (c.cost.ops, -_score(c).quality)):
        if not chosen or _score(candidate).quality > _score(chosen[-1]).quality:
            chosen.append(candidate)
    return chosen


def _score(candidate: Candidate) -> Score:
    assert candidate.score is not None
    return candidate.score
