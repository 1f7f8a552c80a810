"""The binarizers that a network uses -> our tables of them, cut down to those."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from torch import nn

from bnas.binarize import ACTIVATION_BINARIZERS, WEIGHT_BINARIZERS
from bnas.errors import ExportError
from bnas.layers.activations import RSign
from bnas.layers.binary_layer import BinaryLayer
from bnas.ship.bundle import Definition
from bnas.ship.literals import literal
from bnas.ship.source import read_source

_BINARIZE = "bnas.binarize"


class Tables(NamedTuple):
    """Edits and extra names for a `Bundle`."""

    edits: dict[Definition, str]
    extra: dict[str, list[Definition]]


def tables_for(weights: Collection[str], activations: Collection[str]) -> Tables:
    """Return the tables with these binarizers alone and plain look-ups; the user's own binarizers are in them.

    Raises:
        ExportError: a binarizer of the user's own is not defined where its name says.
    """
    edits: dict[Definition, str] = {}
    own: list[Definition] = []
    for kind, names, table in (
        ("weight", weights, WEIGHT_BINARIZERS),
        ("activation", activations, ACTIVATION_BINARIZERS),
    ):
        functions = {name: _function(name, table) for name in sorted(names)}
        own += [function for name, function in functions.items() if name not in table]
        entries = ", ".join(f"{literal(name)}: {function.name}" for name, function in functions.items())
        constant, lookup, returns = f"{kind.upper()}_BINARIZERS", f"{kind}_binarizer", f"{kind.title()}Binarizer"
        edits[Definition(_BINARIZE, constant)] = f"{constant}: dict[str, {returns}] = {{{entries}}}"
        edits[Definition(_BINARIZE, lookup)] = (
            f"def {lookup}(name: str) -> {returns}:\n"
            f'    """Return the {kind} binarizer of this name."""\n'
            f"    return {constant}[name]"
        )
    return Tables(edits, {_BINARIZE: own})


def tables_of(network: nn.Module) -> Tables:
    """Return the tables with the binarizers that the layers of a network name.

    Raises:
        ExportError: as in `tables_for`.
    """
    layers = [module for module in network.modules() if isinstance(module, BinaryLayer)]
    signs = [module for module in network.modules() if isinstance(module, RSign)]
    return tables_for(
        {layer.weights for layer in layers},
        {layer.activations for layer in layers} | {sign.activations for sign in signs},
    )


def _function(name: str, table: Mapping[str, Callable[..., Any]]) -> Definition:
    """Return where a binarizer is defined."""
    if name in table:
        return Definition(table[name].__module__, table[name].__name__)
    module, _, attribute = name.rpartition(":")
    if attribute not in read_source(module).definitions:
        raise ExportError(
            f"binarizer {name!r}: {module} does not define {attribute!r} at its top, so it cannot be written into "
            "model.py; name the module that holds its `def`"
        )
    return Definition(module, attribute)
