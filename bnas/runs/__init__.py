"""The run folder: what was asked, what happened and what was found, on disk so that a killed run goes on."""

from bnas.masking import mask_secrets
from bnas.runs.checkpoint import Checkpoint
from bnas.runs.files import replacing
from bnas.runs.run import Run, best_in
from bnas.runs.settings import environment, holds_run

__all__ = ["Checkpoint", "Run", "best_in", "environment", "holds_run", "mask_secrets", "replacing"]
