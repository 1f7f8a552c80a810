"""A description, or a module -> what makes the network of each stage, and what teaches it."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from bnas.cost.trace.plain_model import copy_of
from bnas.errors import TrainingError
from bnas.networks.models import MODELS
from bnas.seeds import seeded
from bnas.select.conversion import ConvertedModel, convert
from bnas.ship import Description, load
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe, Stage
from bnas.train import build_for


def maker(described: Description, seed: int, *, held: nn.Module | None = None) -> Callable[[Stage], nn.Module]:
    """Return what gives a fresh network for each stage; a user's own module is made once, under the seed."""
    if held is not None:
        return lambda stage: copied(held)
    if isinstance(described, Architecture):
        return partial(build_for, described)
    if isinstance(described, ConvertedModel):
        return lambda stage: convert(described.build_original(), described)
    if described.model in MODELS:
        return lambda stage: described.build()
    with seeded(seed):
        own = described.build()  # a module that is given ready may hold trained weights: every stage begins with a copy
    return lambda stage: copied(own)


def teacher_of(
    described: Description, teacher: str | Path | nn.Module | None, *, trust: bool = False
) -> nn.Module | None:
    """Return what teaches the first taught stage: a module, the network of a folder, a converted model's original."""
    if teacher is not None:
        return copied(teacher) if isinstance(teacher, nn.Module) else load(teacher, trust=trust)
    if isinstance(described, ConvertedModel) and described.original.weights:
        return described.build_original()
    return None


def untaught(recipe: Recipe, *, is_taught: bool, remedy: str) -> str:
    """Say that nobody teaches a first stage that has `distill`, where that is so; else ""."""
    if is_taught or recipe.stages[0].distill is None:
        return ""
    return f"the first stage has distill, but there is no teacher: it is trained without one; {remedy}"


def teacher_name(teacher: str | Path | nn.Module | None) -> str | None:
    """Return what a run calls a teacher."""
    if isinstance(teacher, nn.Module):
        return f"given in Python: {sum_of(teacher)}"
    return None if teacher is None else str(teacher)


def sum_of(model: nn.Module) -> str:
    """Return a checksum of a module's weights, by which a run knows it again."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def copied(module: nn.Module) -> nn.Module:
    """Return a copy of a module that was given in Python.

    Raises:
        TrainingError: it cannot be copied.
    """
    return copy_of(module, where=type(module).__name__, error=TrainingError)
