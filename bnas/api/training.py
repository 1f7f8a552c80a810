"""A model or an architecture, images and a recipe -> the network, trained, proved, and kept in a run folder."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from bnas import report
from bnas.api.advice import on_bfloat16
from bnas.api.appointing import check_normalised, check_teacher
from bnas.api.making import copied, maker, sum_of, teacher_name, teacher_of, untaught
from bnas.api.manifest import manifest_of
from bnas.api.opening import check_batch, load_for, open_for
from bnas.api.progress_bars import say, say_at_once, say_images, watched
from bnas.api.request import name_of, pick_device
from bnas.api.result import TrainResult
from bnas.api.subject import check_fits, describe, given, recipe_for
from bnas.data import DataSet, check_same_images
from bnas.data.facts import Guessing
from bnas.errors import RunError, SpecError, TrainingError
from bnas.networks.model_spec import ModelSpec
from bnas.progress import Progress
from bnas.runs import Run
from bnas.runs.contents import CONFUSION
from bnas.seeds import seeded
from bnas.select.conversion import ConvertedModel
from bnas.ship import Description, describe_module, rebuild
from bnas.ship.model_file import has_experts
from bnas.space.recipe import Recipe
from bnas.space.shipped import read_recipe
from bnas.spec import dump
from bnas.train import (
    ALONE,
    BinaryWatch,
    Ranks,
    SharedStore,
    Store,
    confusion,
    evaluate,
    evaluate_soft,
    train_staged,
)
from bnas.train.blindness import warn_of_blind_layers
from bnas.train.retrain import EVALUATION_BATCH
from bnas.train.staged import labelled

NAME = "train"  # of the checkpoints
SEEN_FIRST = 64  # images on which binary layers must see something, before training begins


def train_model(
    model: str | Path | Description | nn.Module,
    *,
    data: Any = "digits",
    recipe: str | Path | Recipe | None = None,
    precision: str | None = None,
    weights: str | None = None,
    teacher: str | Path | nn.Module | None = None,
    source: str | None = None,
    epochs: int | None = None,
    validation: float = 0.1,
    input_shape: tuple[int, int, int] | None = None,
    normalise: str | tuple[Any, Any] | None = None,
    augment: str | Sequence[str] | None = None,
    seed: int = 0,
    out: str | Path = "runs/train",
    device: str | None = None,
    compiled: bool = False,
    trust: bool = False,
    progress: Progress | bool = True,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Train one network by a recipe and write the run folder. Called again, it goes on.

    Args:
        model: a reference network by name, `file.py:attr` or `pkg.mod:attr` of a module, the YAML file of an
            architecture or of a selection, a folder that holds one, as a run does, a description; or a module itself,
            which stays as it is: a copy goes on from its weights.
        data: whatever `bnas.load_data` takes: a data set's name, a path, a `DataSet`, a torch `Dataset`, arrays.
        recipe: one of ours by name, a YAML file or a `Recipe`; None takes the one that suits the binarizer.
        precision: of a reference network, one of its presets. None: real; with `weights`, all weights are binary,
            those of the first and last layer too.
        weights: the weight binarizer of a reference network.
        teacher: a module, or a folder that `bnas.load` takes, as RUN/best, or RUN/teacher of a search; it teaches the
            first stage that has `distill`.
            None: for a converted model with a file of trained weights, the float model they belong to.
        source: `file.py:attr` that makes a module like the given one, before a conversion, without arguments; an export
            to torch needs it, where the module's class alone does not make it.
        epochs: of all stages together, shared out as in the recipe.
        validation: share of the training images held out.
        input_shape: channels, height, width to resize the images to; None: what an architecture takes, for any other
            network the size that they have, or that of its paper where they have several.
        normalise: how a network that comes trained wants its images, as `normalisation` of `bnas.load_data`; None: as a
            selection says, or by mean and deviation of the training images.
        augment: what training images go through, as `augment` of `bnas.load_data`; None: what the recipe says, or else
            what suits the data set.
        seed: the same seed gives the same network.
        out: the run folder.
        device: as in `search`.
        compiled: compile the passes with `torch.compile`; needs a C++ compiler or a GPU.
        trust: run code that the YAML of the model, or the folder of the teacher, names, as `file.py:attr`.
        progress: as in `search`.
        ranks: processes that train together, of which this is rank 0; the others must be in `Ranks.follow`.
    Raises:
        BnasError: one line that says where, which rule, which values, what to do.
    """
    say_at_once(f"train_model: reads {name_of(data)}", progress)
    held = model if isinstance(model, nn.Module) else None
    named = given(model, trust=trust) if not isinstance(model, nn.Module) else ""
    resized = input_shape if isinstance(named, str | ModelSpec) else _only_its_own(named.input, input_shape)
    if normalise is None and isinstance(named, ConvertedModel):
        normalise = named.original.normalise
    asked = recipe if isinstance(recipe, Recipe | None) else read_recipe(recipe)
    changes = asked.augment if augment is None and asked else augment
    load_images = partial(
        load_for, str(named), data, validation=validation, seed=seed, input_shape=resized, normalisation=normalise,
        augment=changes,
    )  # fmt: skip
    images = load_images()
    if held is None:
        described = describe(named, images, precision=precision, weights=weights)
    else:
        described = describe_module(held, input=images.input_shape, classes=images.classes, source=source)
    chosen = _recipe_on(images, asked or recipe_for(described), epochs=epochs, experts=has_experts(described))
    with seeded(seed):
        check_fits(rebuild(described) if held is None else copied(held), images, chosen)
    config = {
        "model": described.model_dump(mode="json"), "data": name_of(data), "validation": validation, "seed": seed,
        "recipe": chosen.model_dump(mode="json"), "teacher": teacher_name(teacher),
        **({} if normalise is None else {"normalise": images.normalised}),
    }  # fmt: skip
    if held is not None:
        config["weights_sha256"] = sum_of(held)
    run = open_for(images, out, config=config)
    say_images(images, progress)
    with run.lock(), watched(progress) as tell:
        if not _is_complete(run):
            load_same = partial(_load_same, load_images, images.facts())
            work = _Work(described, held, chosen, load_same, seed, pick_device(device), teacher, compiled, trust)
            is_taught = work.check_teacher(images)
            say(f"plan {chosen.said(len(images.train))}; written to {run.path}", progress)
            if remark := untaught(chosen, is_taught=is_taught, remedy="give one, or leave distill out"):
                say(remark, progress)
            if hint := on_bfloat16({stage.dtype for stage in chosen.stages}, work.device):
                say(hint, progress)
            ranks.call(work.beside)
            _drive(run, work, images, tell, ranks)
        report.write_training_report(run)
    return TrainResult(run, held, trust=True)  # what is run of it was given here


