"""A model by name, and data -> the layers to binarize, written to a folder that a person may edit and give back."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnas.api.finetuning import Accuracies, accuracies, networks_between
from bnas.api.progress_bars import say_images
from bnas.api.request import check_outputs, load_for, pick_device
from bnas.data import DataSet
from bnas.errors import RunError, SpecError
from bnas.lookup import FAILURES
from bnas.networks.user_model import build_original
from bnas.progress import Progress, silent
from bnas.report.selection_figure import write_selection_figures
from bnas.runs import best_in
from bnas.runs.documents import write_table, write_text
from bnas.runs.names import DECISIONS, FIGURES, FINETUNED, LAYERS, NETWORKS
from bnas.select import Decisions, Original, Selection
from bnas.select.calibrate import Batches
from bnas.ship import load
from bnas.spec import dump, read

CALIBRATION_BATCH = 64  # images of one calibration step
_HEAD = (
    "# Edit a precision (real, weight, binary), then give this file back: bnas select MODEL --selection FILE -o DIR\n"
)
Choose = Callable[[nn.Module, Batches], Selection]


@dataclass(frozen=True)
class SelectResult:
    """What was chosen, what it costs and gets right beside the networks it stands between, and where it was written."""

    folder: Path
    selection: Selection
    networks: list[dict[str, Any]]


def select_model(
    model: str,
    choose: Choose,
    *,
    data: Any,
    out: str | Path,
    weights: str | None = None,
    input_shape: tuple[int, int, int] | None = None,
    normalise: str | tuple[Any, Any] | None = None,
    images: int = 256,
    finetune: int | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Progress = silent,
) -> SelectResult:
    """Choose the layers of a named model on images of a data set, and write what was chosen.

    Args:
        model: a known name, `file.py:attr` or `pkg.mod:attr`.
        choose: from the model and calibration batches to a selection: `select_layers` or `review` with their settings.
        data: whatever `bnas.load_data` takes.
        out: a folder; one that holds another selection is left as it is.
        weights: a file of trained weights, safetensors or a state dict of `torch.save`.
        input_shape: to resize the images to.
        normalise: how the model wants its images, as `normalisation` of `bnas.load_data`.
        images: of the training images, for calibration.
        finetune: epochs to train the networks for, to compare their accuracy; 0 compares it before training only.
    Raises:
        BnasError: one line that says where, which rule, which values, what to do.
    """
    if images < 2:
        raise SpecError(f"images: at least 2 are needed to calibrate, but got {images}; 256 are enough for most models")
    known = load_for(model, data, seed=seed, input_shape=input_shape, normalisation=normalise)
    say_images(known, progress)
    original = Original(
        model=model, weights=weights, input=known.input_shape, classes=known.classes, normalise=known.normalised or None
    )
    network = build_original(original).to(pick_device(device))
    _check_outputs(network, known)
    selection = choose(network, list(_calibration(known, images, seed)))
    decisions = selection.decisions.model_copy(update={"original": original})
    folder = Path(out)
    _write(folder, selection, decisions)
    found = {}
    if finetune is not None:
        found = accuracies(
            selection, original, known, epochs=finetune, out=folder / FINETUNED, seed=seed, device=device,
            progress=progress,
        )  # fmt: skip
    networks = list(_networks(selection, found))
    write_table(folder / NETWORKS, rows=networks)
    return SelectResult(folder, selection, networks)


def load_trained(folder: Path, *, device: str | None) -> nn.Module:
    """Return the trained network of a run folder, of its `best/`, or of an export, on a device.

    Raises:
        BnasError: there is none.
    """
    return load(best_in(folder)).to(pick_device(device))


def _calibration(data: DataSet, images: int, seed: int) -> Iterator[Any]:
    """Return batches of training images as they are; none has one image only, which cannot be normalised."""
    part = data.train.take(images, seed=seed)
    batch = min(CALIBRATION_BATCH, len(part))
    return part.batches(batch, drop_last=len(part) % batch == 1)


def _check_outputs(network: nn.Module, data: DataSet) -> None:
    """Raise unless the model has an output for each class; one that gives no logits is left to what measures it."""
    device = next(iter(network.parameters()), torch.empty(0)).device
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = deepcopy(network).eval()(torch.zeros(2, *data.input_shape, device=device))
    except FAILURES:
        return
    if isinstance(logits, Tensor) and logits.ndim == 2:
        check_outputs(logits.shape[1], data)


def _write(folder: Path, selection: Selection, decisions: Decisions) -> None:
    """Write the decisions, the layers and the picture.

    Raises:
        RunError: the folder holds another selection, or cannot be written.
    """
    path = folder / DECISIONS
    if path.exists() and read(Decisions, path) != decisions:
        raise RunError(
            f"{folder}: holds another selection, perhaps an edited one; give another folder, or take that one with "
            f"--selection {path}"
        )
    write_text(path, text=_HEAD + dump(decisions))
    write_table(folder / LAYERS, rows=selection.rows())
    write_selection_figures(selection.rows(), folder / FIGURES, metric=selection.metric)


def _networks(selection: Selection, found: Mapping[str, Accuracies]) -> Iterator[dict[str, Any]]:
    for name, chosen in {"real": selection.at("real"), **networks_between(selection)}.items():
        cost, real = chosen.cost, selection.real_cost
        yield {
            "network": name, "ops": cost.ops, "ops_share": cost.ops / real.ops, "bops": cost.bops, "flops": cost.flops,
            "bytes": cost.bytes, "bytes_share": cost.bytes / real.bytes, "weight_saving": cost.weight_saving,
            **found.get(name, {}),
        }  # fmt: skip
