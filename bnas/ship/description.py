"""What is written beside trained weights <-> the network they belong to: an architecture, a model by name, or that
model with its layers converted."""

from collections.abc import Mapping

from torch import nn

from bnas.networks.build import build
from bnas.networks.model_spec import ModelSpec
from bnas.select.conversion import ConvertedModel
from bnas.space.arch import Architecture
from bnas.spec import parse

Description = Architecture | ModelSpec | ConvertedModel


def parse_description(data: object, *, source: str) -> Description:
    """Return what was read from YAML as a description: a model by name where it says `model`, a converted one where it
    says `layers`, else an architecture.

    Raises:
        SpecError: it is not well formed; names the source.
    """
    keys = data if isinstance(data, Mapping) else {}
    if "layers" in keys:
        return parse(ConvertedModel, data, source=source)
    return parse(ModelSpec, data, source=source) if "model" in keys else parse(Architecture, data, source=source)


def rebuild(description: Description) -> nn.Module:
    """Return the described network, freshly initialised.

    Raises:
        LookupFailed: a model, preset or binarizer of this name is not here.
    """
    return build(description) if isinstance(description, Architecture) else description.build()
