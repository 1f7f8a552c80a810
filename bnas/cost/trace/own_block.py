"""A block of the user's own, by name -> the class that builds it, and its planned layers, seen while it runs.

It is a class of modules, or a function that makes one: (in_channels, out_channels, **settings), where the settings are
those of `bnas.layers.blocks.Block`. [batch, in, height, width] -> [batch, out, ceil(height / stride), ceil(width /
stride)].
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from bnas.cost.plan import PlannedLayer
from bnas.cost.trace.trace_model import trace
from bnas.errors import LookupFailed, ShapeError, SpecError
from bnas.lookup import FAILURES, imported, load_reference
from bnas.space.arch import BlockSpec
from bnas.space.values import Size, shrunk


def build_own(block: BlockSpec) -> nn.Module:
    """Return a block of the user's, freshly initialised.

    Raises:
        LookupFailed: its name leads to nothing that can be called.
        SpecError: it fails for this shape, or makes no module.
    """
    make: Callable[..., Any] = imported(block.block) or load_reference(block.block, what="block")
    if not callable(make):
        raise LookupFailed(f"block {block.block!r}: must be a class or a function, but is {type(make).__name__}")
    try:
        made = make(block.in_channels, block.out_channels, **block.settings)
    except FAILURES as problem:
        raise SpecError(f"{where(block)}: could not be built: {type(problem).__name__}: {problem}") from problem
    if not isinstance(made, nn.Module):
        raise SpecError(f"{where(block)}: must make a torch module, but made {type(made).__name__}")
    return made


def plan_own(name: str, block: BlockSpec, size: Size) -> tuple[tuple[PlannedLayer, ...], Size]:
    """Return the layers of a block of the user's, and the size after it; it is built and run on one image for that.

    Args:
        name: the path of the block in its network.
        size: of what comes in.
    Raises:
        SpecError: it fails, something in it cannot be counted, or what it gives has another shape.
    """
    with torch.random.fork_rng(devices=[]):
        made = build_own(block).eval()
    shape = (block.in_channels, *size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is not counted is an error here
            layers, uncounted = trace(made, shape)
        with torch.inference_mode():
            gave = tuple(made(torch.zeros(1, *shape)).shape[1:])
    except ShapeError as problem:
        raise SpecError(f"{where(block)}: on an input of {shape}: {problem}") from problem
    if uncounted:
        raise SpecError(f"{where(block)}: cannot be counted: {'; '.join(map(str, uncounted))}")
    after = shrunk(size, block.stride)
    if gave != (block.out_channels, *after):
        raise SpecError(
            f"{where(block)}: must make {(block.out_channels, *after)} of {shape}, height and width divided by its "
            f"stride {block.stride} and rounded up, but gave {gave}"
        )
    return tuple(replace(layer, name=f"{name}.{layer.name}".rstrip(".")) for layer in layers), after


def where(block: BlockSpec) -> str:
    """Return a block as messages begin with it: its name and its shape."""
    said = ", ".join(f"{key} {getattr(block, key)}" for key in ("kernel", "stride", "groups", "experts"))
    return f"block {block.block} ({block.in_channels} -> {block.out_channels} channels, {said}, {block.precision})"
