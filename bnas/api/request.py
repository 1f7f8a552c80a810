"""What a search was asked, resolved: the space file's defaults with the caller's choices over them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bnas.cost.budget import Budget
from bnas.data import DataSet, load_data
from bnas.errors import DataError, SpecError
from bnas.lookup import find
from bnas.searcher.sampler import MakeSampler
from bnas.searcher.samplers import SAMPLERS
from bnas.space.recipe import SearchSettings
from bnas.space.space import SearchSpace
from bnas.spec import dump, parse, read


@dataclass(frozen=True)
class SearchRequest:
    """One search: the same request gives the same result."""

    space: SearchSpace
    data: str
    budget: Budget
    sampler: str
    seed: int
    device: torch.device

    @property
    def settings(self) -> SearchSettings:
        """Trials, recipes and shares."""
        return self.space.search

    @property
    def make_sampler(self) -> MakeSampler:
        """What proposes candidates."""
        return find(self.sampler, SAMPLERS, what="sampler")

    @property
    def space_yaml(self) -> str:
        """The space as YAML, resolved."""
        return dump(self.space)

    @property
    def config(self) -> dict[str, Any]:
        """Everything that decides the result, beside the space."""
        return {
            "data": self.data,
            "budget": self.budget.as_dict(),
            "sampler": self.sampler,
            "seed": self.seed,
            "trials": self.settings.trials,
            "retrain": self.settings.retrain.top,
        }


def resolve(
    space: str | Path | SearchSpace,
    data: str,
    *,
    budget: Iterable[str] | Mapping[str, str | int | float] | None,
    trials: int | None,
    sampler: str | None,
    top: int | None,
    seed: int,
    device: str | None,
) -> SearchRequest:
    """Return the request that a caller's choices make with the space file's defaults.

    Raises:
        SpecError, LookupFailed: something asked is not allowed or not known.
    """
    checked = space if isinstance(space, SearchSpace) else read(SearchSpace, space)
    source = "search" if isinstance(space, SearchSpace) else str(space)
    settings = checked.search.model_dump()
    if trials is not None:
        settings["trials"] = trials
    if top is not None:
        settings["retrain"]["top"] = top
    own = Budget.parse(checked.search.budget, source=f"{source}: search.budget")
    limits = Budget.parse(budget or (), over=own)
    settings["budget"] = limits.as_dict()
    settings["sampler"] = sampler or checked.search.sampler
    whole = checked.model_copy(update={"search": parse(SearchSettings, settings, source=source)})
    request = SearchRequest(whole, data, limits, settings["sampler"], seed, pick_device(device))
    _ = request.make_sampler  # an unknown sampler is an error now, not after an hour of training
    return request


def pick_device(name: str | None) -> torch.device:
    """Return the named device, or the first GPU, or the CPU."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as problem:
        raise SpecError(f"device {name!r} is not one torch knows; give cpu, cuda or cuda:1") from problem
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SpecError(f"device {name!r}: torch finds no GPU here; give cpu")
    return device


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
        input_shape=space.input if settings.resize else None,
        limit=settings.limit,
    )
    if data.input_shape != space.input:
        raise DataError(
            f"data {request.data}: images are {_by(data.input_shape)}, but the space's input is {_by(space.input)}; "
            f"set input: {list(data.input_shape)} in the space, or search: {{resize: true}}"
        )
    if data.classes > space.classes:
        raise DataError(
            f"data {request.data}: has {data.classes} classes, but the space only {space.classes}; "
            f"set classes: {data.classes} in the space"
        )
    check_batch(settings.supernet.batch, data, source="search.supernet.batch")
    check_batch(settings.retrain.recipe.batch, data, source="search.retrain.recipe.batch")
    return data


def check_batch(batch: int, data: DataSet, *, source: str) -> None:
    """Raise unless the training images fill one batch: a short one is dropped, so nothing would be trained.

    Raises:
        DataError: they do not; says how many there are.
    """
    images = len(data.train)
    if batch > images:
        raise DataError(
            f"{source}: {batch} is more than the {images} training images of {data.name}; choose at most {images}"
        )


def _by(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))
