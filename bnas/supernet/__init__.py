"""Shared weights for every architecture of a space."""

from bnas.supernet.supernet import Supernet

__all__ = ["Supernet"]
