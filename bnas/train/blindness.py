"""A network about to be trained and some images -> a warning for each binary layer whose input tells them not apart."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bnas.cost.trace.plain_model import copy_of
from bnas.cost.trace.wholes import is_binary
from bnas.errors import TrainingError
from bnas.select.conversion import Signs, before_sign, channel_dim

_logger = logging.getLogger(__name__)


def warn_of_blind_layers(network: nn.Module, images: Tensor) -> list[str]:
    """Warn of the binary layers whose binary input is the same for every image, and return their names.

    Such a layer, and whatever comes from it alone, never sees the image. Batch norm takes the statistics of these
    images, as it will in training. The network stays as it is, and so do random numbers.

    Args:
        images: a batch [batch, channels, height, width].
    """
    run = copy_of(network, where="train", error=TrainingError)
    layers = {path: module for path, module in run.named_modules() if _has_binary_input(module)}
    signs = {path: Signs(channel_dim(module)) for path, module in layers.items()}
    for path, layer in layers.items():
        layer.register_forward_pre_hook(_noting(signs[path]), with_kwargs=True)
    run.train()
    with torch.no_grad(), torch.random.fork_rng():
        run(images.clone())
    blind = [path for path, found in signs.items() if found.is_known and found.constant == 1]
    for path in blind:
        _logger.warning(
            "%s: its binary input is the same for every image, so that it sees nothing: an activation that is never "
            "negative stands right before its sign; put a batch norm between them", path,
        )  # fmt: skip
    return blind


def _has_binary_input(module: Any) -> bool:
    return is_binary(module) and module.precision == "binary" and not module.real_inputs


def _noting(signs: Signs) -> Callable[..., None]:
    def note(layer: Any, args: Any, kwargs: Any) -> None:
        signs.add(layer.binarize_input(before_sign(layer, args, kwargs)))

    return note
