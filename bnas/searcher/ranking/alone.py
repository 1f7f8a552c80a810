"""Networks of a space -> what they reach when each is trained alone: which ones, on what terms, how well."""

import itertools
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple, Self

import torch
from torch import nn

from bnas.data import DataSet
from bnas.errors import LookupFailed, SpecError
from bnas.progress import Progress, silent
from bnas.runs import replacing
from bnas.runs.asked import differences
from bnas.space.arch import Architecture
from bnas.space.recipe import Augment, Recipe
from bnas.space.settings import SearchSettings
from bnas.space.space import Genes, SearchSpace
from bnas.spec import Spec, dump
from bnas.train import Store, build_for, evaluate, train_staged
from bnas.train.retrain import EVALUATION_BATCH

STRATA = 10
MOST = 100_000  # networks that are worth listing


def every_network(space: SearchSpace) -> list[Genes]:
    """Return the genotypes of all networks of a small space, each once, in the order of their genes.

    Raises:
        SpecError: there are too many to list.
    """
    if space.size > MOST:
        raise SpecError(f"space: {space.size:,} networks are too many to list; offer fewer choices, {MOST:,} at most")
    genes = itertools.product(*(range(len(dimension.choices)) for dimension in space.dimensions))
    return sorted({space.canonical(each) for each in genes})


def dealt(costs: Sequence[float], *, seed: int, strata: int = STRATA) -> list[int]:
    """Return the places of all costs in an order whose every beginning is spread evenly over them.

    Sorted by cost they are cut into strata of like size; each is shuffled, and the strata take turns. So a sample of
    any size is the beginning of a larger one.
    """
    by_cost = sorted(range(len(costs)), key=lambda place: costs[place])
    ends = [round(number * len(by_cost) / strata) for number in range(strata + 1)]
    cut = [by_cost[start:end] for start, end in itertools.pairwise(ends)]
    for number, stratum in enumerate(cut):
        Random(f"{seed}/{number}").shuffle(stratum)
    turns = itertools.zip_longest(*cut)
    return [place for turn in turns for place in turn if place is not None]


class Terms(Spec):
    """What decides the accuracy of a network trained alone, beside its architecture and chance.

    Which images are held out is left to chance: another split of as many images changes an accuracy as another seed of
    the training does.
    """

    data: str
    validation: float
    limit: int | None
    resize: bool
    recipe: Recipe
    augment: Augment | None = None  # of the images; those of a recipe that says its own count in their place

    @classmethod
    def of(cls, data: str, settings: SearchSettings) -> Self:
        """Return what a search trains its best candidates with."""
        recipe = settings.retrain.recipe
        return cls(
            data=data, validation=settings.validation, limit=settings.limit, resize=settings.resize, recipe=recipe,
            augment=settings.augment if recipe.augment is None else None,
        )  # fmt: skip

    def check(self, table: Path) -> None:
        """Check that the networks of a table were trained with these terms.

        Raises:
            LookupFailed: they were not, or nothing beside the table says so.
            SpecError: the file beside the table is damaged.
        """
        beside = _beside(table)
        if not beside.exists():
            raise LookupFailed(
                f"table {table}: no {beside.name} beside it says what its networks were trained with; keep the two "
                "files together, or make both with benchmarks/table.py"
            )
        differing = differences(Terms.read(beside).model_dump(mode="json"), self.model_dump(mode="json"))
        if differing:
            said = "; ".join(f"{key} {theirs}, but {ours} is asked for" for key, (theirs, ours) in differing.items())
            raise LookupFailed(
                f"table {table}: its networks were trained with {said}; make another table with benchmarks/table.py"
            )

    def keep(self, table: Path) -> None:
        """Write the terms beside a new table; of one that has its terms, check that they are these.

        Raises:
            LookupFailed, SpecError: as `check`.
            RunError: the file cannot be written.
        """
        if _beside(table).exists():
            return self.check(table)
        with replacing(_beside(table)) as temporary:
            temporary.write_text(dump(self), encoding="utf-8")


def _beside(table: Path) -> Path:
    return table.with_suffix(".yaml")


class Alone(NamedTuple):
    """What a network trained alone reaches, and the processor's seconds it took."""

    validation_accuracy: float
    test_accuracy: float
    seconds: float


def train_alone(
    arch: Architecture,
    recipe: Recipe,
    data: DataSet,
    *,
    seed: int,
    store: Store,
    device: torch.device,
    name: str = "alone",
    teacher: nn.Module | None = None,
    progress: Progress = silent,
) -> Alone:
    """Return what an architecture reaches, trained from where the store has it or from the start.

    The test images serve to judge scores that were made without them, never to choose a network.

    Raises:
        TrainingError: a loss is not finite.
    """
    started = time.process_time()
    network = train_staged(
        partial(build_for, arch), recipe, data, name=name, seed=seed, store=store, device=device, teacher=teacher,
        progress=progress,
    )  # fmt: skip
    seconds = time.process_time() - started
    validation, _ = evaluate(network, data.validation.batches(EVALUATION_BATCH, device=device))
    test, _ = evaluate(network, data.test.batches(EVALUATION_BATCH, device=device))
    return Alone(validation, test, seconds)
