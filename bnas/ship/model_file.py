"""A description -> the text of model.py: one torch file that builds the network and needs nothing of ours."""

from bnas.cost.budget import show
from bnas.cost.totals import BOPS_PER_OP, NOT_COUNTED, Cost
from bnas.select.conversion import ConvertedModel
from bnas.ship.bundle import Bundle
from bnas.ship.description import Description
from bnas.ship.of_architecture import architecture_parts
from bnas.ship.of_conversion import conversion_parts
from bnas.ship.of_model import model_parts
from bnas.ship.parts import RESERVED, Parts
from bnas.space.arch import Architecture


def model_file(described: Description, price: Cost, *, notes: str = "") -> str:
    """Return the source of model.py, whose `build()` returns the described network.

    It holds the layers and binarizers that this network needs, as they stand in our modules, and no others; of a user's
    module, the definition of the network and what it needs.

    Args:
        price: what the network costs.
        notes: lines for the end of the text at its top.
    Raises:
        ExportError: something of the user's own cannot be written into one file that needs torch only.
    """
    parts = _parts(described)
    bundle = Bundle(parts.edits, parts.extra, reserved=RESERVED)
    for name in parts.wanted:
        bundle.add(name)
    for found in parts.imports:
        bundle.need(found)
    return f'"""{_heading(described, parts, price)}{notes}"""\n\n{bundle.text()}\n\n\n{parts.functions}'


def _parts(described: Description) -> Parts:
    if isinstance(described, Architecture):
        return architecture_parts(described)
    return conversion_parts(described) if isinstance(described, ConvertedModel) else model_parts(described)


def _heading(described: Description, parts: Parts, price: Cost) -> str:
    channels, height, width = described.input
    return f"""{parts.title}; only torch is needed.

Images [batch, {channels}, {height}, {width}] -> logits [batch, {described.classes}].
Counted for one image: {show(price.ops)} OPs = {price.flops} FLOPs + {price.bops} BOPs / {BOPS_PER_OP};
{price.bytes} bytes packed, {price.parameters} parameters;
{NOT_COUNTED}.

    from safetensors.torch import load_file

    model = build()
    model.load_state_dict(load_file("weights.safetensors"))
    model.eval()

{_licence(parts)}
"""


def _licence(parts: Parts) -> str:
    ours = "MIT, copyright the bnas authors (SPDX-License-Identifier: MIT)"
    return f"Licence: {ours}, but for what is from {parts.own}." if parts.own else f"Licence: {ours}."
