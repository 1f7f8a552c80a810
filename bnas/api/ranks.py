"""One piece of work on several processes: rank 0 does it, and the others help it train."""

from collections.abc import Callable
from typing import TypeVar

from bnas.train import Ranks, joined

T = TypeVar("T")


def together(work: Callable[[Ranks], T]) -> T | None:
    """Do the work on rank 0 and help with it on every other rank, in processes of torchrun, Ray Train, or alone.

    Every process calls it: `together(lambda ranks: bnas.search(space, data=data, out=out, ranks=ranks))`.

    Args:
        work: is given the ranks, which `bnas.search` and `bnas.train_model` take.
    Returns: what the work returns on rank 0; None on every other.
    Raises:
        RankLost: another rank is gone.
    """
    with joined() as ranks:
        if ranks.leads:
            return work(ranks)
        ranks.follow()
        return None
