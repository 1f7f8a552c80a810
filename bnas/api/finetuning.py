"""A selection -> the accuracy of the networks that it stands between, before and after fine-tuning."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from bnas.api.request import pick_device
from bnas.api.standing import BATCH, Standing, standing_of
from bnas.api.training import train_model
from bnas.data import DataSet, Split
from bnas.networks.user_model import build_original
from bnas.progress import Progress, silent
from bnas.runs.files import replacing
from bnas.runs.selection_folder import SELECTED
from bnas.select import Decisions, Original, Selection
from bnas.select.conversion import ConvertedModel, convert
from bnas.train import recalibrate

RECALIBRATION = 2000  # images
TEACHER = "real.pt"  # the weights that a model brings itself
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

    Before fine-tuning, batch norm is recalibrated: the norms that a conversion puts in have no statistics yet. The real
    network is not trained further; what it gets right stands before and after. It teaches the others where it has a
    file of trained weights, and where it brings weights of its own that know more of these images than guessing does.

    Args:
        epochs: of fine-tuning; 0 measures only.
        out: gets one run folder for each network; `bnas.load(out / NAME / "best")` gives it back.
    Raises:
        BnasError: as `train_model` does.
    """
    real = build_original(original).to(pick_device(device))

    def scored(network: nn.Module, images: Split) -> Standing:
        return standing_of(network, images, classes=data.classes)

    standing = scored(real, data.validation)
    found = {"real": {"accuracy": standing.accuracy}}
    if epochs:
        found["real"] |= {"finetuned": standing.accuracy, "finetuned_test": scored(real, data.test).accuracy}
        original = _with_weights(original, real, out / TEACHER) if standing.teaches else original
    for name, chosen in networks_between(selection).items():
        network = convert(real, chosen)
        recalibrate(network, _images(data.train.take(RECALIBRATION, seed=seed), network))
        found[name] = {"accuracy": scored(network, data.validation).accuracy}
        if epochs:
            result = train_model(
                described(chosen.decisions, original), data=data, epochs=epochs, seed=seed,
                out=out / name.replace(" ", "-"), device=device, progress=progress,
            )  # fmt: skip
            trained = result.manifest["accuracy"]
            found[name] |= {"finetuned": trained["validation"], "finetuned_test": trained["test"]}
    return found


def _images(part: Split, network: nn.Module) -> Iterator[Tensor]:
    """Return batches of images; none has one image only, which cannot be normalised."""
    device = next(network.parameters()).device
    spare = len(part) > BATCH and len(part) % BATCH == 1
    return (images for images, _ in part.batches(BATCH, drop_last=spare, device=device))


def described(decisions: Decisions, original: Original) -> ConvertedModel:
    """Return the description of a named model with these decisions."""
    return ConvertedModel(original=original, binarizers=decisions.binarizers, layers=decisions.layers)


def _with_weights(original: Original, real: nn.Module, path: Path) -> Original:
    """Return the description of a model with a file of its weights; one that it brings itself is written down."""
    if original.weights is not None:
        return original
    with replacing(path) as temporary:
        torch.save({name: tensor.cpu() for name, tensor in real.state_dict().items()}, temporary)
    return original.model_copy(update={"weights": str(path)})
