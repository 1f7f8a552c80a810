"""The best network of a run -> one file in bits, proved to give the same logits on real images."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bnas.binarize import BinaryWeight, WeightBinarizer
from bnas.cost.trace.plain_model import copy_of
from bnas.data import load_data
from bnas.errors import BnasError, DataError, ExportError
from bnas.layers import BinaryLayer
from bnas.runs.saved_network import MANIFEST
from bnas.runtime import Card, Network
from bnas.runtime.file import NAME, encoded, read
from bnas.runtime.program import Program
from bnas.ship.description import Description
from bnas.ship.lowering import lower
from bnas.ship.proof import check_norms, reload, seeded_images
from bnas.ship.training import Normalisation, TrainedNetwork, sha256
from bnas.spec import Spec, parse
from bnas.torch_inside import DisableTorchFunction
from bnas.trust import check_name

IMAGES = 64  # real ones that the packed network is compared on
TOLERANCE = 1e-4  # in units of the largest logit
_ROUNDING = 1e-3  # of full scale
FEW = 0.1  # of the images may be further apart: a value that is nearly 0 may get either sign in float32


class Images(Spec):
    """What a manifest says of the images that a network was trained on; it says more."""

    model_config = ConfigDict(extra="ignore")

    class_names: tuple[str, ...] = ()


class Shipped(Spec):
    """What a manifest must say for its network to run elsewhere; it may say more."""

    model_config = ConfigDict(extra="ignore")

    normalisation: Normalisation
    images: Images = Images()
    data: str = ""


class Ready(NamedTuple):
    """A trained network, lowered, and what a file that is made of it is proved on."""

    described: Description
    network: nn.Module
    program: Program
    card: Card
    norms: dict[str, Any]
    images: Tensor  # [n, channels, height, width], normalised
    images_from: str
    are_drawn: bool  # for want of those of the data set

    @property
    def shares(self) -> NDArray[np.float64]:
        """The images as they were before they were normalised: of pixels, 0 to 1 of full scale."""
        mean, std = (np.array(part).reshape(-1, 1, 1) for part in (self.card.mean, self.card.std))
        shares: NDArray[np.float64] = self.images.double().numpy() * std + mean
        return shares

    @property
    def are_of_pixels(self) -> bool:
        """Whether pixels make the images; of drawn ones that is not known, and they are taken to the nearest."""
        shares = self.shares
        return self.are_drawn or bool(shares.min() >= -_ROUNDING and shares.max() <= 1 + _ROUNDING)

    def on_pixels(self) -> tuple["Ready", NDArray[np.uint8]]:
        """Return what is proved on pixels, and the pixels that the images were made of; of drawn ones the nearest.

        Raises:
            ExportError: the network was trained on images that no pixels make.
        """
        shares = self.shares
        if not self.are_of_pixels:
            raise ExportError(
                f"its images go from {shares.min():.3g} to {shares.max():.3g}, but this target takes pixels, which are "
                "0 to 1 of full scale; train on images from 0 to 1 (how they are normalised goes with the network), or "
                "export to packed or onnx, which take normalised images"
            )
        pixels = np.clip(np.rint(shares * 255), 0, 255).astype(np.uint8)
        return self._replace(images=torch.from_numpy(self.card.normalised(pixels))), pixels

    def proof(self, found: NDArray[Any], *, where: str) -> dict[str, Any]:
        """Return how logits of the images agree with those of the network.

        Raises:
            ExportError: they do not.
        """
        agreed = agreement(found, exact_logits(self.network, self.images), where=where)
        return agreed | {"images": len(self.images), "images_from": self.images_from, "batch_norm": self.norms}


def ready(best: TrainedNetwork) -> Ready:
    """Return the network of a run, ready to be written for others.

    Raises:
        ExportError: a part of the network has no steps, or the weights are not its own.
        SpecError: the manifest does not say what has to be known.
    """
    known, described = parse(Shipped, best.manifest, source=f"best/{MANIFEST}"), best.described
    network = reload(described, best.tensors, source=f"best/{MANIFEST}")
    norms = check_norms(network, described)
    program = lower(network, described.input)
    return Ready(described, network, program, card_of(best), norms, *images_of(described, known, trust=best.trust))


def export_packed(best: TrainedNetwork, folder: Path) -> dict[str, Any]:
    """Write the packed network; return what the manifest is to say of it.

    Where no pixels make its images, the file does not say how pixels are normalised, and takes none.

    Raises:
        ExportError: a part of the network has no steps, or the file does not give the same logits.
        SpecError: the manifest does not say what has to be known.
    """
    shipped = ready(best)
    card = shipped.card if shipped.are_of_pixels else replace(shipped.card, mean=(), std=())
    (folder / NAME).write_bytes(encoded(shipped.program, card))
    found = Network(*read(folder / NAME))(shipped.images.numpy())
    return {"packed": told(folder / NAME), "reload": shipped.proof(found, where=NAME)}


def told(file: Path) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    return {"file": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)}


def card_of(best: TrainedNetwork) -> Card:
    """Return what goes with a network beside its program, as its manifest has it."""
    known, classes = parse(Shipped, best.manifest, source=f"best/{MANIFEST}"), best.described.classes
    names = known.images.class_names if len(known.images.class_names) == classes else ()
    return Card(known.normalisation.mean, known.normalisation.std, names, best.described.id)


def images_of(described: Description, known: Shipped, *, trust: bool) -> tuple[Tensor, str, bool]:
    """Return normalised images (validation images where the data can be read), their origin, and if they are drawn."""
    try:
        if not known.data:
            raise DataError("the manifest names no data set")
        check_name(known.data, field="data", source=MANIFEST, trust=trust)
        held_out = load_data(known.data, input_shape=described.input).validation
    except BnasError as problem:
        return seeded_images(described), f"images drawn at random ({problem})", True
    mean, std = known.normalisation.mean, known.normalisation.std
    split = type(held_out)(held_out.images, held_out.labels, mean, std).take(IMAGES, seed=0)
    return torch.cat([images for images, _ in split.batches(IMAGES)]), f"validation images of {known.data}", False


def exact_logits(network: nn.Module, images: Tensor) -> NDArray[np.float64]:
    """Return the logits in float64, with the weights' bits as they are in float32: what a network means."""
    precise = copy_of(network, where="the network", error=ExportError).double().eval()
    for layer in precise.modules():
        if isinstance(layer, BinaryLayer):
            own = layer.binarize_weight
            del layer.binarize_weight  # which may be a module, in whose place no function can be put
            layer.binarize_weight = partial(_in_float32, own)
    with torch.no_grad(), _Float64():
        logits: NDArray[np.float64] = precise(images.double()).numpy()
    return logits


