"""The supernets and the ways of scoring that benchmarks/ranking.py compares; one score of one network a row.

On one core a supernet takes 3 to 9 minutes where SUPERNETS says nothing else, and scoring 200 networks 5 more, where
WAYS says nothing else. Two-stage scoring trains and scores nothing: it is put together from scores that are there.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from rows import Rows
from table import images
from torch import Tensor, nn

from bnas.api.progress_bars import ProgressBars
from bnas.data import DataSet
from bnas.layers.blocks import Network
from bnas.networks.build import build
from bnas.runs import Run
from bnas.searcher.ranking import Table
from bnas.searcher.score import Scorer
from bnas.space.arch import Architecture
from bnas.space.recipe import Stage
from bnas.space.settings import Scoring
from bnas.space.space import Genes, SearchSpace
from bnas.spec import dump
from bnas.supernet import Supernet
from bnas.train import evaluate, recalibrate, train_supernet
from bnas.train.optimizers import make_optimizers, schedule, set_rate

RESULTS = Path(__file__).parent / "results" / "ranking.csv"
RUNS = Path("runs") / "ranking"  # checkpoints, so that a stopped training goes on
COLUMNS = ("supernet", "scoring", "seed", "id", "accuracy", "loss")
FINE_TUNING = Stage(epochs=1, rate=1e-3, warmup=0.1)
FINE_BATCH = 64
FRESH_BATCH = 128
CPU = torch.device("cpu")


class Trial(NamedTuple):
    """How a supernet is trained other than the space says; `split` gives each choice of a dimension its own."""

    changes: dict[str, Any]
    split: str = ""


class Part(SearchSpace):
    """The networks of a space that have one gene: beside `split`, for one block's precision as well."""

    place: int
    gene: int

    def canonical(self, genes: Sequence[int]) -> Genes:
        """Return the genotype with the part's gene, and the entries of blocks that do not exist set to 0."""
        return super().canonical([*genes[: self.place], self.gene, *genes[self.place + 1 :]])

    def contains(self, arch: Architecture) -> bool:
        """Say whether an architecture is one of this part."""
        return super().contains(arch) and self.genes(arch)[self.place] == self.gene


def parts(space: SearchSpace, dimension: str) -> tuple[Part, ...]:
    """Return one part for each choice of a dimension that every network has."""
    place = [each.name for each in space.dimensions].index(dimension)
    fields = {name: getattr(space, name) for name in SearchSpace.model_fields}
    return tuple(Part(**fields, place=place, gene=gene) for gene in range(len(space.dimensions[place].choices)))


# A sandwich steps through four networks at a time and a split trains two supernets: so many epochs are equal compute.
SUPERNETS = {
    "single": Trial({}),
    "single 120 epochs": Trial({"epochs": 120}),  # 18 minutes: does longer training pay?
    "single 30 epochs": Trial({"epochs": 30}),  # 5 minutes: and shorter? what each half of a split gets
    "single rate 2e-3": Trial({"rate": 2e-3}),
    "single batch 128": Trial({"batch": 128}),  # 7 minutes
    "single experts from the start": Trial({"one_expert": 0.0}),
    "sandwich": Trial({"mode": "sandwich", "epochs": 15}),
    "sandwich with a binary teacher": Trial({"mode": "sandwich", "teacher": "binary", "epochs": 15}),
    "split on width": Trial({"epochs": 30}, "stages[0].width"),
    "split on precision": Trial({"epochs": 30}, "stages[2].precision[0]"),
}

Score = tuple[float, float]  # accuracy and loss
Way = Callable[[Supernet, DataSet, Scoring, int], Callable[[Architecture], Score]]


def by_search(**changes: int) -> Way:
    """Return the score that the search uses, with other numbers of images."""

    def way(supernet: Supernet, data: DataSet, scoring: Scoring, seed: int) -> Callable[[Architecture], Score]:
        return Scorer(supernet, data, scoring.model_copy(update=changes), seed=seed, device=CPU)

    return way


def as_trained(supernet: Supernet, data: DataSet, scoring: Scoring, seed: int) -> Callable[[Architecture], Score]:
    """Return the score with the batch-norm statistics that training left."""
    held_out = _held_out(data, scoring)
    return lambda arch: evaluate(supernet.extract(arch), held_out)


