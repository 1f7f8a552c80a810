"""The jobs, as one Python call each."""

from bnas.api.drive import SearchResult, search
from bnas.api.ranks import together
from bnas.api.training import TrainResult, train_model

__all__ = ["SearchResult", "TrainResult", "search", "together", "train_model"]
