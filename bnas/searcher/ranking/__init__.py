"""Can the proxy be trusted? Networks trained alone, and how well scores rank them."""

from bnas.searcher.ranking.alone import Alone, Terms, dealt, every_network, train_alone
from bnas.searcher.ranking.measure import summed_standard, tau, tau_within
from bnas.searcher.ranking.table import Table
from bnas.searcher.ranking.verdict import Measured, Ranking, Seeds, judge

__all__ = [
    "Alone",
    "Measured",
    "Ranking",
    "Seeds",
    "Table",
    "Terms",
    "dealt",
    "every_network",
    "judge",
    "summed_standard",
    "tau",
    "tau_within",
    "train_alone",
]  # fmt: skip
