"""An architecture and a recipe -> the network, trained alone: stages in order, each taught by the one before."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnas.arch import Architecture
from bnas.data import DataSet
from bnas.layers.binary_conv import BinaryConv
from bnas.layers.blocks import Network
from bnas.layers.expert_conv import ExpertConv
from bnas.network import build
from bnas.progress import Progress, silent
from bnas.recipe import Distillation, Recipe, Stage
from bnas.train.loop import Store, fit


def train_alone(
    arch: Architecture,
    recipe: Recipe,
    data: DataSet,
    *,
    name: str,
    seed: int,
    store: Store,
    device: torch.device,
    until: int | None = None,
    progress: Progress = silent,
) -> Network:
    """Return the network of `arch` trained by a recipe, from where the store has it or from the start.

    Args:
        name: of the checkpoints, one a stage: `NAME-0`, `NAME-1`, ...
        until: stop after this epoch of the last stage; None trains to the end.
    Raises:
        TrainingError: a loss is not finite.
    Source of the stages: Bulat et al., arXiv:2010.03558, section 4 (binary activations with real weights; one expert
    copied to all; binary weights; each stage taught by the one before).
    """
    before: Network | None = None
    for index, stage in enumerate(recipe.stages):
        last = index == len(recipe.stages) - 1
        network = start_stage(arch, stage, before, seed=seed + index).to(device)
        fit(
            network,
            partial(stage_loss, network, before, stage),
            data.train,
            stage=stage,
            batch=recipe.batch,
            name=f"{name}-{index}",
            seed=seed + index,
            store=store,
            device=device,
            until=until if last else None,
            progress=progress,
        )
        before = network.eval()
    assert before is not None
    return before


def start_stage(arch: Architecture, stage: Stage, before: nn.Module | None, *, seed: int) -> Network:
    """Return the network of a stage with the weights of the stage before; one expert becomes all of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(arch.with_one_expert() if stage.experts == "first" else arch)
    if before is not None:
        inherit(network, before)
    for module in network.modules():
        if isinstance(module, BinaryConv | ExpertConv):
            module.real_weights = stage.weights == "real"
    return network


@torch.no_grad()
def inherit(network: nn.Module, before: nn.Module) -> None:
    """Copy weights by name; one filter bank goes to every expert; gates that were not there stay as they are."""
    own = network.state_dict()
    for name, tensor in before.state_dict().items():
        own[name].copy_(tensor)  # broadcasts [out, ...] over [experts, out, ...]


def stage_loss(
    network: Network, teacher: Network | None, stage: Stage, images: Tensor, labels: Tensor, step: int
) -> Tensor:
    """Return the cross-entropy, and where the stage is taught, how far the network is from its teacher."""
    logits, maps = network.with_maps(images)
    loss = F.cross_entropy(logits, labels, label_smoothing=stage.label_smoothing)
    if teacher is None or stage.distill is None:
        return loss
    with torch.no_grad():
        taught_logits, taught_maps = teacher.with_maps(images)
    return loss + distance(logits, maps, taught_logits, taught_maps, stage.distill)


def distance(
    logits: Tensor, maps: list[Tensor], taught_logits: Tensor, taught_maps: list[Tensor], weights: Distillation
) -> Tensor:
    """Return KL of the logits and the attention distance of all stages but the first, weighted and added.

    Source: Martinez et al., Training Binary Neural Networks with Real-to-Binary Convolutions, 2020, section 3.1.
    """
    t = weights.temperature
    teacher, student = F.log_softmax(taught_logits / t, 1), F.log_softmax(logits / t, 1)
    loss = weights.logits * t * t * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    if weights.attention:
        pairs = list(zip(maps, taught_maps, strict=True))
        for own, taught in pairs[1:] or pairs:
            loss = loss + weights.attention * (attention(own) - attention(taught)).square().sum(1).mean()
    return loss


def attention(features: Tensor) -> Tensor:
    """Return the L2-normalised mean-square activation map: [batch, channels, height, width] -> [batch, positions]."""
    return F.normalize(features.square().mean(1).flatten(1), dim=1)
