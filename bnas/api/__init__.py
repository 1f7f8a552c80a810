"""The jobs, as one Python call each."""

from bnas.api.searching import SearchResult, search
from bnas.api.training import TrainResult, train_model
from bnas.train.ranks import together

__all__ = ["SearchResult", "TrainResult", "search", "together", "train_model"]
