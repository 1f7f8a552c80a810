"""The one training loop, staged training of one network, and evaluation."""

from bnas.train.alone import train_alone
from bnas.train.evaluate import evaluate, recalibrate
from bnas.train.loop import Checkpoint, Objective, Store, fit
from bnas.train.oneshot import train_supernet

__all__ = ["Checkpoint", "Objective", "Store", "evaluate", "fit", "recalibrate", "train_alone", "train_supernet"]
