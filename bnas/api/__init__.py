"""The jobs, as one Python call each."""

from bnas.api.exporting import export
from bnas.api.first_space import init
from bnas.api.many_budgets import search_targets
from bnas.api.rank_checking import check_ranking
from bnas.api.result import Best, SearchResult, TargetResults, TrainResult, candidate_of, open_run
from bnas.api.searching import search
from bnas.api.selecting import select_layers
from bnas.api.training import train_model

__all__ = [
    "Best", "SearchResult", "TargetResults", "TrainResult", "candidate_of", "check_ranking", "export", "init",
    "open_run", "search", "search_targets", "select_layers", "train_model",
]  # fmt: skip
