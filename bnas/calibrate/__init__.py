"""A model and some images -> what each of its layers would lose in one bit."""

from bnas.calibrate.batches import Batches, Example, examples
from bnas.calibrate.errors import measure_errors
from bnas.calibrate.sensitivity import Loss, measure_loss_changes

__all__ = ["Batches", "Example", "Loss", "examples", "measure_errors", "measure_loss_changes"]
