"""What a search was asked, resolved: the space file's defaults with the caller's choices over them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bnas.cost.budget import Budget
from bnas.data import DataSet, load_data
from bnas.errors import DataError, SpecError
from bnas.searcher.sampler import MakeSampler
from bnas.searcher.samplers import find_sampler, sampler_name
from bnas.space.recipe import SearchSettings
from bnas.space.space import SearchSpace
from bnas.spec import dump, parse, read

GIVEN = " (given in Python)"  # behind the name of data that cannot be found again by it
Items = Iterable[str] | Mapping[str, str | int | float]


@dataclass(frozen=True)
class SearchRequest:
    """One search: the same request gives the same result."""

    space: SearchSpace
    data: Any  # whatever `load_data` takes
    budget: Budget
    sampler: str | MakeSampler
    seed: int
    device: torch.device

    @property
    def settings(self) -> SearchSettings:
        """Trials, recipes and shares."""
        return self.space.search

    @property
    def make_sampler(self) -> MakeSampler:
        """What proposes candidates."""
        return find_sampler(self.sampler)

    @property
    def space_yaml(self) -> str:
        """The space as YAML, resolved."""
        return dump(self.space)

    @property
    def config(self) -> dict[str, Any]:
        """Everything that decides the result, beside the space."""
        return {
            "data": name_of(self.data),
            "budget": self.budget.as_dict(),
            "sampler": self.settings.sampler,
            "seed": self.seed,
            "trials": self.settings.trials,
            "retrain": self.settings.retrain.top,
        }


def name_of(data: Any) -> str:
    """Return what a run calls its images: a name or path as it is; objects by name or type, marked as given."""
    return str(data) if isinstance(data, str | Path) else getattr(data, "name", type(data).__name__) + GIVEN


def read_space(space: str | Path | Mapping[str, Any] | SearchSpace) -> SearchSpace:
    """Return a space as it is, from a mapping of its keys, or from its YAML file.

    Raises:
        SpecError: it is not well formed.
    """
    if isinstance(space, SearchSpace):
        return space
    return parse(SearchSpace, space, source="space") if isinstance(space, Mapping) else read(SearchSpace, space)


def resolve(
    space: str | Path | Mapping[str, Any] | SearchSpace,
    data: Any,
    *,
    budget: Items | None = None,
    trials: int | None = None,
    sampler: str | MakeSampler | None = None,
    retrain: int | None = None,
    seed: int = 0,
    device: str | None = None,
) -> SearchRequest:
    """Return the request that a caller's choices make with the space file's defaults.

    Raises:
        SpecError, LookupFailed: something asked is not allowed or not known.
    """
    checked = read_space(space)
    source = str(space) if isinstance(space, str | Path) else "search"
    settings = checked.search.model_dump()
    if trials is not None:
        settings["trials"] = trials
    if retrain is not None:
        settings["retrain"]["top"] = retrain
    own = Budget.parse(checked.search.budget, source=f"{source}: search.budget")
    limits = Budget.parse(budget or (), over=own)
    settings["budget"] = limits.as_dict()
    chosen = checked.search.sampler if sampler is None else sampler
    settings["sampler"] = sampler_name(chosen)
    whole = checked.model_copy(update={"search": parse(SearchSettings, settings, source=source)})
    request = SearchRequest(whole, data, limits, chosen, seed, pick_device(device))
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
