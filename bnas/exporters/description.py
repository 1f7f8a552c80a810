"""What is written beside trained weights <-> the network they belong to: an architecture, or a model by name."""

from collections.abc import Mapping

from torch import nn

from bnas.arch import Architecture
from bnas.models.spec import ModelSpec
from bnas.network import build
from bnas.spec import parse

Description = Architecture | ModelSpec


def parse_description(data: object, *, source: str) -> Description:
    """Return what was read from YAML as a description: a model by name where it says `model`, else an architecture.

    Raises:
        SpecError: it is not well formed; names the source.
    """
    named = isinstance(data, Mapping) and "model" in data
    return parse(ModelSpec, data, source=source) if named else parse(Architecture, data, source=source)


def rebuild(description: Description) -> nn.Module:
    """Return the described network, freshly initialised.

    Raises:
        LookupFailed: a model, preset or binarizer of this name is not here.
    """
    return build(description) if isinstance(description, Architecture) else description.build()
