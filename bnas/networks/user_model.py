"""A model by reference, and a file of its weights -> the model; no file of weights is ever unpickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bnas.errors import LookupFailed, SpecError
from bnas.lookup import FAILURES, load_reference, reason
from bnas.networks.models import MODELS, build_model
from bnas.seeds import seeded
from bnas.space.original import Original


def load_model(reference: str) -> nn.Module:
    """Return the module that `file.py:attr` or `pkg.mod:attr` names, or that what it names makes without arguments.

    Importing runs the named code: give only files that you trust.

    Raises:
        LookupFailed: the file or attribute does not exist, cannot be called without arguments, or is no module.
    """
    found = load_reference(reference, what="model")
    if callable(found) and not isinstance(found, nn.Module):
        try:
            found = found()
        except FAILURES as problem:
            raise LookupFailed(
                f"model {reference!r}: calling it without arguments fails: {reason(problem)}; "
                "name a module, or a function or class that needs no arguments"
            ) from problem
    if not isinstance(found, nn.Module):
        raise LookupFailed(
            f"model {reference!r}: must be an nn.Module, or make one when called, but is of type {type(found).__name__}"
        )
    return found


NESTED_IN = ("state_dict", "model")  # keys under which people's checkpoints hold the state dict


def build_original(original: Original) -> nn.Module:
    """Return a float model with its weights; where it has none, they are drawn alike each time.

    Raises:
        LookupFailed: there is no such model.
        SpecError: the weights cannot be read, or are not those of the model.
    """
    is_known = original.model in MODELS or ":" not in original.model
    with seeded(0):
        model = build_model(original.model, classes=original.classes) if is_known else load_model(original.model)
    if original.weights is not None:
        load_weights(model, original.weights)
    return model


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a file of weights into a model: safetensors, or what `torch.save` wrote, read without running its code.

    Raises:
        SpecError: the file cannot be read so, or its names or shapes are not the model's.
    """
    state = _read(Path(path))
    try:
        model.load_state_dict(dict(state), strict=True)
    except RuntimeError as problem:
        reason = " ".join(str(problem).splitlines()[1].split())[:200]
        raise SpecError(f"{path}: the weights are not those of the model: {reason}") from problem


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise SpecError(f"{path}: no such file; give the weights as a .safetensors file, or what torch.save wrote")
    try:
        read: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (OSError, SafetensorError) as problem:
        raise SpecError(f"{path}: cannot be read: {' '.join(str(problem).split())[:200]}") from problem
    except Exception as problem:  # whatever a file that is no zip, or no pickle of tensors, makes torch raise
        raise SpecError(
            f"{path}: holds more than weights, or none ({type(problem).__name__}); save model.state_dict() alone, with "
            "safetensors or torch.save"
        ) from problem
    for key in NESTED_IN:
        if isinstance(read, Mapping) and isinstance(read.get(key), Mapping):
            read = read[key]
    if not isinstance(read, Mapping) or not all(isinstance(tensor, Tensor) for tensor in read.values()):
        raise SpecError(f"{path}: holds a {type(read).__name__}, no state dict; save model.state_dict()")
    return read
