"""Labels -> what guessing gets right of them, and whether an accuracy says more than that."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

_DEVIATIONS = 2  # by which an accuracy must exceed that of guessing


class Guessing(NamedTuple):
    """What always answering the class that most images have gets right."""

    accuracy: float
    images: int

    @classmethod
    def on(cls, labels: Tensor) -> "Guessing":
        """Return it for labels, int64 [n]."""
        return cls(int(torch.bincount(labels).max()) / len(labels), len(labels))

    @classmethod
    def known(cls, manifest: dict[str, Any]) -> "Guessing | None":
        """Return it as a manifest says; None where that is from before it was said."""
        kept = manifest.get("guessing")
        return cls(**kept) if isinstance(kept, dict) else None

    def beaten_by(self, accuracy: float) -> bool:
        """Whether an accuracy on these images is more, by two standard deviations of the guesses."""
        return accuracy > self.accuracy + _DEVIATIONS * math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)

    def remark(self, accuracy: float) -> str:
        """Return what stands behind an accuracy: nothing, unless it is no better than guessing."""
        return "" if self.beaten_by(accuracy) else f", no better than guessing ({self.accuracy:.1%})"
