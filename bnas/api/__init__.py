"""The jobs, as one Python call each."""

from bnas.api.drive import SearchResult, search

__all__ = ["SearchResult", "search"]
