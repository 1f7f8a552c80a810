"""Shared weights for every architecture of a space."""

from bnas.supernet.shared import SharedUnit
from bnas.supernet.supernet import Supernet

__all__ = ["SharedUnit", "Supernet"]
