"""nn.Module -> planned layers: what `plan` gives for an architecture, for any model."""

from bnas.cost.plan import Uncounted
from bnas.cost.trace.trace_model import Traced, trace

__all__ = ["Traced", "Uncounted", "trace"]
