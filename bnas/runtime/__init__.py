"""A packed network from a file -> logits of images: bits stay bits, and torch is not needed."""

from bnas.runtime.file import load
from bnas.runtime.network import Card, Network
from bnas.runtime.program import Program

__all__ = ["Card", "Network", "Program", "load"]
