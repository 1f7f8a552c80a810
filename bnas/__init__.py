"""Search, train and ship binary neural networks under an op budget."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnas.api import SearchResult, TrainResult, search, together, train_model
    from bnas.api.rank_checking import RankCheck, check_ranking
    from bnas.api.selecting import select_layers
    from bnas.cost.counting import count
    from bnas.select.conversion import convert
    from bnas.ship import export, load

_HOMES = {
    "RankCheck": "bnas.api.rank_checking",
    "SearchResult": "bnas.api",
    "TrainResult": "bnas.api",
    "check_ranking": "bnas.api.rank_checking",
    "convert": "bnas.select.conversion",
    "count": "bnas.cost.counting",
    "export": "bnas.ship",
    "load": "bnas.ship",
    "search": "bnas.api",
    "select_layers": "bnas.api.selecting",
    "together": "bnas.api",
    "train_model": "bnas.api",
}

__all__ = [
    "RankCheck", "SearchResult", "TrainResult", "check_ranking", "convert", "count", "export", "load",
    "search", "select_layers", "together", "train_model",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the jobs when they are first asked for, so that the torch-free part starts without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bnas' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