def fine_tuned(steps: int) -> Way:
    """Return the score after some steps of training alone from the inherited weights."""

    def way(supernet: Supernet, data: DataSet, scoring: Scoring, seed: int) -> Callable[[Architecture], Score]:
        held_out = _held_out(data, scoring)
        some = data.train.batches(scoring.batch, seed=seed, epoch=0, augment=False)
        calibration = [x for x, _ in itertools.islice(some, scoring.recalibration_images // scoring.batch)]

        def score(arch: Architecture) -> Score:
            network = fine_tune(supernet.extract(arch), data, steps=steps, seed=seed)
            recalibrate(network, calibration)
            return evaluate(network, held_out)

        return score

    return way


def untrained(measure: Callable[[nn.Module, Tensor, Tensor], float]) -> Way:
    """Return what a measure says of a network with fresh weights and one batch, whatever the supernet has learned."""

    def way(supernet: Supernet, data: DataSet, scoring: Scoring, seed: int) -> Callable[[Architecture], Score]:
        images, labels = next(iter(data.train.batches(FRESH_BATCH, seed=seed, epoch=0, augment=False)))

        def score(arch: Architecture) -> Score:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = build(arch).train()
            value = measure(network, images, labels)
            return value, -value

        return score

    return way


def gradient_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the Euclidean norms of the gradients of all convolutions and linear layers, summed.

    Source: `grad_norm` of Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, 2021 (arXiv:2101.08134).
    """
    return sum(float(gradient.norm()) for _, gradient in _gradients(network, images, labels))


def saliency(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the sum of |weight * gradient| over convolutions and linear layers.

    Source: `snip` of the same, after Lee et al., SNIP, 2019 (arXiv:1810.02340).
    """
    return sum(
        float((weight * gradient).abs().sum()) for weight, gradient in _gradients(network, images, labels)
    )  # fmt: skip


def _gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    parameters = [parameter for parameter in network.parameters() if parameter.dim() > 1]  # no norm, bias or slope
    loss = F.cross_entropy(network(images), labels)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return [(parameter.detach(), gradient) for parameter, gradient in zip(parameters, gradients, strict=True)]


def fine_tune(network: Network, data: DataSet, *, steps: int, seed: int) -> Network:
    """Train a network for some steps, the same batches for every network."""
    optimizers = make_optimizers(network.train(), FINE_TUNING)
    for step, (batch, labels) in enumerate(itertools.islice(data.train.batches(FINE_BATCH, seed=seed), steps)):
        set_rate(optimizers, FINE_TUNING.rate * schedule(step, steps, FINE_TUNING.warmup))
        for optimizer in optimizers:
            optimizer.zero_grad()
        F.cross_entropy(network(batch), labels).backward()
        for optimizer in optimizers:
            optimizer.step()
    return network


WAYS: dict[str, Way] = {
    "search": by_search(),
    "recalibrated on 500": by_search(recalibration_images=500),
    "recalibrated on 8000": by_search(recalibration_images=8000),
    "scored on 1000": by_search(validation_images=1000),
    "batch norm as trained": as_trained,
    "fine-tuned 25 steps": fine_tuned(25),  # 10 minutes
    "fine-tuned 100 steps": fine_tuned(100),  # 25 minutes
    "untrained: gradient norm": untrained(gradient_norm),  # a minute, as the next
    "untrained: saliency": untrained(saliency),
}
DEFAULT = ("single", "search", 0)
TWO_STAGES = ("scored on 1000", "search")  # few images for all, then more for the better half


def in_two_stages(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return scores in which the better half by the first ones stands above the others, ordered by the second ones."""
    few, more = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    survivors = np.argsort(-few, kind="stable")[: math.ceil(len(few) / 2)]
    scores = few.copy()
    scores[survivors] = more[survivors] - more[survivors].min() + few.max()
    return scores


def variants() -> Iterator[tuple[str, str, int]]:
    """Yield every supernet, scoring and seed that is compared, the search's own first."""
    yield DEFAULT
    yield "single", "search", 1
    yield from (("single", way, 0) for way in WAYS if way != "search")
    yield from ((name, "search", 0) for name in SUPERNETS if name != "single")


def wanted(names: Sequence[str] | None) -> Iterator[tuple[str, str, int]]:
    """Yield the variants to make: the default, and all whose supernet or scoring is named; no name names all."""
    yield DEFAULT
    for variant in variants():
        if variant != DEFAULT and names is not None and (not names or {*variant[:2]} & ({*names} - {*DEFAULT[:2]})):
            yield variant


def rows(path: Path = RESULTS) -> Rows:
    """Return the file of scores."""
    return Rows(path, COLUMNS, texts=("supernet", "scoring", "id"))


def score_missing(
    space: SearchSpace, table: Table, results: Rows, variant: tuple[str, str, int], *, data_name: str = "cifar10"
) -> None:
    """Score the networks of the table that have no score yet; the supernet is trained, or gone on with, for them."""
    name, way, seed = variant
    done = results.frame()
    done = done[(done["supernet"] == name) & (done["scoring"] == way) & (done["seed"] == seed)]
    wanted = table.networks.drop(index=done["id"], errors="ignore")
    if wanted.empty:
        return
    data = images(space, data_name)
    scores = [
        (part, WAYS[way](supernet, data, space.search.scoring, seed))
        for part, supernet in trained(space, data, name, seed)
    ]
    for arch_id, row in wanted.iterrows():
        arch = space.architecture([int(gene) for gene in row["genes"].split("-")])
        score = next(score for part, score in scores if part.contains(arch))
        accuracy, loss = score(arch)
        results.add(supernet=name, scoring=way, seed=seed, id=arch_id, accuracy=accuracy, loss=loss)


def trained(space: SearchSpace, data: DataSet, name: str, seed: int) -> Iterator[tuple[SearchSpace, Supernet]]:
    """Yield the supernets of a trial, each with the space that it serves."""
    changes, split = SUPERNETS[name]
    recipe = space.search.supernet.model_copy(update=changes)
    for number, part in enumerate(parts(space, split) if split else (space,)):
        folder = RUNS / f"{name.replace(' ', '-')}-{number}-{seed}"
        run = Run.open(folder, config={"recipe": recipe.model_dump(), "seed": seed}, space_yaml=dump(part))
        with run.lock(), ProgressBars() as watch:
            yield part, train_supernet(part, recipe, data, seed=seed, store=run, device=CPU, progress=watch)


def _held_out(data: DataSet, scoring: Scoring) -> list[tuple[Tensor, Tensor]]:
    batches = data.validation.batches(scoring.batch)
    return list(itertools.islice(batches, math.ceil(scoring.validation_images / scoring.batch)))
