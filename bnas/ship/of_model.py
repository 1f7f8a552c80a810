"""A model by name, a reference network's or the user's own -> what its model.py holds."""

from functools import partial
from typing import NamedTuple

from torch import nn

from bnas.lookup import load_reference
from bnas.networks.model_spec import ModelSpec
from bnas.networks.models import MODELS, Preset, preset_for
from bnas.ship.binarizers import tables_of
from bnas.ship.bundle import Definition
from bnas.ship.fold import Facts, fold
from bnas.ship.literals import arguments, literal, rows
from bnas.ship.parts import BUILD, NN, RESERVED, Parts
from bnas.ship.source import Import, read_source

_PARTS = "bnas.networks.models.parts"
_COPY = Import("copy", "deepcopy", "deepcopy")


class Maker(NamedTuple):
    """A function that makes a network, and what it needs.

    Args:
        body: its lines, without the one that names it.
        wanted, edits, imports, own: as in `Parts`.
    """

    body: str
    wanted: list[Definition]
    edits: dict[Definition, str]
    imports: tuple[Import, ...] = (NN,)
    own: str = ""


def model_parts(spec: ModelSpec) -> Parts:
    """Return the definition of a model, with all that it needs, and its `build()`.

    Raises:
        ExportError: a binarizer of the user's own is not defined where its name says.
    """
    maker, tables = maker_of(spec), tables_of(spec.build())
    return Parts(
        title=f"{shown_name(spec.model)} in plain torch, as bnas trained it",
        functions=function_of(maker, name=BUILD, says="Return the network with fresh weights."),
        wanted=maker.wanted,
        edits=maker.edits | tables.edits,
        extra=tables.extra,
        imports=maker.imports,
        own=maker.own,
    )


def maker_of(spec: ModelSpec) -> Maker:
    """Return what makes the network of a description, as Python source."""
    if spec.model not in MODELS:
        return _own(spec.model)
    preset = preset_for(spec.model, precision=spec.precision, first=spec.first, last=spec.last, weights=spec.weights)
    made = MODELS[spec.model].build
    function, settings = (made.func, made.keywords) if isinstance(made, partial) else (made, {})
    body = (
        f"    preset = {_preset(preset)}\n"
        f"    return {function.__name__}(preset, {spec.classes}{', ' if settings else ''}{arguments(settings)})\n"
    )
    wanted = [Definition(function.__module__, function.__name__), Definition(_PARTS, Preset.__name__)]
    return Maker(body, wanted, _without_unused_branches(preset))


def function_of(maker: Maker, *, name: str, says: str) -> str:
    """Return the source of a function that makes a network.

    Args:
        says: its docstring.
    """
    return f'def {name}() -> nn.Module:\n    """{says}"""\n{maker.body}'


def shown_name(model: str) -> str:
    """Return the name of a model for people: one of the user's own without the folders that its file lies in."""
    return model.rpartition("/")[2]


def _own(reference: str) -> Maker:
    """Return what makes a user's model: a call without arguments, or a copy of a module that is there ready."""
    module, _, attribute = reference.rpartition(":")
    name, wanted = RESERVED.get(attribute, attribute), [Definition(module, attribute)]
    if isinstance(load_reference(reference, what="model"), nn.Module):
        return Maker(f"    return {_COPY.alias}({name})\n", wanted, {}, (NN, _COPY), own=shown_name(module))
    return Maker(f"    return {name}()\n", wanted, {}, own=shown_name(module))


def _preset(preset: Preset) -> str:
    """Return a call of Preset."""
    kept = rows(tuple(preset.real_inputs), indent=8)
    settings = {"last": preset.last, "weights": preset.weights, "first": preset.first}
    call = f"Preset({literal(preset.name)}, {arguments(settings)}"
    if not preset.real_inputs:
        return f"{call})"
    return f"Preset(\n        {call.removeprefix('Preset(')},\n        real_inputs={kept},\n    )"


def _without_unused_branches(preset: Preset) -> dict[Definition, str]:
    """Return the functions that choose between real and binary layers, with only those choices that a preset makes."""
    between = {"real": {"real"}, "weight": {"weight"}}.get(preset.name, {"weight", "binary"})
    precisions: Facts = {"precision": between | {preset.first, preset.last}}
    known: dict[str, Facts] = {
        "plain_conv": precisions, "conv": precisions, "linear": precisions, "classifier": {"preset": [preset]}
    }  # fmt: skip
    definitions = read_source(_PARTS).definitions
    return {Definition(_PARTS, name): fold(definitions[name], facts, function=name) for name, facts in known.items()}
