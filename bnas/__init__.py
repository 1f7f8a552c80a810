"""Search, train and ship binary neural networks under an op budget."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnas.api import SearchResult, search
    from bnas.exporters import export, load

__all__ = ["SearchResult", "export", "load", "search"]

_HOMES = {"search": "bnas.api", "SearchResult": "bnas.api", "export": "bnas.exporters", "load": "bnas.exporters"}


def __getattr__(name: str) -> Any:
    """Import the jobs when they are first asked for, so that the torch-free part starts without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bnas' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