def _recipe_on(images: DataSet, recipe: Recipe, *, epochs: int | None, experts: bool) -> Recipe:
    """Return a recipe for these images, which say from here on how they are augmented, lasting as long as asked."""
    recipe = recipe.model_copy(update={"augment": None})
    check_batch(recipe.batch, images, source="recipe: batch")
    recipe = recipe.on(len(images.train))
    recipe = recipe if epochs is None else recipe.lasting(epochs)
    return recipe if experts else recipe.for_one_expert()


def _is_complete(run: Run) -> bool:
    """Whether the run has ended, and what it found is still there as it was written; else it is made again."""
    try:
        if run.has_table(CONFUSION):  # which a run from before it was kept has not
            run.read_table(CONFUSION)
    except RunError:
        return False
    return run.best.is_sound()


class _Work(NamedTuple):
    """What is trained, and how: all that another rank has to know."""

    described: Description
    held: nn.Module | None  # a module that was given in Python
    recipe: Recipe
    load: Callable[[], DataSet]
    seed: int
    device: torch.device
    teacher: str | Path | nn.Module | None
    compiled: bool
    trust: bool  # whether code that the teacher's folder names may be run

    @property
    def taught_by(self) -> nn.Module | None:
        """The network that teaches it, if any."""
        return teacher_of(self.described, self.teacher, trust=self.trust)

    def check_teacher(self, images: DataSet) -> bool:
        """Return whether there is a teacher; raise where it is none for these images."""
        teacher = self.taught_by
        if teacher is not None:
            check_teacher(teacher, images, where="teacher")
        if isinstance(self.teacher, str | Path):
            check_normalised(self.teacher, images, where=f"teacher {self.teacher}")
        return teacher is not None

    def train(self, data: DataSet, store: Store | None, ranks: Ranks, **told: Any) -> nn.Module:
        """Return the network, trained together with the other ranks."""
        return train_staged(
            maker(self.described, self.seed, held=self.held), self.recipe, data, name=NAME, seed=self.seed,
            store=SharedStore(store, ranks), device=self.device, compiled=self.compiled, ranks=ranks,
            teacher=self.taught_by, **told,
        )  # fmt: skip

    def beside(self, ranks: Ranks) -> None:
        """Do what the other ranks do."""
        self.train(self.load(), None, ranks)


def _only_its_own(takes: tuple[int, int, int], asked: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Return the size of images that a description takes, which is the only one that may be asked for."""
    if asked not in (None, takes):
        raise SpecError(f"input: the network takes images of {takes}, as its description says; leave --input out")
    return takes


def _load_same(load_images: Callable[[], DataSet], facts: dict[str, Any]) -> DataSet:
    """Return the images of another rank, which must be those of rank 0."""
    images = load_images()
    check_same_images(facts, images, where=f"data {images.name}")
    return images


def _drive(run: Run, work: _Work, data: DataSet, progress: Progress, ranks: Ranks) -> None:
    """Train, evaluate once on the test images, write what was made of it."""
    described, recipe, device = work.described, work.recipe, work.device
    told = labelled(progress, NAME, run.name)
    network = work.train(data, run, ranks, measure=partial(_watch, data, device), progress=told)
    accuracy = {
        "validation": evaluate(network, data.validation.batches(EVALUATION_BATCH, device=device))[0],
        "validation_soft": evaluate_soft(network, data.validation.batches(EVALUATION_BATCH, device=device))[0],
        "test": evaluate(network, data.test.batches(EVALUATION_BATCH, device=device))[0],
    }
    if not all(map(math.isfinite, accuracy.values())):
        raise TrainingError(f"{run.path}: the trained network gives values that are not finite; lower the rate")
    run.write_table(CONFUSION, confusion(network, data.test.batches(EVALUATION_BATCH, device=device)))
    network = network.cpu()
    tensors = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    manifest = manifest_of(
        described, network, tensors, accuracy=accuracy, data=data, recipe=recipe, epochs=recipe.epochs,
        seed=run.config["seed"],
    )  # fmt: skip
    guessing = Guessing.on(data.test.labels)._asdict()
    run.best.write(dump(described), tensors, manifest | {"guessing": guessing})
    run.log("trained", **accuracy)


def _watch(data: DataSet, device: torch.device, network: nn.Module) -> BinaryWatch:
    def accuracy() -> dict[str, float]:
        return {"validation_accuracy": evaluate(network, data.validation.batches(EVALUATION_BATCH, device=device))[0]}

    for images, _ in data.train.take(SEEN_FIRST, seed=0).batches(SEEN_FIRST, device=device):
        warn_of_blind_layers(network, images)
    return BinaryWatch(network, beside=accuracy)
