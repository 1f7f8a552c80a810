"""Where candidates are scored: in this process, in processes beside it, or on a Ray cluster."""

from bnas.searcher.executors.engine import ENGINES, LEASE_SECONDS, Engine, Executor
from bnas.searcher.executors.in_process import InProcess

__all__ = ["ENGINES", "LEASE_SECONDS", "Engine", "Executor", "InProcess"]