class _Float64(TorchFunctionMode):
    """A context in which a model that makes its values float32, as many forwards do, makes them float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        func = Tensor.double if func is Tensor.float else func
        return func(*map(_wide, args), **{name: _wide(value) for name, value in (kwargs or {}).items()})


def _wide(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def agreement(found: NDArray[Any], expected: NDArray[Any], *, where: str) -> dict[str, Any]:
    """Return how logits [n, classes] agree.

    Raises:
        ExportError: they do not: another class, or more than a few images further apart than rounding makes them.
    """
    size = np.abs(expected).max()
    apart = np.abs(found - expected).max(1) / size
    same = found.argmax(1) == expected.argmax(1)
    far = apart > TOLERANCE
    if not np.isfinite(size) or not np.isfinite(apart).all() or not same.all() or far.mean() > FEW:
        raise ExportError(
            f"{where}: of {len(found)} images {int((~same).sum())} get another class and {int(far.sum())} have logits "
            f"that differ by more than {TOLERANCE:g} of the largest, {apart.max():.3g} at most; please report this "
            "with its architecture.yaml"
        )
    return {"same_class": len(found), "max_difference": float(apart.max()), "further_apart": int(far.sum())}


def _in_float32(binarize: WeightBinarizer, weight: Tensor) -> BinaryWeight:
    with DisableTorchFunction():  # or it would be float64
        made = binarize(weight.float())
    return BinaryWeight(*(None if part is None else part.double() for part in made))  # type: ignore[arg-type]
