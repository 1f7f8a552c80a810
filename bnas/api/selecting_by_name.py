"""A model by name, and data -> the layers to binarize, written to a folder that a person may edit and give back."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bnas import report
from bnas.api.finetuning import Accuracies, accuracies, networks_between
from bnas.api.opening import load_for
from bnas.api.progress_bars import say_images
from bnas.api.request import pick_device
from bnas.api.selecting_before import (
    another_selection,
    check_folder,
    check_model,
    check_same_model,
    check_weights,
    described_original,
    is_in,
    taken_from,
)
from bnas.api.standing import Standing, check_standing
from bnas.data import DataSet
from bnas.errors import SpecError
from bnas.networks.user_model import build_original
from bnas.progress import Progress, silent
from bnas.runs import best_in
from bnas.runs.documents import write_table, write_text
from bnas.runs.selection_folder import CURVE, DECISIONS, FINETUNED, LAYERS, NETWORKS
from bnas.select import Decisions, Selection
from bnas.select.calibrate import Batches
from bnas.ship import load
from bnas.spec import dump

CALIBRATION_BATCH = 64  # images of one calibration step
_HEAD = (
    "# Edit a precision (real, weight, binary), then give this file back: bnas select MODEL --selection FILE -o DIR\n"
    "# `norm`: where the input is binary, a batch norm is put before its sign; false where the model has one there.\n"
    "# `chosen` stays as it is: it is what `why` is the reason for.\n"
)
Choose = Callable[[nn.Module, Batches], Selection]


@dataclass(frozen=True, repr=False)
class SelectResult:
    """What was chosen, what it costs and gets right beside the networks it stands between, and where it was written."""

    folder: Path
    selection: Selection
    networks: list[dict[str, Any]]
    standing: Standing  # of the float model, before anything

    def __repr__(self) -> str:
        return f"SelectResult({str(self.folder)!r}: {self.selection})"


def select_model(
    model: str,
    choose: Choose,
    *,
    data: Any,
    out: str | Path,
    weights: str | None = None,
    given: str | Path | None = None,
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
        given: the `selection.yaml` that `choose` takes back. What it says of the same model, its weights, input and
            classes, holds unless it is said anew; and its own folder may be written.
        input_shape: to resize the images to.
        normalise: how the model wants its images, as `normalisation` of `bnas.load_data`.
        images: of the training images, for calibration.
        finetune: epochs to train the networks for, to compare their accuracy; 0 compares it before training only.
    Raises:
        BnasError: one line that says where, which rule, which values, what to do.
    """
    if images < 2:
        raise SpecError(f"images: at least 2 are needed to calibrate, but got {images}; 256 are enough for most models")
    folder, taken = Path(out), taken_from(given, model)
    check_folder(folder)
    known = load_for(
        model, data, seed=seed, input_shape=input_shape or (taken.input if taken else None),
        normalisation=normalise or (taken.normalise if taken else None),
    )  # fmt: skip
    say_images(known, progress)
    original = described_original(model, weights, known, taken)
    network = build_original(original)
    check_weights(network, original)
    network = network.to(pick_device(device))
    batches = list(_calibration(known, images, seed))
    check_model(network, original, known, batches[0][0][:2], finetune=bool(finetune))
    check_same_model(folder, original, given)
    standing = check_standing(network, original, known, images=images, seed=seed)
    selection = choose(network, batches)
    decisions = selection.decisions.model_copy(update={"original": original})
    _write(folder, selection, decisions, given)
    networks = _report(folder, selection, {})
    if finetune is not None:
        found = accuracies(
            selection, original, known, epochs=finetune, out=folder / FINETUNED, seed=seed, device=device,
            progress=progress,
        )  # fmt: skip
        networks = _report(folder, selection, found)
    return SelectResult(folder, selection, networks, standing)


def load_trained(folder: Path, *, device: str | None, trust: bool = False) -> nn.Module:
    """Return the trained network of a run folder, of its `best/`, or of an export, on a device.

    Raises:
        BnasError: there is none.
    """
    return load(best_in(folder), trust=trust).to(pick_device(device))


def _calibration(data: DataSet, images: int, seed: int) -> Iterator[Any]:
    """Return batches of training images as they are; none has one image only, which cannot be normalised."""
    part = data.train.take(images, seed=seed)
    batch = min(CALIBRATION_BATCH, len(part))
    return part.batches(batch, drop_last=len(part) % batch == 1)


def _write(folder: Path, selection: Selection, decisions: Decisions, given: str | Path | None) -> None:
    """Write the decisions, the layers, and what keeping more or fewer of them would cost.

    Raises:
        RunError: the folder holds another selection than the one that was given back, or cannot be written.
    """
    path = folder / DECISIONS
    if path.exists() and not is_in(folder, given) and Decisions.read(path) != decisions:
        raise another_selection(folder)
    write_text(path, text=_HEAD + dump(decisions))
    write_table(folder / LAYERS, rows=selection.rows())
    write_table(folder / CURVE, rows=selection.curve())


def _report(folder: Path, selection: Selection, found: Mapping[str, Accuracies]) -> list[dict[str, Any]]:
    """Write the networks that the selection stands between, and the page; return the networks."""
    networks = list(_networks(selection, found))
    write_table(folder / NETWORKS, rows=networks)
    report.write_selection_report(folder)
    return networks


def _networks(selection: Selection, found: Mapping[str, Accuracies]) -> Iterator[dict[str, Any]]:
    for name, chosen in {"real": selection.at("real"), **networks_between(selection)}.items():
        cost, real = chosen.cost, selection.real_cost
        yield {
            "network": name, "ops": cost.ops, "ops_share": cost.ops / real.ops, "bops": cost.bops, "flops": cost.flops,
            "bytes": cost.bytes, "bytes_share": cost.bytes / real.bytes, "weight_saving": cost.weight_saving,
            "error": chosen.error_left if name != "real" else 0.0, **found.get(name, {}),
        }  # fmt: skip
