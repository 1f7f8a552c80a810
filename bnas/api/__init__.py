"""The jobs, as one Python call each."""

from bnas.api.exporting import export
from bnas.api.rank_checking import check_ranking
from bnas.api.result import Best, SearchResult, TrainResult, open_run
from bnas.api.searching import search
from bnas.api.selecting import select_layers
from bnas.api.training import train_model

__all__ = [
    "Best", "SearchResult", "TrainResult", "check_ranking", "export", "open_run", "search", "select_layers",
    "train_model",
]  # fmt: skip
