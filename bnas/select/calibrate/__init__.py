"""A model and some images -> what each of its layers would lose in one bit."""

from bnas.select.calibrate.batches import Batches, Example, examples
from bnas.select.calibrate.layer_errors import measure_errors
from bnas.select.calibrate.sensitivity import Loss, measure_loss_changes

__all__ = ["Batches", "Example", "Loss", "examples", "measure_errors", "measure_loss_changes"]
