"""A converted model -> what its model.py holds: how the float model is made, and which of its layers become binary."""

from collections.abc import Mapping

from torch import nn

from bnas.layers.binarized import BINARIZED, Binarized
from bnas.networks.model_spec import ModelSpec
from bnas.select.conversion import ConvertedModel
from bnas.ship.binarizers import tables_of
from bnas.ship.bundle import Definition
from bnas.ship.literals import arguments, literal
from bnas.ship.of_model import function_of, maker_of, shown_name
from bnas.ship.parts import BUILD, BUILD_ORIGINAL, Parts
from bnas.space.arch import Binarizers

_BINARIZED, _REPLACE = "bnas.layers.binarized", "bnas.layers.binarized"
_FUSING = (nn.TransformerEncoder, nn.TransformerEncoderLayer)  # what `stop_fusing` is for


def conversion_parts(converted: ConvertedModel) -> Parts:
    """Return the definition of a float model, the layers that take the place of some of its own, and `build()`.

    Raises:
        ExportError: a binarizer of the user's own is not defined where its name says.
    """
    network, original = converted.build(), converted.original
    maker = maker_of(ModelSpec(model=original.model, input=original.input, classes=original.classes))
    tables, layers = tables_of(network), _binarized(network)
    wanted = [Definition(_BINARIZED, "binarize_")] if layers else []
    wanted += [Definition(_REPLACE, "stop_fusing")] if layers and _fuses(network) else []
    float_model = function_of(maker, name=BUILD_ORIGINAL, says="Return the float model.")
    return Parts(
        title=f"{shown_name(original.model)} with {len(layers)} layers in one bit, in plain torch, as bnas trained it",
        functions=f"{float_model}\n\n{_build_function(network, layers, converted.binarizers)}",
        wanted=[*maker.wanted, *wanted],
        edits=maker.edits | tables.edits | _kinds(layers),
        extra=tables.extra,
        imports=maker.imports,
        own=maker.own,
    )


def _binarized(network: nn.Module) -> dict[str, Binarized]:
    """Return the layers that were made binary, by path."""
    return {path: module for path, module in network.named_modules() if isinstance(module, Binarized)}


def _fuses(network: nn.Module) -> bool:
    return any(isinstance(module, _FUSING) for module in network.modules())


def _kinds(layers: Mapping[str, Binarized]) -> dict[Definition, str]:
    """Return the table of layers that can become binary, with those alone that do."""
    used = {type(layer) for layer in layers.values()}
    entries = [f"    nn.{real.__name__}: {binary.__name__},\n" for real, binary in BINARIZED.items() if binary in used]
    table = f"BINARIZED: dict[type[nn.Module], type[Binarized]] = {{\n{''.join(entries)}}}"
    return {Definition(_BINARIZED, "BINARIZED"): table}


def _build_function(network: nn.Module, layers: Mapping[str, Binarized], binarizers: Binarizers) -> str:
    """Return the source of `build()`, with a line for each binary layer."""
    head = f'def {BUILD}() -> nn.Module:\n    """Return the converted model with fresh weights."""\n'
    if not layers:
        return f"{head}    return {BUILD_ORIGINAL}()\n"
    lines = "".join(
        f"        ({literal(path)}, {literal(layer.precision)}, {layer.norm is not None}),\n"
        for path, layer in layers.items()
    )
    how = {"weights": binarizers.weight, "activations": binarizers.activation, "pad_value": binarizers.pad_value}
    return f"""{head}    network = {BUILD_ORIGINAL}()
    layers = (  # path, precision, and whether a batch norm stands before the sign of the input
{lines}    )
    for path, precision, norm in layers:
        binarize_(
            network.get_submodule(path), precision=precision, norm=norm,
            {arguments(how)},
        )
{"    stop_fusing(network)" + chr(10) if _fuses(network) else ""}    return network
"""
