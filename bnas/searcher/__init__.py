"""Search a trained supernet under a budget: samplers, scores, fates, the front."""

from bnas.searcher.candidate import Candidate, Score, front, ledger, paid
from bnas.searcher.sampler import SAMPLERS, MakeSampler
from bnas.searcher.score import Scorer
from bnas.searcher.study import Search

__all__ = ["SAMPLERS", "Candidate", "MakeSampler", "Score", "Scorer", "Search", "front", "ledger", "paid"]
