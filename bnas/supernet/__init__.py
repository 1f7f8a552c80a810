"""Shared weights for every architecture of a space."""

from bnas.supernet.shared import SharedUnit, check_shared
from bnas.supernet.supernet import Supernet

__all__ = ["SharedUnit", "Supernet", "check_shared"]
