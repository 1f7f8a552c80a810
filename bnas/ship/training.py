"""The best network of a run -> a folder to train and evaluate it in, with torch alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor

from bnas.runs.saved_network import ARCHITECTURE, MANIFEST, WEIGHTS
from bnas.ship.description import Description
from bnas.ship.model_file import model_file
from bnas.ship.proof import count_again, prove_model_file, reload
from bnas.ship.train_file import Preparation, train_file
from bnas.space.recipe import Recipe
from bnas.spec import Spec, dump, parse


@dataclass(frozen=True)
class TrainedNetwork:
    """The best network of a run: description, weights by name, and what is known of it."""

    described: Description
    tensors: Mapping[str, Tensor]
    manifest: Mapping[str, Any]


class Normalisation(Spec):
    """Mean and deviation of the training images per channel, where full scale is 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Known(Spec):
    """What a manifest must say for its network to be trained elsewhere; it may say more."""

    model_config = ConfigDict(extra="ignore")

    recipe: Recipe
    normalisation: Normalisation
    augmentation: tuple[Literal["affine", "crop", "flip", "shift"], ...] = ()  # those that train.py knows
    accuracy: dict[str, float | None]


def export_training(best: TrainedNetwork, folder: Path) -> dict[str, Any]:
    """Write model.py, train.py, description and weights; return what the manifest is to say of the proof.

    Raises:
        ExportError: the network cannot be written into one file, or does not come back the same.
        SpecError: the manifest does not say what has to be known.
    """
    known = parse(Known, best.manifest, source=f"best/{MANIFEST}")
    preparation = Preparation(known.normalisation.mean, known.normalisation.std, known.augmentation)
    save_file(dict(best.tensors), folder / WEIGHTS)
    network = reload(best.described, load_file(folder / WEIGHTS), source=WEIGHTS)
    price = count_again(network, best.described)
    text = model_file(best.described, price, notes=_notes(known))
    (folder / "model.py").write_text(text, encoding="utf-8")
    (folder / "train.py").write_text(train_file(best.described, known.recipe, preparation), encoding="utf-8")
    (folder / ARCHITECTURE).write_text(dump(best.described), encoding="utf-8")
    return {
        "weights_sha256": sha256(folder / WEIGHTS),
        "architecture_sha256": sha256(folder / ARCHITECTURE),
        "counted_again": price.as_dict(),
        "reload": prove_model_file(folder, network, best.described, weights=WEIGHTS),
    }


def sha256(file: Path) -> str:
    """Return the checksum of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _notes(known: Known) -> str:
    """Return the accuracies that the run measured, as a line for the top of model.py."""
    parts = [(part, known.accuracy.get(part)) for part in ("validation", "test")]
    said = ", ".join(f"{100 * value:.2f} % on {part} images" for part, value in parts if value is not None)
    return f"Accuracy with the weights beside this file: {said}.\n" if said else ""
