"""What a space says of a teacher -> which network that is, and whether it can teach the networks of the space."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from bnas.api.opening import check_batch
from bnas.api.request import Appointed, SearchRequest
from bnas.data import DataSet
from bnas.errors import LookupFailed, RunError, SpecError
from bnas.lookup import FAILURES, reason
from bnas.networks.build import build
from bnas.networks.model_spec import ModelSpec
from bnas.networks.models import MODELS, unknown_model
from bnas.runs import Run
from bnas.runs.contents import SPACE
from bnas.runs.saved_network import ARCHITECTURE, SavedNetwork, read_network
from bnas.seeds import seeded
from bnas.ship import Description, parse_description, rebuild
from bnas.ship.model_file import has_experts
from bnas.space.arch import Architecture
from bnas.space.settings import Teacher
from bnas.space.shipped import read_recipe
from bnas.space.space import SearchSpace
from bnas.spec import parse_yaml
from bnas.train.objective import answering
from bnas.trust import check_code

RECIPE = "straight_through"  # ours for real networks
MODEL = "search.teacher.model"
FAR = 0.1  # of a deviation, by which means may be apart, and deviations themselves


def appointed(request: SearchRequest, data: DataSet, *, trust: bool) -> SearchRequest:
    """Return a request with what teaches its networks, and by which recipe that is trained; as it is where none does.

    Args:
        trust: whether code that only a file names may be run.
    Raises:
        SpecError, LookupFailed, RunError, TrustError: it is not known, or comes trained and has a recipe.
        DataError: a batch of its training needs more images than there are.
        SpecError: it takes other images, tells other classes apart, or has not the maps that a stage compares.
    """
    if request.supernet_of:
        request = _with_that_of_run(request, data)
    asked = request.settings.teacher
    if asked is None:
        return request
    if not request.settings.taught:
        raise SpecError(
            "search.teacher: teaches nothing, for its logits are 0 and no stage of search.retrain.recipe has distill; "
            "give it logits, or a stage distill, or leave it out"
        )
    known = _of_run(request, asked, trust=trust) if request.supernet_of else _named(request.space, asked, trust=trust)
    _check_description(asked, known.described, request.space)
    if known.folder:
        check_normalised(known.folder, data, where=f"{MODEL}: {asked.model}")
    else:
        recipe = asked.recipe or read_recipe(RECIPE)
        check_batch(recipe.batch, data, source="search.teacher.recipe.batch")
        recipe = recipe if has_experts(known.described) else recipe.for_one_expert()
        asked = asked.model_copy(update={"recipe": recipe})
    made = replace(request.with_settings(request.settings.model_copy(update={"teacher": asked})), teacher=known)
    with seeded(0):
        network = rebuild(known.described)
        check_teacher(network, data, where=f"{MODEL}: {asked.model}")
        _check_maps(network, made.space)
    return made


def _named(space: SearchSpace, asked: Teacher, *, trust: bool) -> Appointed:
    """Return the network that a space names."""
    model = asked.model
    if model not in MODELS and Path(model).is_dir():
        if asked.recipe is not None:
            raise SpecError(f"search.teacher.recipe: {model} comes trained; leave the recipe out")
        found = read_network(Path(model), hint="give RUN/best, RUN/teacher or an export")
        return _in_folder(Path(model), found, asked, trust=trust)
    if model not in MODELS and Path(model).suffix in (".yaml", ".yml"):
        arch = Architecture.read(model)
        check_code(arch, source=model, trust=trust)
        return Appointed(arch.as_real())
    if model not in MODELS and ":" not in model:
        raise LookupFailed(unknown_model(model, what=MODEL))
    return Appointed(ModelSpec(model=model, input=space.input, classes=space.classes))


def _in_folder(folder: Path, found: SavedNetwork, asked: Teacher, *, trust: bool) -> Appointed:
    """Return the network that a folder holds; code that the space itself names was looked at with the space."""
    source = str(folder / ARCHITECTURE)
    described = parse_description(parse_yaml(found.architecture_yaml, source=source), source=source)
    is_named = isinstance(described, ModelSpec) and described.model == asked.model
    check_code(described, source=source, trust=trust or is_named)
    return Appointed(described, str(folder), found.manifest["weights_sha256"])


def _with_that_of_run(request: SearchRequest, data: DataSet) -> SearchRequest:
    """Return a request with the teacher of the run whose supernet it searches, which was taught by it.

    Raises:
        RunError: it asks for another.
    """
    source, own = request.supernet_of, request.settings.teacher
    if not Path(source).is_dir():  # moved since, perhaps; where it is needed, taking the supernet says so
        return request
    theirs = Run.read(source).space.search.teacher
    if own is not None and own.recipe is None and theirs is not None:
        own = own.model_copy(update={"recipe": theirs.recipe})
    if own is not None and own.on(len(data.train)) != theirs:
        raise RunError(
            f"{source}: its space has other settings of the teacher; search the space of that run, {source}/{SPACE}"
        )
    taught = request.with_settings(request.settings.model_copy(update={"teacher": theirs}))
    return taught if taught.settings.taught else request


def _of_run(request: SearchRequest, asked: Teacher, *, trust: bool) -> Appointed:
    """Return the teacher that is kept in the run whose supernet is searched."""
    other = Run.read(request.supernet_of)
    return _in_folder(other.teacher.folder, other.teacher.read(), asked, trust=trust)


def _check_description(asked: Teacher, described: Description, space: SearchSpace) -> None:
    """Raise unless a network is for the images and classes of a space."""
    if described.input != space.input:
        theirs, ours = ("x".join(map(str, sides)) for sides in (described.input, space.input))
        raise SpecError(f"{MODEL}: {asked.model} takes images of {theirs}, but the space of {ours}; give one for these")
    if described.classes != space.classes:
        raise SpecError(
            f"{MODEL}: {asked.model} tells {described.classes} classes apart, but the space {space.classes}; give one "
            "for these"
        )


def check_teacher(network: nn.Module, data: DataSet, *, where: str) -> None:
    """Raise unless a network takes these images and gives logits for their classes.

    Raises:
        SpecError: it does not; says both sides.
    """
    shape = "x".join(map(str, data.input_shape))
    device = next((weight.device for weight in network.parameters()), None)
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, *data.input_shape, device=device))
    except FAILURES as problem:
        raise SpecError(f"{where}: fails on images of {shape}: {reason(problem)}; give one for these") from problem
    if not isinstance(logits, Tensor) or logits.shape != (2, data.classes):
        got = f"logits {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise SpecError(
            f"{where}: gives {got} for a batch of 2, but {data.classes} classes need logits [2, {data.classes}]; give "
            "one for these"
        )


def check_normalised(folder: str | Path, data: DataSet, *, where: str) -> None:
    """Raise unless the network of a folder was trained on images that were normalised as these are, more or less.

    A part of the same images, drawn anew, has another mean and deviation, but hardly so: that of another way to
    normalise is far from it, and the network sees what it was never trained on.

    Raises:
        SpecError: it was not; says both.
    """
    known = read_network(Path(folder)).manifest.get("normalisation")
    if known is None:  # of a build that did not say it
        return
    theirs, ours = (tuple(known["mean"]), tuple(known["std"])), (data.mean, data.std)
    shifts = [abs(a - b) / s for a, b, s in zip(theirs[0], ours[0], ours[1], strict=True)]
    factors = [abs(a / b - 1) for a, b in zip(theirs[1], ours[1], strict=True)]
    if max(*shifts, *factors) > FAR:
        said = [f"mean {', '.join(f'{m:.3g}' for m in mean)} and std {', '.join(f'{s:.3g}' for s in std)}"
                for mean, std in (theirs, ours)]  # fmt: skip
        raise SpecError(
            f"{where}: was trained on images normalised by {said[0]}, but these are by {said[1]}; give one that was "
            "trained on images normalised alike"
        )


def _check_maps(teacher: nn.Module, space: SearchSpace) -> None:
    """Raise unless a teacher has maps like those of the networks, where these are compared with its own."""
    stages = space.search.retrain.recipe.stages
    place, stage = next(((place, stage) for place, stage in enumerate(stages) if stage.distill), (0, stages[0]))
    if stage.distill is None or not stage.distill.attention:
        return
    taught = _sizes(teacher, space)
    for arch in (space.smallest(), space.largest()):
        own = _sizes(build(arch), space)
        if not own or len(own) != len(taught) or own[1:] != taught[1:]:  # the first are compared only where alone
            raise SpecError(
                f"search.retrain.recipe.stages[{place}].distill.attention: compares what each stage gives, but network "
                f"{arch.id} of the space gives {own or 'nothing'} and the teacher {taught or 'nothing'}, height and "
                "width; set attention: 0, or give a teacher with stages like those of the space"
            )


def _sizes(network: nn.Module, space: SearchSpace) -> list[tuple[int, int]]:
    """Return height and width of what each stage of a network gives."""
    with torch.no_grad():
        _, maps = answering(network.eval())(torch.zeros(1, *space.input))
    return [(features.shape[-2], features.shape[-1]) for features in maps]
