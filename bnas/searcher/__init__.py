"""Search a trained supernet under a budget: samplers, scores, executors, fates, the front."""

from bnas.searcher.candidate import Candidate, Score, front, ledger, paid
from bnas.searcher.executors import ENGINES, LEASE_SECONDS, Engine, InProcess
from bnas.searcher.journal import Journal
from bnas.searcher.metric import with_metric
from bnas.searcher.sampler import SAMPLERS, MakeSampler
from bnas.searcher.score import Scorer
from bnas.searcher.storage import DamagedStorage, StoredStudy
from bnas.searcher.study import Search

__all__ = [
    "ENGINES", "LEASE_SECONDS", "SAMPLERS", "Candidate", "DamagedStorage", "Engine", "InProcess", "Journal",
    "MakeSampler", "Score", "Scorer", "Search", "StoredStudy", "front", "ledger", "paid", "with_metric",
]  # fmt: skip
