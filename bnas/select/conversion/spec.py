"""The description of a converted model: the float model by name, and what became of its layers."""

import hashlib
import json

from torch import nn

from bnas.networks.user_model import build_original
from bnas.select import Decisions, Original
from bnas.select.conversion.replace import convert


class ConvertedModel(Decisions):
    """A model by name with decisions on its layers: what `selection.yaml` holds."""

    original: Original

    @property
    def model(self) -> str:
        """The name of the float model."""
        return self.original.model

    @property
    def input(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.original.input

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return self.original.classes

    @property
    def id(self) -> str:
        """A short name that is the same for equal descriptions."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def build(self) -> nn.Module:
        """Return the converted model without the trained weights of the float one.

        Raises:
            LookupFailed: there is no such model, layer or binarizer.
        """
        return convert(build_original(self.original.model_copy(update={"weights": None})), self)

    def build_original(self) -> nn.Module:
        """Return the float model with its weights.

        Raises:
            SpecError: the weights cannot be read, or are not those of the model.
        """
        return build_original(self.original)
