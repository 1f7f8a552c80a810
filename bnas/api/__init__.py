"""The jobs, as one Python call each."""

from bnas.api.search import SearchResult, search

__all__ = ["SearchResult", "search"]
