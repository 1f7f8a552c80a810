"""A selection -> the accuracy of the networks that it stands between, before and after fine-tuning."""

from pathlib import Path

from torch import nn

from bnas.api.request import pick_device
from bnas.api.training import train_model
from bnas.conversion import ConvertedModel, convert
from bnas.data import DataSet
from bnas.models.original import build_original
from bnas.progress import Progress, silent
from bnas.runs.picked import SELECTED
from bnas.selection import Decisions, Original, Selection
from bnas.train import evaluate, recalibrate

BATCH, RECALIBRATION = 100, 2000  # images

Accuracies = dict[str, float]


def networks_between(selection: Selection) -> dict[str, Selection]:
    """Return the selection, and the two that it stands between: no choice kept, and every one."""
    return {
        "all weights binary": selection.at("weight"),
        "all binary": selection.at("binary"),
        SELECTED: selection,
    }


def accuracies(
    selection: Selection,
    original: Original,
    data: DataSet,
    *,
    epochs: int,
    out: Path,
    seed: int,
    device: str | None,
    progress: Progress = silent,
) -> dict[str, Accuracies]:
    """Return what each network gets right: of held-out training images, and once trained of the test images too.

    Before fine-tuning, batch norm is recalibrated: the norms that a conversion puts in have no statistics yet.

    Args:
        epochs: of fine-tuning; 0 measures only.
        out: gets one run folder for each network; `bnas.load(out / NAME / "best")` gives it back.
    Raises:
        BnasError: as `train_model` does.
    """
    real = build_original(original).to(pick_device(device))
    found = {"real": {"accuracy": _accuracy(real, data)}}
    for name, chosen in networks_between(selection).items():
        network = convert(real, chosen)
        device_of = next(network.parameters()).device
        part = data.train.take(RECALIBRATION, seed=seed).batches(BATCH, device=device_of)
        recalibrate(network, (images for images, _ in part))
        found[name] = {"accuracy": _accuracy(network, data)}
        if epochs:
            result = train_model(
                described(chosen.decisions, original), data=data.name, epochs=epochs, seed=seed,
                out=out / name.replace(" ", "-"), device=device, progress=progress,
            )  # fmt: skip
            trained = result.manifest["accuracy"]
            found[name] |= {"finetuned": trained["validation"], "finetuned_test": trained["test"]}
    return found


def described(decisions: Decisions, original: Original) -> ConvertedModel:
    """Return the description of a named model with these decisions."""
    return ConvertedModel(original=original, binarizers=decisions.binarizers, layers=decisions.layers)


def _accuracy(network: nn.Module, data: DataSet) -> float:
    device = next(network.parameters()).device
    return evaluate(network, data.validation.batches(BATCH, device=device))[0]
