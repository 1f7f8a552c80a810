"""A named float model and held-out images -> whether it knows them, and whether it was trained at all."""

import math
import warnings
from typing import NamedTuple

import torch
from torch import nn

from bnas.amounts import percent
from bnas.data import DataSet, Split
from bnas.data.facts import Guessing
from bnas.errors import DataError
from bnas.lookup import FAILURES, imported
from bnas.networks.answers import Classifier
from bnas.networks.models import MODELS
from bnas.space.original import Original
from bnas.torch_inside import AnyBatchNorm, AnyConv
from bnas.train import evaluate

BATCH = 100  # images of one evaluation step
LEARNED = 0.9  # of the loss of guessing: an untrained network is above
_BEYOND = 1 + 1e-4  # of the bound of torch's usual initialisation


class Standing(NamedTuple):
    """What a model gets right of held-out images."""

    accuracy: float
    loss: float  # mean cross-entropy
    guessing: Guessing
    classes: int

    @property
    def knows(self) -> bool:
        """Whether that is clearly more than guessing gets right, or surer than it."""
        return self.guessing.beaten_by(self.accuracy) or self.teaches

    @property
    def teaches(self) -> bool:
        """Whether it is surer of the right classes than guessing, so that another network can learn from it."""
        return self.loss < LEARNED * math.log(self.classes)

    def as_dict(self) -> dict[str, object]:
        """Return it for machines."""
        return {"accuracy": self.accuracy, "loss": self.loss, "guessing": self.guessing._asdict()}

    def __str__(self) -> str:
        return (
            f"{percent(self.accuracy)} of {self.guessing.images} held-out images right, no better than guessing "
            f"({percent(self.guessing.accuracy)})"
        )


def standing_of(network: nn.Module, images: Split, *, classes: int) -> Standing:
    """Return how a network stands on images."""
    device = next(network.parameters()).device
    accuracy, loss = evaluate(Classifier(network, classes), images.batches(BATCH, device=device))
    return Standing(accuracy, loss, Guessing.on(images.labels), classes)


def check_standing(network: nn.Module, original: Original, data: DataSet, *, images: int, seed: int) -> Standing:
    """Return how a float model stands; raise where it comes trained and knows nothing, and warn where it is untrained.

    Args:
        images: how many of the held-out ones to look at, at most.
    Raises:
        DataError: it was trained, but is no better than guessing; names the likely cause.
    """
    standing = standing_of(network, data.validation.take(images, seed=seed), classes=data.classes)
    if standing.knows:
        return standing
    trained = True if original.weights else _comes_trained(network, original.model)
    if trained:
        raise DataError(
            f"model {original.model}: comes trained, but gets {standing}; most likely its images were normalised in "
            f"another way (here mean {_listed(data.mean)}, deviation {_listed(data.std)} are taken away and divided "
            "by): say how with --normalise; or its classes stand in another order"
        )
    cause = "is not trained" if trained is False else "is not trained, or its images were normalised in another way"
    warnings.warn(
        f"model {original.model}: gets {standing}: it {cause}; the errors of its layers mean nothing for the network "
        "that training will make of it; give trained --weights",
        stacklevel=2,
    )
    return standing


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _comes_trained(network: nn.Module, reference: str) -> bool | None:
    """Say whether a model brought trained weights of its own; None where nothing tells."""
    if reference in MODELS:
        return False
    if (drawn := _is_drawn_anew(reference)) is not None:
        return not drawn
    norms = [module for module in network.modules() if isinstance(module, AnyBatchNorm) and module.track_running_stats]
    if norms and not any(module.num_batches_tracked for module in norms):
        return False
    last = _last(network)
    if last is None:
        return None
    drawn = _looks_drawn(last)
    if drawn:
        return False if norms else None
    return True if norms or drawn is False else None


def _is_drawn_anew(reference: str) -> bool | None:
    """Say whether making a model again draws its last layer anew; None where that does not tell.

    Code that sets a seed itself draws alike each time, and a module that is there ready is not made.
    """
    make = imported(reference)
    if isinstance(make, nn.Module) or not callable(make):
        return None
    weights: list[torch.Tensor] = []
    states: list[torch.Tensor] = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                last = _last(make())
            except FAILURES:
                return None
            weights += [] if last is None else [last.weight.cpu()]
            states.append(torch.get_rng_state())
    if len(weights) < 2:
        return None
    if not torch.equal(*weights):
        return True
    return None if torch.equal(*states) else False


def _last(network: nn.Module) -> nn.Linear | AnyConv | None:
    """Return the last layer with weights, as it was defined."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | AnyConv)]
    return layers[-1] if layers else None


def _looks_drawn(layer: nn.Linear | AnyConv) -> bool | None:
    """Say whether a layer's values may be as they were initialised; None where its weights alone were changed.

    They may where its bias is zero, or its weights are within the bound of torch's own initialisation.
    """
    bound = _BEYOND / math.sqrt(layer.weight[0].numel())
    if layer.weight.abs().max() <= bound or (layer.bias is not None and not layer.bias.any()):
        return True
    return None if layer.bias is not None and layer.bias.abs().max() <= bound else False
