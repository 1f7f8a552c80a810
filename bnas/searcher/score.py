"""An architecture -> its proxy accuracy: shared weights, batch norm set anew, held-out training images."""

import itertools
import math

import torch

from bnas.arch import Architecture
from bnas.data import DataSet
from bnas.errors import TrainingError
from bnas.recipe import Scoring
from bnas.searcher.candidate import Score
from bnas.supernet import Supernet
from bnas.train import evaluate, recalibrate


class Scorer:
    """Scores architectures of one trained supernet; a score depends on the architecture alone."""

    def __init__(self, supernet: Supernet, data: DataSet, scoring: Scoring, *, seed: int, device: torch.device) -> None:
        self._supernet = supernet
        images = data.train.batches(
            min(scoring.batch, len(data.train)), seed=seed, epoch=0, augment=False, drop_last=True, device=device
        )
        batches = max(1, round(scoring.recalibration_images / scoring.batch))
        self._recalibration = [batch for batch, _ in itertools.islice(images, batches)]
        held_out = data.validation.batches(scoring.batch, augment=False, drop_last=False, device=device)
        self._held_out = list(itertools.islice(held_out, max(1, math.ceil(scoring.validation_images / scoring.batch))))

    def __call__(self, arch: Architecture) -> Score:
        """Return the proxy accuracy and loss of an architecture of the supernet's space.

        Raises:
            TrainingError: the network gives values that are not finite.
        """
        network = self._supernet.extract(arch)
        recalibrate(network, self._recalibration)
        accuracy, loss = evaluate(network, self._held_out)
        if not math.isfinite(loss):
            raise TrainingError(f"candidate {arch.id}: the proxy loss is {loss}; its batch norm may not be calibrated")
        return Score(accuracy, loss)
