"""An architecture -> the text of model.py: one torch file that builds it and needs nothing of ours."""

import inspect
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from bnas.arch import Architecture, BlockSpec
from bnas.binarize import ACTIVATION_BINARIZERS, WEIGHT_BINARIZERS
from bnas.cost import BOPS_PER_OP, NOT_COUNTED, cost, show
from bnas.errors import ExportError
from bnas.exporters.bundle import Bundle, Reference
from bnas.exporters.fold import fold
from bnas.exporters.source import read_source
from bnas.layers.blocks import Block
from bnas.plan import PlannedLayer, plan

_BLOCKS, _BINARIZE = "bnas.layers.blocks", "bnas.binarize"
_CHOSEN = ("kernel", "stride", "groups", "experts", "precision")
_WIDTH = 120  # characters a line


def model_file(arch: Architecture, *, notes: str = "") -> str:
    """Return the source of model.py, whose `build()` returns the network of `arch`.

    It holds the layers and binarizers that this architecture needs, as they stand in our modules, and no others.

    Args:
        notes: lines for the end of the text at its top.
    Raises:
        ExportError: a binarizer of the user's own cannot be written into one file.
    """
    tables, extra = _binarizer_tables(arch)
    bundle = Bundle(_without_unused_branches(arch) | tables, {_BINARIZE: extra})
    for name in ("stem", "Block", "Head", "Network"):
        bundle.add(Reference(_BLOCKS, name))
    return f'"""{_heading(arch)}{notes}"""\n\n{bundle.text()}\n\n\n{_build_function(arch)}'


def _without_unused_branches(arch: Architecture) -> dict[Reference, str]:
    """Return the functions that choose between layers, with only those choices that this architecture makes."""
    experts = {stage.experts for stage in arch.stages}
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "ConvUnit": ("__init__", {"experts": experts, "squeeze_excite": {arch.squeeze_excite}}),
        "shortcut": ("shortcut", {"kind": {arch.shortcut.kind}}),
        "stem": ("stem", {"kind": {arch.stem.kind}}),
    }
    definitions = read_source(_BLOCKS).definitions
    return {
        Reference(_BLOCKS, name): fold(definitions[name], facts, function=function)
        for name, (function, facts) in known.items()
    }


def _binarizer_tables(arch: Architecture) -> tuple[dict[Reference, str], list[Reference]]:
    """Return the tables of binarizers cut down to those in use with plain look-ups, and the user's own binarizers."""
    edits: dict[Reference, str] = {}
    own: list[Reference] = []
    for kind, name, table in (
        ("weight", arch.binarizers.weight, WEIGHT_BINARIZERS),
        ("activation", arch.binarizers.activation, ACTIVATION_BINARIZERS),
    ):
        function = _binarizer(name, table)
        if name not in table:
            own.append(function)
        constant, lookup, returns = f"{kind.upper()}_BINARIZERS", f"{kind}_binarizer", f"{kind.title()}Binarizer"
        edits[Reference(_BINARIZE, constant)] = (
            f"{constant}: dict[str, {returns}] = {{{literal(name)}: {function.name}}}"
        )
        edits[Reference(_BINARIZE, lookup)] = (
            f"def {lookup}(name: str) -> {returns}:\n"
            f'    """Return the {kind} binarizer of this name."""\n'
            f"    return {constant}[name]"
        )
    return edits, own


def _binarizer(name: str, table: Mapping[str, Callable[..., Any]]) -> Reference:
    """Return where a binarizer is defined."""
    if name in table:
        return Reference(table[name].__module__, table[name].__name__)
    module, _, attribute = name.rpartition(":")
    if attribute not in read_source(module).definitions:
        raise ExportError(
            f"binarizer {name!r}: {module} does not define {attribute!r} at its top, so it cannot be written into "
            "model.py; name the module that holds its `def`"
        )
    return Reference(module, attribute)


def _heading(arch: Architecture) -> str:
    channels, height, width = arch.input
    total = cost(plan(arch))
    return f"""Binary network {arch.id} in plain torch, as bnas found it; only torch is needed.

Images [batch, {channels}, {height}, {width}] -> logits [batch, {arch.classes}].
Counted for one image: {show(total.ops)} OPs = {total.flops} FLOPs + {total.bops} BOPs / {BOPS_PER_OP};
{total.bytes} bytes packed, {total.parameters} parameters;
{NOT_COUNTED}.

    from safetensors.torch import load_file

    model = build()
    model.load_state_dict(load_file("weights.safetensors"))
    model.eval()

Licence: MIT, copyright the bnas authors (SPDX-License-Identifier: MIT).
"""


def _build_function(arch: Architecture) -> str:
    """Return the source of `build()`, with a line for each block and the size and cost of each stage."""
    stem, stages = arch.stem, []
    planned: defaultdict[str, list[PlannedLayer]] = defaultdict(list)
    for layer in plan(arch):
        planned[".".join(layer.name.split(".")[:2])].append(layer)
    for index, blocks in enumerate(arch.blocks()):
        layers = planned[f"stages.{index}"]
        height, width = layers[-1].out_size
        comment = f"# {blocks[-1].out_channels} x {height} x {width}, {show(cost(layers).ops)} OPs"
        stages.append(f"        [  {comment}\n" + "".join(map(_block_line, blocks)) + "        ],\n")
    return f'''def build() -> nn.Module:
    """Return the network with fresh weights; architecture {arch.id}."""
    stages = [
{"".join(stages)}    ]
    first = stem({arch.input[0]}, {stem.width}, kind="{stem.kind}", kernel={stem.kernel}, stride={stem.stride})
    return Network(first, stages, Head({arch.stages[-1].width}, {arch.classes}))
'''


def _block_line(block: BlockSpec) -> str:
    """Return a call of Block: always what a search chooses, and what else differs from the defaults."""
    chosen: dict[str, Any] = {key: getattr(block, key) for key in _CHOSEN}
    settings = {
        "shortcut_kind": block.shortcut.kind,
        "reduction": block.shortcut.reduction,
        "squeeze_excite": block.squeeze_excite,
        "mixed": block.mixed,
        "weights": block.binarizers.weight,
        "activations": block.binarizers.activation,
        "pad_value": block.binarizers.pad_value,
    }
    usual = inspect.signature(Block).parameters
    changed = {key: value for key, value in settings.items() if value != usual[key].default}
    start = f"Block({block.in_channels}, {block.out_channels}, {_arguments(chosen)}"
    line = f"            {start}{', ' if changed else ''}{_arguments(changed)}),\n"
    if len(line) <= _WIDTH:
        return line
    lines = (start.removeprefix("Block("), _arguments(changed))
    return "            Block(\n" + "".join(f"                {line},\n" for line in lines) + "            ),\n"


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={literal(value)}" for key, value in values.items())


def literal(value: object) -> str:
    """Return a value as Python source, texts in double quotes."""
    return json.dumps(value) if isinstance(value, str) else repr(value)
