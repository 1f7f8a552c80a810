"""A network, a teacher and a batch -> the loss of a stage: cross-entropy, label smoothing, mixup, distillation."""

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.errors import TrainingError

Answer = Callable[[Tensor], tuple[Tensor, list[Tensor]]]  # images -> logits, and the maps of the stages


def answering(network: nn.Module) -> Answer:
    """Return what gives logits and the maps after each stage; a network without `with_maps` has no maps."""
    with_maps: Answer | None = getattr(network, "with_maps", None)
    return with_maps or (lambda images: (network(images), []))


def stage_loss(
    answer: Answer, teacher: Answer | None, stage: Any, seed: int, images: Tensor, labels: Tensor, step: int
) -> Tensor:
    """Return the cross-entropy, and where the stage is taught, how far the network is from its teacher.

    Args:
        stage: as a recipe has it.
    Raises:
        TrainingError: attention is to be matched, but a network gives no maps.
    """
    share = 1.0
    if stage.mixup:
        share = random.Random(f"{seed}, {step}").betavariate(stage.mixup, stage.mixup)
        images = share * images + (1 - share) * images.flip(0)
    logits, maps = answer(images if teacher is None else images.clone())  # a network may change what it is given
    loss = F.cross_entropy(logits, labels, label_smoothing=stage.label_smoothing)
    if stage.mixup:
        other = F.cross_entropy(logits, labels.flip(0), label_smoothing=stage.label_smoothing)
        loss = share * loss + (1 - share) * other
    if teacher is None or stage.distill is None:
        return loss
    with torch.no_grad():
        taught_logits, taught_maps = teacher(images)
    return loss + distance(logits, maps, taught_logits, taught_maps, stage.distill)


def distance(
    logits: Tensor, maps: list[Tensor], taught_logits: Tensor, taught_maps: list[Tensor], weights: Any
) -> Tensor:
    """Return KL of the logits and the attention distance of all stages but the first, weighted and added.

    Raises:
        TrainingError: attention is to be matched, but the networks do not give the same number of maps, or none, or
            maps of other sizes.
    Source: Martinez et al., Training Binary Neural Networks with Real-to-Binary Convolutions, 2020, section 3.1.
    """
    t = weights.temperature
    teacher, student = F.log_softmax(taught_logits / t, 1), F.log_softmax(logits / t, 1)
    loss = weights.logits * t * t * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    if not weights.attention:
        return loss
    if not maps or len(maps) != len(taught_maps):
        raise TrainingError(
            f"distill.attention: the network gives {len(maps)} maps and its teacher {len(taught_maps)}, but as many, "
            "and at least one, are needed; set attention: 0, or give both modules a method with_maps(images) "
            "that returns logits and a list of maps"
        )
    pairs = list(zip(maps, taught_maps, strict=True))
    for own, taught in pairs[1:] or pairs:
        if own.shape[2:] != taught.shape[2:]:  # one position beside many would be compared with each of them
            raise TrainingError(
                f"distill.attention: a map of the network is {list(own.shape[2:])}, height and width, and that of its "
                f"teacher {list(taught.shape[2:])}; set attention: 0, or give a teacher of the same strides"
            )
        loss = loss + weights.attention * (attention(own) - attention(taught)).square().sum(1).mean()
    return loss


def attention(features: Tensor) -> Tensor:
    """Return the L2-normalised mean-square activation map: [batch, channels, height, width] -> [batch, positions]."""
    return F.normalize(features.square().mean(1).flatten(1), dim=1)
