"""What a search was asked, resolved: the space file's defaults with the caller's choices over them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bnas.api.deploying import taken_by
from bnas.cost.budget import Budget
from bnas.data import DataSet
from bnas.data.transforms import augmentations
from bnas.errors import BudgetError, SpecError
from bnas.runs.contents import IN_PYTHON
from bnas.searcher.block_errors import check_measurable
from bnas.searcher.feasible import cost_of
from bnas.searcher.inside import InsideDraws
from bnas.searcher.sampler import MakeSampler
from bnas.searcher.samplers import find_sampler, sampler_name
from bnas.ship import Description
from bnas.space.arch import Architecture
from bnas.space.latency import LatencyTable, parts_in
from bnas.space.settings import Retraining, SearchSettings
from bnas.space.shipped import space_file
from bnas.space.space import Genes, SearchSpace
from bnas.spec import dump, parse
from bnas.supernet import check_shared
from bnas.train.averages import check_averages
from bnas.trust import check_code

Items = Iterable[str] | Mapping[str, str | int | float]


class Appointed(NamedTuple):
    """The network that teaches those of a search."""

    described: Description
    folder: str = ""  # where it lies trained; "" trains it
    weights_sha256: str = ""  # of that in the folder

    @property
    def mark(self) -> str:
        """What it is known again by."""
        return f"{self.described.id}, weights {self.weights_sha256}" if self.folder else self.described.id


@dataclass(frozen=True)
class SearchRequest:
    """One search: the same request gives the same result."""

    space: SearchSpace
    data: Any  # whatever `load_data` takes
    budget: Budget
    sampler: str | MakeSampler
    seed: int
    device: torch.device
    given: tuple[Genes, ...] = ()  # scored first, and trained alone in the end
    supernet_of: str = ""  # the run folder whose supernet is searched again; "" trains one
    supernet_run: str = ""  # the id of that run
    targets: tuple[Budget, ...] = ()  # all the budgets that the supernet is trained for; none beside this search's own
    minutes: float | None = None  # that the search may take; its settings are made to fit
    images: Mapping[str, Any] | None = None  # facts of those that the run was begun with
    teacher: Appointed | None = None  # of what the settings name, once it was looked at
    left_out: str = ""  # of the space that was asked, because what it deploys to does not take it; for people

    @property
    def settings(self) -> SearchSettings:
        """Trials, recipes and shares."""
        return self.space.search

    def retraining(self, settings: Retraining) -> "SearchRequest":
        """Return the request with other settings of how networks are trained alone."""
        return self.with_settings(self.settings.model_copy(update={"retrain": settings}))

    def with_settings(self, settings: SearchSettings) -> "SearchRequest":
        """Return the request with other settings."""
        return replace(self, space=self.space.model_copy(update={"search": settings}))

    @property
    def make_sampler(self) -> MakeSampler:
        """What proposes candidates."""
        return find_sampler(self.sampler)

    @cached_property
    def draws(self) -> InsideDraws:
        """The networks that the supernet is trained through."""
        return InsideDraws(self.space, self.targets or [self.budget], seed=self.seed)

    def on(self, images: DataSet) -> "SearchRequest":
        """Return the request for these images, its trainings counted in epochs and batches that suit how many."""
        return self.with_settings(self.settings.on(len(images.train)))

    @property
    def space_yaml(self) -> str:
        """The space as YAML, resolved."""
        return dump(self.space)

    @property
    def config(self) -> dict[str, Any]:
        """Everything that decides the result, beside the space."""
        beside = {
            "start_with": [self.space.architecture(genes).id for genes in self.given],
            "supernet_of": self.supernet_of,
            "supernet_run": self.supernet_run,
            "targets": [budget.as_dict() for budget in self.targets],
            "minutes": self.minutes,
            "teacher": self.teacher.mark if self.teacher else "",
        }
        return {
            "data": name_of(self.data),
            "budget": self.budget.as_dict(),
            "sampler": self.settings.sampler,
            "seed": self.seed,
            "trials": self.settings.trials,
            "retrain": self.settings.retrain.top,
        } | {name: value for name, value in beside.items() if value}


def name_of(data: Any) -> str:
    """Return what a run calls its images: a name or path as it is; objects by name or type, marked as given."""
    if isinstance(data, str | Path):
        return str(data)
    found_as: str | None = getattr(data, "found_as", None)
    return found_as or getattr(data, "name", type(data).__name__) + IN_PYTHON


def read_space(space: str | Path | Mapping[str, Any] | SearchSpace, *, trust: bool = False) -> SearchSpace:
    """Return a space as it is, from a mapping of its keys, from its YAML file, or one of ours by name.

    Args:
        trust: whether code that a file names may be run.
    Raises:
        LookupFailed: there is no such file, and no such name.
        SpecError: it is not well formed.
        TrustError: its file names code, which is not trusted.
    """
    if isinstance(space, SearchSpace):
        return space
    if isinstance(space, Mapping):
        return parse(SearchSpace, space, source="space")
    found = SearchSpace.read(space_file(space))
    check_code(found, source=str(space), trust=trust)
    return found


def resolve(
    space: str | Path | Mapping[str, Any] | SearchSpace,
    data: Any,
    *,
    budget: Items | None = None,
    trials: int | None = None,
    sampler: str | MakeSampler | None = None,
    top: int | None = None,
    final_on_all: bool | None = None,
    start_with: Iterable[str | Path | Architecture] = (),
    latency: str | Path | LatencyTable | None = None,
    augment: str | Sequence[str] | None = None,
    seed: int = 0,
    device: str | None = None,
    deploy: str | None = None,
    trust: bool = False,
) -> SearchRequest:
    """Return the request that a caller's choices make with the space file's defaults.

    Raises:
        SpecError, LookupFailed: something asked is not allowed or not known, or what it deploys to takes no network.
        BudgetError: an architecture to start with is over the budget.
        TrustError: the space's file names code, which is not trusted.
    """
    whole_space, left_out = taken_by(read_space(space, trust=trust), deploy)
    check_shared(whole_space)
    checked = _timed(whole_space, latency)
    source = str(space) if isinstance(space, str | Path) else "search"
    settings = checked.search.model_dump()
    if trials is not None:
        settings["trials"] = trials
    if top is not None:
        settings["retrain"]["top"] = top
    if final_on_all is not None:
        settings["retrain"]["final_on_all"] = final_on_all
    own = Budget.parse(checked.search.budget, source=f"{source}: search.budget")
    if augment is not None:
        settings["augment"] = augmentations(augment)
        for recipe in (settings["retrain"]["recipe"], (settings.get("teacher") or {}).get("recipe")):
            if recipe is not None:
                recipe["augment"] = None
    limits = Budget.parse(budget or (), over=own)
    settings["budget"] = limits.as_dict()
    check_timed(checked, limits)
    chosen = checked.search.sampler if sampler is None else sampler
    settings["sampler"] = sampler_name(chosen)
    whole = checked.model_copy(update={"search": parse(SearchSettings, settings, source=source)})
    given = tuple(_given(arch, whole, limits) for arch in (*checked.search.start_with, *start_with))
    request = SearchRequest(
        whole, data, limits, chosen, seed, pick_device(device), tuple(dict.fromkeys(given)), left_out=left_out
    )  # fmt: skip
    _ = request.make_sampler  # an unknown sampler is an error now, not after an hour of training
    for place, stage in enumerate(request.settings.retrain.recipe.stages):
        where = f"{source}: search.retrain.recipe.stages[{place}]"
        check_averages(stage, whole.binarizers.weight, where=where)
    check_measurable(whole, seed=seed)
    return request


def _timed(space: SearchSpace, latency: str | Path | LatencyTable | None) -> SearchSpace:
    """Return a space with the rows of a table of latencies that it needs, of the table given or its own."""
    table = LatencyTable.read(latency) if isinstance(latency, str | Path) else latency or space.latency
    return space if table is None else space.model_copy(update={"latency": table.within(parts_in(space))})


def check_timed(space: SearchSpace, budget: Budget) -> None:
    """Raise unless latencies are known where they are limited.

    Raises:
        SpecError: they are not; says how they come to be.
    """
    if space.latency is None and "latency_ms" in dict(budget.limits):
        raise SpecError(
            "budget latency_ms: needs a table of what parts take on the machine in question; make one there with "
            "bnas latency-table SPACE -o FILE, and give it as --latency FILE"
        )


def given_genes(arch: str | Path | Architecture, space: SearchSpace) -> Genes:
    """Return the genotype of an architecture to start with, or of that in a YAML file.

    Raises:
        SpecError: it is no network of the space.
    """
    known = arch if isinstance(arch, Architecture) else Architecture.read(arch)
    try:
        return space.canonical(space.genes(known))
    except SpecError as problem:
        raise SpecError(f"{_named(arch)}: is no network of the space: {problem}") from problem


def check_admitted(arch: str | Path | Architecture, genes: Genes, space: SearchSpace, budget: Budget) -> None:
    """Raise unless an architecture to start with keeps a budget.

    Raises:
        BudgetError: it does not; says both sides.
    """
    price = cost_of(space, genes)
    if not budget.admits(price):
        costs = ", ".join(f"{name} {getattr(price, name):g}" for name, _ in budget.limits)
        raise BudgetError(
            f"{_named(arch)}: costs {costs}, and the budget is {budget}; raise it, or leave the network out"
        )


def _given(arch: str | Path | Architecture, space: SearchSpace, budget: Budget) -> Genes:
    genes = given_genes(arch, space)
    check_admitted(arch, genes, space, budget)
    return genes


def _named(arch: str | Path | Architecture) -> str:
    return "start_with" if isinstance(arch, Architecture) else f"start_with: {arch}"


def pick_device(name: str | None) -> torch.device:
    """Return the named device, or the first GPU, or the CPU.

    Raises:
        SpecError: there is no such device here, or networks are not computed on its kind.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as problem:
        raise SpecError(f"device {name!r} is not one torch knows; give cpu, cuda or cuda:1") from problem
    if device.type not in ("cpu", "cuda"):
        raise SpecError(f"device {name!r}: networks are computed on cpu or cuda; give one of these")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SpecError(f"device {name!r}: torch finds no GPU here; give cpu")
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= there:
        raise SpecError(f"device {name!r}: torch finds {there} of them, numbered from 0")
    return device
