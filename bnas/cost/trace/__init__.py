"""nn.Module -> planned layers: what `plan` gives for an architecture, for any model."""

from bnas.cost.trace.run import Traced, trace
from bnas.cost.trace.watch import Uncounted

__all__ = ["Traced", "Uncounted", "trace"]
