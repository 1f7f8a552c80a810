"""Search, train and ship binary neural networks under an op budget.

Jobs: `init`, `search`, `search_targets`, `select_layers` and `convert`, `train_model`, `export` and `load`, `count`,
`check_ranking`, `check_block`, `latency_table`, `open_run`. Descriptions: `SearchSpace`, `Architecture`, `Recipe`,
`Budget`, `Rules`, `LatencyTable`. What they become: `build`, `build_model`, `plan`, `trace`, `load_data`. The layers
are in `bnas.layers`, the binarizers in `bnas.binarize`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnas.api import (
        Best,
        SearchResult,
        TargetResults,
        TrainResult,
        check_ranking,
        export,
        init,
        open_run,
        search,
        search_targets,
        select_layers,
        train_model,
    )
    from bnas.api.latency import latency_table
    from bnas.api.rank_checking import RankCheck
    from bnas.cost.budget import Budget
    from bnas.cost.plan import PlannedLayer, plan
    from bnas.cost.totals import Cost
    from bnas.cost.trace import trace
    from bnas.data import DataSet, load_data
    from bnas.errors import BnasError
    from bnas.networks.build import build
    from bnas.networks.check_block import check_block
    from bnas.networks.counting import count
    from bnas.networks.models import build_model
    from bnas.searcher.executors.engine import Engine
    from bnas.select import Rules, Selection
    from bnas.select.conversion import convert
    from bnas.ship import load
    from bnas.space.arch import Architecture
    from bnas.space.latency import LatencyTable
    from bnas.space.recipe import Recipe
    from bnas.space.space import SearchSpace
    from bnas.train import Ranks, together

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "bnas.space.arch",
    "Best": "bnas.api",
    "BnasError": "bnas.errors",
    "Budget": "bnas.cost.budget",
    "Cost": "bnas.cost.totals",
    "DataSet": "bnas.data",
    "Engine": "bnas.searcher.executors.engine",
    "LatencyTable": "bnas.space.latency",
    "PlannedLayer": "bnas.cost.plan",
    "RankCheck": "bnas.api.rank_checking",
    "Ranks": "bnas.train",
    "Recipe": "bnas.space.recipe",
    "Rules": "bnas.select",
    "SearchResult": "bnas.api",
    "SearchSpace": "bnas.space.space",
    "Selection": "bnas.select",
    "TargetResults": "bnas.api",
    "TrainResult": "bnas.api",
    "build": "bnas.networks.build",
    "build_model": "bnas.networks.models",
    "check_block": "bnas.networks.check_block",
    "check_ranking": "bnas.api",
    "convert": "bnas.select.conversion",
    "count": "bnas.networks.counting",
    "export": "bnas.api",
    "init": "bnas.api",
    "latency_table": "bnas.api.latency",
    "load": "bnas.ship",
    "load_data": "bnas.data",
    "open_run": "bnas.api",
    "plan": "bnas.cost.plan",
    "search": "bnas.api",
    "search_targets": "bnas.api",
    "select_layers": "bnas.api",
    "together": "bnas.train",
    "trace": "bnas.cost.trace",
    "train_model": "bnas.api",
}

__all__ = [
    "Architecture", "Best", "BnasError", "Budget", "Cost", "DataSet", "Engine", "LatencyTable", "PlannedLayer",
    "RankCheck", "Ranks", "Recipe", "Rules", "SearchResult", "SearchSpace", "Selection", "TargetResults",
    "TrainResult", "build", "build_model", "check_block", "check_ranking", "convert", "count", "export", "init",
    "latency_table", "load", "load_data", "open_run", "plan", "search", "search_targets", "select_layers", "together",
    "trace", "train_model",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is public when it is first asked for, so that the torch-free part starts without torch."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'bnas' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return what is public, for completion in notebooks and shells."""
    return [*__all__, "__version__"]
