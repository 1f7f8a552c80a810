"""A trained supernet -> the space that knows what a binary input loses in each of its blocks."""

from collections.abc import Callable

import torch

from bnas.binarize.error import InputError, summed
from bnas.errors import SpecError
from bnas.networks.build import build
from bnas.searcher.by_metric import MetricSpace
from bnas.searcher.score import Scorer, binary_layers
from bnas.select import LayerErrors
from bnas.space.space import SearchSpace
from bnas.space.values import OURS
from bnas.train import Store

ERRORS_CHECKPOINT = "errors"  # of the checkpoint
NETWORKS_MEASURED = 24  # at least: where a stage offers more depths there are as many, so that all of them come up


def with_metric(space: SearchSpace, make_scorer: Callable[[], Scorer], *, seed: int, store: Store) -> SearchSpace:
    """Return the space that decides by error and cost which inputs stay real; the space itself where all are free.

    Errors are those of a few networks of binary blocks, drawn evenly from the whole space, inside a budget or not, so
    that each block is among them; on the images that set their batch norm. They are measured once, kept, and logged.
    """
    if space.precision == "free":
        return space
    kept = store.load_checkpoint(ERRORS_CHECKPOINT)
    sums: dict[str, list[float]] = kept.state if kept else _measure(space, make_scorer(), seed)
    if kept is None:
        store.save_checkpoint(ERRORS_CHECKPOINT, {}, sums)
    found = {key: InputError(*values) for key, values in sums.items()}
    store.log("errors", metric=space.search.metric, plain={key: round(e.plain, 4) for key, e in found.items()})
    errors = {_place(key): LayerErrors(e.plain, e.scale_invariant, {}) for key, e in found.items()}
    return MetricSpace.of(space, errors)


def check_measurable(space: SearchSpace, *, seed: int) -> None:
    """Check before training that each block of its own that a space offers has a layer that `with_metric` measures.

    Raises:
        SpecError: one has none; says which.
    """
    if space.precision == "free" or all(set(stage.block) == {OURS} for stage in space.stages):
        return
    for step in range(_networks(space)):
        arch = space.architecture(_binary(space, seed, step))
        with torch.random.fork_rng(devices=[]):
            network = build(arch)
        if blind := [place for place, layers in binary_layers(network).items() if not layers]:
            stage, block = blind[0]
            raise SpecError(
                f"stages[{stage}].block: {arch.stages[stage].block}: block {block} of network {arch.id} has no layer "
                f"of bnas, so that precision: {space.precision} has no input to measure; build it of bnas.layers, or "
                "make its layers binary with bnas.layers.binarize_, or give precision: free"
            )


def _measure(space: SearchSpace, scorer: Scorer, seed: int) -> dict[str, list[float]]:
    parts: dict[str, list[InputError]] = {}
    for step in range(_networks(space)):
        for (stage, block), error in scorer.input_errors(space.architecture(_binary(space, seed, step))).items():
            parts.setdefault(f"{stage}.{block}", []).append(error)
    return {key: list(summed(errors)) for key, errors in parts.items()}


def _networks(space: SearchSpace) -> int:
    """Return how many fair draws have every depth of every stage among them."""
    return max(NETWORKS_MEASURED, *(len(stage.depth) for stage in space.stages))


def _binary(space: SearchSpace, seed: int, step: int) -> list[int]:
    """Return the genotype of a fair draw, with binary inputs wherever they are offered."""
    genes = list(space.fair(seed, step))
    for stage, places in zip(space.stages, space.precision_places, strict=True):
        for place in places if "binary" in stage.precision else ():
            genes[place] = stage.precision.index("binary")
    return list(space.canonical(genes))


def _place(key: str) -> tuple[int, int]:
    stage, block = key.split(".")
    return int(stage), int(block)
