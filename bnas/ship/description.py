"""What is written beside trained weights <-> the network they belong to.

That is an architecture, a model by name, such a model with its layers converted, or a module that was given in Python.
"""

import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import PositiveInt
from torch import nn

from bnas.cost.trace.plain_model import check_state
from bnas.errors import BnasError, SpecError
from bnas.layers.binarized import Binarized
from bnas.networks.build import build
from bnas.networks.model_spec import ModelSpec
from bnas.seeds import seeded
from bnas.select import Decision
from bnas.select.conversion import ConvertedModel
from bnas.ship.alike import difference
from bnas.space.arch import Architecture, Binarizers
from bnas.space.original import Original
from bnas.spec import Spec, id_of, parse


class HeldModel(Spec):
    """A module that was given in Python, and nothing says how it is made: whoever wants it again gives it again."""

    held: str  # its class
    input: tuple[PositiveInt, PositiveInt, PositiveInt]  # channels, height, width
    classes: PositiveInt

    @property
    def model(self) -> str:
        """What errors call it."""
        return self.held

    @property
    def id(self) -> str:
        """A short name that is the same for equal descriptions."""
        return id_of(self)

    def build(self) -> nn.Module:
        """Refuse.

        Raises:
            SpecError: always; says how to have it.
        """
        raise SpecError(
            f"model {self.held}: was given in Python, and nothing says how it is made; give it again as model=, or "
            "name what makes it when you train, as source='net.py:build'"
        )


Description = Architecture | ModelSpec | ConvertedModel | HeldModel


def parse_description(data: object, *, source: str) -> Description:
    """Return what was read from YAML as a description; which kind it is shows in its keys.

    Raises:
        SpecError: it is not well formed; names the source.
    """
    keys = data if isinstance(data, Mapping) else {}
    if "layers" in keys:
        return parse(ConvertedModel, data, source=source)
    if "model" in keys:
        return parse(ModelSpec, data, source=source)
    return parse(HeldModel, data, source=source) if "held" in keys else parse(Architecture, data, source=source)


def rebuild(description: Description) -> nn.Module:
    """Return the described network, freshly initialised.

    Raises:
        LookupFailed: a model, preset or binarizer of this name is not here.
        SpecError: it was given in Python, and nothing says how it is made.
    """
    return build(description) if isinstance(description, Architecture) else description.build()


def describe_module(
    model: nn.Module, *, input: tuple[int, int, int], classes: int, source: str | None = None
) -> Description:
    """Return the description of a module in memory, converted perhaps: by what makes it, where that is known.

    Args:
        input: channels, height and width.
        source: `file.py:attr` or `pkg.mod:attr` that makes the module, before a conversion, without arguments; None
            looks whether the module's own class does.
    Raises:
        SpecError, LookupFailed: the source does not make such a module, or its layers were converted in several ways,
            or its state is more than tensors.
    """
    check_state(model)
    if source is not None:
        made = _described(model, source, input, classes)
        if apart := _difference(made, model):
            raise SpecError(f"source {source!r}: makes another network: it {apart}; name what makes this one")
        return made
    for reference in _references(type(model)):
        try:
            made = _described(model, reference, input, classes)
            if not _difference(made, model):
                return made
        except (BnasError, TypeError):  # its class needs arguments, or is not to be imported: then it is held
            continue
    return HeldModel(held=f"{type(model).__module__}.{type(model).__qualname__}", input=input, classes=classes)


def _described(model: nn.Module, source: str, input: tuple[int, int, int], classes: int) -> Description:
    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, Binarized)}
    if not layers:
        return ModelSpec(model=source, input=input, classes=classes)
    one = next(iter(layers.values()))
    decisions = {
        path: Decision(precision=layer.precision, norm=layer.norm is not None) for path, layer in layers.items()
    }
    binary = next((layer for layer in layers.values() if layer.precision == "binary"), one)
    how = Binarizers(weight=one.weights, activation=binary.activations, pad_value=binary.pad_value)
    for path, layer in layers.items():
        if layer.weights != how.weight or (
            layer.precision == "binary" and (layer.activations, layer.pad_value) != (how.activation, how.pad_value)
        ):
            raise SpecError(
                f"layer {path!r}: has other binarizers, or another pad_value, than layer {next(iter(layers))!r}, and a "
                "description has one of each for all layers; convert all layers at once"
            )
    original = Original(model=source, input=input, classes=classes)
    return ConvertedModel(original=original, binarizers=how, layers=decisions)


def _difference(made: Description, model: nn.Module) -> str:
    """Return how what a description makes differs from a model; nothing where it does not."""
    with seeded(0):
        network = rebuild(made)
    return difference(network, model, torch.randn(2, *made.input, generator=torch.Generator().manual_seed(0)))


def _references(kind: type[nn.Module]) -> list[str]:
    """Return by what a class can be named: an installed module, or a file; not a script, which would run again."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if file is None or kind.__module__ == "__main__" or "." in kind.__qualname__:
        return []
    installed = Path(file).is_relative_to(sysconfig.get_path("purelib"))
    return [f"{kind.__module__ if installed else file}:{kind.__qualname__}"]
