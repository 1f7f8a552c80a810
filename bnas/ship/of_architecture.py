"""A searched architecture -> what its model.py holds."""

import inspect
from collections import defaultdict
from typing import Any

from bnas.cost.budget import show
from bnas.cost.plan import PlannedLayer, plan
from bnas.cost.totals import cost
from bnas.layers.blocks import Block
from bnas.ship.binarizers import tables_for
from bnas.ship.bundle import Definition
from bnas.ship.fold import fold
from bnas.ship.literals import WIDTH, arguments
from bnas.ship.parts import Parts
from bnas.ship.source import read_source
from bnas.space.arch import Architecture, BlockSpec

_BLOCKS = "bnas.layers.blocks"
_CHOSEN = ("kernel", "stride", "groups", "experts", "precision")


def architecture_parts(arch: Architecture) -> Parts:
    """Return the layers and binarizers that an architecture needs, and no others, and its `build()`.

    Raises:
        ExportError: a binarizer of the user's own is not defined where its name says.
    """
    tables = tables_for({arch.binarizers.weight}, {arch.binarizers.activation})
    return Parts(
        title=f"Binary network {arch.id} in plain torch, as bnas found it",
        functions=_build_function(arch),
        wanted=[Definition(_BLOCKS, name) for name in ("stem", "Block", "Head", "Network")],
        edits=_without_unused_branches(arch) | tables.edits,
        extra=tables.extra,
    )


def _without_unused_branches(arch: Architecture) -> dict[Definition, str]:
    """Return the functions that choose between layers, with only those choices that this architecture makes."""
    experts, activations = {stage.experts for stage in arch.stages}, {arch.binarizers.activation}
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "ConvUnit": (
            "__init__",
            {"experts": experts, "squeeze_excite": {arch.squeeze_excite}, "activations": activations},
        ),
        "shortcut": ("shortcut", {"kind": {arch.shortcut.kind}}),
        "stem": ("stem", {"kind": {arch.stem.kind}}),
    }
    definitions = read_source(_BLOCKS).definitions
    return {
        Definition(_BLOCKS, name): fold(definitions[name], facts, function=function)
        for name, (function, facts) in known.items()
    }


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
    start = f"Block({block.in_channels}, {block.out_channels}, {arguments(chosen)}"
    line = f"            {start}{', ' if changed else ''}{arguments(changed)}),\n"
    if len(line) <= WIDTH:
        return line
    lines = (start.removeprefix("Block("), arguments(changed))
    return "            Block(\n" + "".join(f"                {line},\n" for line in lines) + "            ),\n"
