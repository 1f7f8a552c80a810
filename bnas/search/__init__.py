"""Search a trained supernet under a budget: samplers, scores, fates, the front."""

from bnas.search.candidate import Candidate, Score, front, ledger, paid
from bnas.search.sampler import SAMPLERS, MakeSampler
from bnas.search.score import Scorer
from bnas.search.study import Search

__all__ = ["SAMPLERS", "Candidate", "MakeSampler", "Score", "Scorer", "Search", "front", "ledger", "paid"]
