"""A recipe -> a network, trained in stages: each starts from the weights of the one before, which may teach it."""

import os
import shutil
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from bnas.data import DataSet
from bnas.errors import TrainingError
from bnas.layers.blocks import Network
from bnas.networks.build import build
from bnas.progress import Progress, silent
from bnas.seeds import derived, seeded
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe, Stage, batch_for
from bnas.train.loop import fit
from bnas.train.objective import answering, stage_loss
from bnas.train.ranks import ALONE, Ranks
from bnas.train.state import Measure, Store
from bnas.train.step import Net, in_channels_last, start_stage

_NAMED_BY = 12  # letters of a network's name that progress shows: as many as an id has


def train_staged(
    make: Callable[[Stage], Net],
    recipe: Recipe,
    data: DataSet,
    *,
    name: str,
    seed: int,
    store: Store,
    device: torch.device,
    teacher: nn.Module | None = None,
    start: Net | None = None,
    until: int | None = None,
    compiled: bool = False,
    measure: Callable[[Net], Measure] | None = None,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
) -> Net:
    """Return a network trained by a recipe, from where the store has it or from the start.

    Args:
        make: gives a fresh network for a stage; all of them have the same parameters, but for the number of experts.
        name: of the checkpoints, one a stage: `NAME-0`, `NAME-1`, ...
        teacher: teaches the first stage that has `distill`; the others are taught by the stage before.
        start: a network with weights to begin with, of the same parameters; it stays as it is.
        until: stop after this epoch of the last stage; None trains to the end.
        compiled: compile the forward and backward pass with `torch.compile`; needs a C++ compiler or a GPU.
        measure: given the network of a stage, returns what `fit` calls after each epoch.
        ranks: processes that make the same call, each of which takes its part of every batch.
    Raises:
        TrainingError: a loss is not finite, a stage that needs a teacher's maps has none, or nothing can compile.
    Source of the stages: Bulat et al., arXiv:2010.03558, section 4 (binary activations with real weights; one expert
    copied to all; binary weights; each stage taught by the one before).
    """
    if compiled:
        check_compiler(device)
    recipe, data = recipe.on(len(data.train)), augmented(data, recipe)
    teacher = None if teacher is None else teacher.to(device).eval()
    before: nn.Module | None = None
    network = start
    for index, stage in enumerate(recipe.stages):
        last, own = index == len(recipe.stages) - 1, derived(seed, "stage", index)
        network = start_stage(make, stage, network, seed=own).to(device)
        if stage.distill and teacher is not None:
            before, teacher = teacher, None
        if compiled:
            in_channels_last(network)
        answer, taught = answering(network), before and answering(before)
        with seeded(own):
            fit(
                network,
                partial(stage_loss, torch.compile(answer) if compiled else answer, taught, stage, own),
                data.train,
                stage=stage,
                batch=batch_for(recipe.batch, len(data.train)),
                name=f"{name}-{index}",
                seed=own,
                store=store,
                device=device,
                until=until if last else None,
                measure=measure(network) if measure else None,
                progress=progress,
                ranks=ranks,
            )  # fmt: skip
        before = network.eval()
    assert network is not None
    return network


def labelled(progress: Progress, label: str, network: str) -> Progress:
    """Return what tells how a network's stages go under a label, with the first letters of the network's name."""

    def told(phase: str, done: int, total: int, note: str = "") -> None:
        progress(f"{label}, stage {int(phase.rpartition('-')[2]) + 1}", done, total, f"{network[:_NAMED_BY]}, {note}")

    return told


def augmented(data: DataSet, recipe: Recipe) -> DataSet:
    """Return images that go through what a recipe says, where it says that."""
    return data if recipe.augment is None else data.with_augmentation(*recipe.augment)


def check_compiler(device: torch.device) -> None:
    """Raise unless `torch.compile` finds what it needs on this machine.

    Raises:
        TrainingError: the device is a CPU, and there is no C++ compiler.
    """
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    if device.type == "cpu" and not any(name and shutil.which(name) for name in names):
        raise TrainingError(
            "torch.compile: needs a C++ compiler for a CPU, and there is none; install g++, or do without"
        )


def build_for(arch: Architecture, stage: Stage) -> Network:
    """Return a fresh network of an architecture, with as many experts as the stage trains."""
    return build(arch.with_one_expert() if stage.experts == "first" else arch)
