"""The run folder: what was asked, what happened and what was found, on disk so that a killed run goes on."""

from bnas.runs.checkpoint import Checkpoint
from bnas.runs.environment import environment
from bnas.runs.files import replacing
from bnas.runs.folder import Run, best_in
from bnas.runs.masking import mask_secrets

__all__ = ["Checkpoint", "Run", "best_in", "environment", "mask_secrets", "replacing"]
