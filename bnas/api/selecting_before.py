"""What is asked of a selection -> an error now, where it could not be done, and what is to be known before the work."""

import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnas.api.opening import check_outputs
from bnas.api.subject import LOGITS_ALONE
from bnas.cost.trace.plain_model import check_open, copy_of
from bnas.data import DataSet
from bnas.errors import DataError, RunError, SpecError
from bnas.networks.answers import check_logits
from bnas.networks.user_model import packages_of
from bnas.runs.files import check_own
from bnas.runs.names import inside
from bnas.runs.selection_folder import DECISIONS, FIGURES, FINETUNED
from bnas.select import Decisions, Original
from bnas.select.conversion import answer_of, at_rest, copies
from bnas.spec import parse


def taken_from(given: str | Path | None, model: str) -> Original | None:
    """Return what a selection that is given back says of the model; nothing where it is about another one."""
    original = Decisions.read(given).original if given else None
    if original is None or _same(original.model, model):
        return original
    warnings.warn(
        f"{given}: is about {original.model}, not {model}: its decisions are taken, its weights and input are not",
        stacklevel=3,
    )
    return None


def _same(one: str, other: str) -> bool:
    """Say whether two references name the same thing, however the path of its file is written."""
    (file, _, name), (other_file, _, other_name) = one.rpartition(":"), other.rpartition(":")
    return one == other or (name == other_name and os.path.realpath(file) == os.path.realpath(other_file))


def described_original(model: str, weights: str | None, data: DataSet, taken: Original | None) -> Original:
    """Return the description of the float model.

    Raises:
        DataError: the images are of more classes than the model was chosen for.
    """
    said = {"model": model, "input": data.input_shape, "normalise": data.normalised or None}
    if weights:
        said["weights"] = weights
    if taken is None:
        return parse(Original, said | {"classes": data.classes}, source=f"model {model}")
    if data.classes > taken.classes:
        raise DataError(
            f"data {data.name}: has {data.classes} classes, but the selection is of a model of {taken.classes}; give "
            "the data that it was made with, or select anew"
        )
    return taken.model_copy(update=said)


def check_folder(folder: Path) -> None:
    """Raise now what would keep a selection from being written at the end.

    Raises:
        RunError: it is a file, or cannot be written; or a link leads out of it.
        SpecError: the selection in it is not well formed.
    """
    check_own(folder)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; give a folder as -o")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise RunError(f"{folder}: cannot be written, as {there} does not allow it; give another folder as -o")
    for name in (FIGURES, FINETUNED):
        inside(folder, name)
    if (folder / DECISIONS).exists():
        Decisions.read(folder / DECISIONS)


def check_same_model(folder: Path, original: Original, given: str | Path | None) -> None:
    """Raise before any measuring where a folder holds a selection that this one cannot turn out to be.

    Raises:
        RunError: it is of another model, its weights or data, or it was edited; and it was not given back.
    """
    path = folder / DECISIONS
    if not path.exists() or is_in(folder, given):
        return
    there = Decisions.read(path)
    if there.original != original or any(one.chosen != one.what for one in there.layers.values()):
        raise another_selection(folder)


def is_in(folder: Path, given: str | Path | None) -> bool:
    """Say whether the selection that was given back is that of a folder."""
    return given is not None and os.path.realpath(folder / DECISIONS) == os.path.realpath(given)


def another_selection(folder: Path) -> RunError:
    """Return the error of a folder that holds another selection."""
    return RunError(
        f"{folder}: holds another selection, perhaps an edited one; give another folder, or take that one with "
        f"--selection {folder / DECISIONS}"
    )


def check_weights(network: nn.Module, original: Original) -> None:
    """Raise unless a model has weights that can be looked at.

    Raises:
        ShapeError: it is scripted or exported, or has lazy layers.
        SpecError: it has no weights, or only their shapes.
    """
    where = f"model {original.model}"
    check_open(network, where=where)
    parameters = list(network.parameters())
    if not parameters:
        raise SpecError(f"{where}: has 0 parameters, so that nothing in it can be binarized; give another model")
    if any(parameter.is_meta for parameter in parameters):
        raise SpecError(f"{where}: is on the meta device, where weights have a shape but no values; make it on the CPU")


def check_model(network: nn.Module, original: Original, data: DataSet, images: Tensor, *, finetune: bool) -> None:
    """Raise unless a model answers images with logits as its data needs them; say what it needs beside torch.

    Args:
        images: two or more of them.
        finetune: whether it will be trained, so that its answer in training matters too.
    Raises:
        ShapeError, DataError: it does not.
        SpecError: it will be trained, and gives more than logits.
    """
    where = f"model {original.model}"
    if packages := packages_of(network):
        warnings.warn(
            f"{where}: uses {', '.join(packages)} beside torch, so that whoever gets the network needs that too",
            stacklevel=3,
        )
    ask = partial(answer_of, remedy="give --input, the size of images that it was made for")
    with at_rest(network):
        answer = ask(network, copies([images]), what="images")
    check_outputs(_outputs(answer, data, images, where), data)
    if finetune:
        _check_alone(answer, where)
        run = copy_of(network, where=where, error=SpecError)
        run.train()
        with torch.no_grad(), torch.random.fork_rng():
            answer = ask(run, copies([images]), what="images while training")
        check_outputs(_outputs(answer, data, images, f"{where}, while training"), data)
        _check_alone(answer, f"{where}, while training")


def _check_alone(answer: Any, where: str) -> None:
    if not isinstance(answer, Tensor):
        raise SpecError(f"{where}: gives a {type(answer).__name__}; {LOGITS_ALONE}, or leave --finetune out")


def _outputs(answer: Any, data: DataSet, images: Tensor, where: str) -> int:
    return check_logits(answer, batch=len(images), classes=data.classes, where=where)
