"""What long work begins with: images that suit what is asked, and the run folder that keeps which they were."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnas.api.request import SearchRequest, name_of
from bnas.data import DataSet, MixedSizes, check_same_images, load_data
from bnas.errors import DataError, RunError
from bnas.networks.models import MODELS
from bnas.runs import Run, holds_run
from bnas.space.recipe import batch_for

_TRIALS = ("trials", "space.search.trials")  # where a run keeps how many it was asked for
_SOURCE = ("supernet_of", "supernet_run")  # and whose supernet it searches


def load_matching(request: SearchRequest) -> DataSet:
    """Return the data set, whose images and classes fit the space, and which fills every batch of training.

    Raises:
        DataError: it does not; says both sides.
    """
    space, settings = request.space, request.settings
    data = load_data(
        request.data,
        validation=settings.validation,
        seed=request.seed,
        input_shape=space.input,
        limit=settings.limit,
        augment=settings.augment,
    )
    name = name_of(request.data)
    if data.classes != space.classes:
        fewer = "only " if data.classes > space.classes else ""
        raise DataError(
            f"data {name}: has {data.classes} classes, but the space {fewer}{space.classes}; set classes: "
            f"{data.classes} in the space{_or_name_them(data, space.classes)}"
        )
    check_same_images(request.images or {}, data, where=f"data {name}")
    if settings.retrain.final_on_all:
        data.check_alike()
    check_batch(settings.supernet.batch, data, source="search.supernet.batch")
    check_batch(settings.retrain.recipe.batch, data, source="search.retrain.recipe.batch")
    check_batch(min(settings.scoring.batch, len(data.train)), data, source="search.scoring.batch")
    return data


def check_batch(asked: int | None, data: DataSet, *, source: str) -> None:
    """Raise unless the training images fill one batch: a short one is dropped, so nothing would be trained.

    Raises:
        DataError: they do not; says how many there are. Or it is of one image, of which a batch norm makes nothing.
    """
    images = len(data.train)
    batch = batch_for(asked, images)
    if batch == 1:
        raise DataError(f"{source}: batch norm needs more than one image; choose at least 2")
    if batch > images:
        raise DataError(
            f"{source}: {batch} is more than the {images} training images of {data.name}; choose at most {images}"
        )


def load_for(model: str, data: Any, **how: Any) -> DataSet:
    """Return a data set for a model: images of several sizes in the size of its paper, where it has one.

    Args:
        how: as in `load_data`.
    Raises:
        DataError: as in `load_data`.
    """
    try:
        return load_data(data, **how)
    except MixedSizes:
        if model not in MODELS or how.get("input_shape"):
            raise
        return load_data(data, **how | {"input_shape": MODELS[model].input})


def check_outputs(outputs: int, data: DataSet) -> None:
    """Raise unless a network has an output for each class, and none to spare.

    Raises:
        DataError: it has others; says how many.
    """
    if outputs != data.classes:
        raise DataError(
            f"data {data.name}: {data.classes} classes need logits [batch, {data.classes}], but the network gives "
            f"logits [2, {outputs}] for a batch of 2; change its last layer{_or_name_them(data, outputs)}"
        )


def _or_name_them(data: DataSet, outputs: int) -> str:
    """Say how a network may have more outputs than there are classes with images."""
    if outputs < data.classes:
        return ""
    return f", or where spare outputs are meant give a DataSet with {outputs} class_names, as from_arrays takes them"


def open_for(images: DataSet, out: str | Path, *, config: dict[str, Any], space_yaml: str = "") -> Run:
    """Return the run folder, made or resumed, that keeps which images it was begun with.

    A run from before such were kept goes on without. A search may be asked for more trials than before.

    Raises:
        RunError: it holds another run, or was begun with other images; says what differs.
    """
    if not holds_run(Path(out)):
        images.check_test()
    try:
        kept = Run.read(out).config.get("images") if holds_run(Path(out)) else images.facts()
    except RunError:  # damaged; but if what is asked is what it held, it is written anew
        kept = images.facts()
    whole = config | ({"images": kept} if kept else {})
    run = Run.open(out, config=whole, space_yaml=space_yaml, mutable=_may_differ(out, config))
    check_same_images(run.config.get("images", {}), images, where=str(run.path))
    return run


def _may_differ(out: str | Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys that a run which is there may be asked otherwise: more trials, another path to its supernet."""
    if not holds_run(Path(out)):
        return ()
    try:
        begun = Run.read(out).config
    except RunError:  # damaged: it is made anew only if the same is asked
        return ()
    more = _TRIALS if config.get("trials", 0) >= begun.get("trials", math.inf) else ()
    return (*more, *(_SOURCE if _is_same_source(begun, config) else ()))


def _is_same_source(begun: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether two descriptions name the supernet of one run, wherever that lies by now."""
    one, other = begun.get("supernet_of"), asked.get("supernet_of")
    if not one or not other:
        return False
    is_known = "supernet_run" in begun and begun["supernet_run"] == asked.get("supernet_run")
    return is_known or Path(one).resolve() == Path(other).resolve()  # a run from before has no id of it
