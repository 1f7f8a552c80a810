"""Chosen architectures -> networks trained alone; the worse half stops at each halving."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

from bnas.data import DataSet, Split
from bnas.errors import TrainingError
from bnas.layers.blocks import Network
from bnas.networks.build import build
from bnas.progress import Progress, silent
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe, Retraining
from bnas.train import ALONE, BinaryWatch, Ranks, Store, build_for, evaluate, train_staged
from bnas.train.state import model_weights

RETRAIN = "retrain"  # of the checkpoints
EVALUATION_BATCH = 500  # images of one evaluation step


@dataclass(frozen=True)
class Retrained:
    """One network trained alone: how far, and how well it does."""

    arch: Architecture
    network: Network
    epochs: int
    validation_accuracy: float
    test_accuracy: float
    seconds: float

    def row(self) -> dict[str, Any]:
        """Return what a line of retrained.csv holds of it."""
        return {
            "id": self.arch.id,
            "validation_accuracy": self.validation_accuracy,
            "test_accuracy": self.test_accuracy,
            "epochs": self.epochs,
            "seconds": round(self.seconds, 1),
        }


def retrain(
    chosen: Sequence[Architecture],
    settings: Retraining,
    data: DataSet,
    *,
    seed: int,
    store: Store,
    device: torch.device,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
) -> list[Retrained]:
    """Train architectures alone by successive halving; return all of them, the best on validation first.

    Only those that are trained to the end can come first. The test split is read here, once, after every choice
    has been made, by rank 0 where several train together.

    Raises:
        TrainingError: a loss is not finite.
    """
    recipe, last = settings.recipe, settings.recipe.stages[-1].epochs
    cuts = [*sorted({max(1, round(share * last)) for share in settings.halvings} - {last}), last]
    rungs = _Rungs(store)

    def reach(arch: Architecture, cut: int, watch: Progress) -> Network:
        return train_staged(
            partial(build_for, arch), recipe, data, name=f"{RETRAIN}/{arch.id}", seed=seed, store=store, device=device,
            until=cut, measure=BinaryWatch, progress=watch, ranks=ranks,
        )  # fmt: skip

    alive, reached = list(chosen), {arch.id: 0 for arch in chosen}
    for cut in cuts:
        for place, arch in enumerate(alive):
            if (arch.id, cut) not in rungs:
                started = time.monotonic()
                network = reach(arch, cut, _labelled(progress, f"retrain {place + 1} of {len(alive)}"))
                accuracy, loss = ranks.told(partial(_evaluated, network, data.validation, device))
                rungs.add(arch.id, cut, _Rung(accuracy, loss, time.monotonic() - started))
            reached[arch.id] = cut
        alive.sort(key=lambda arch: rungs[arch.id, cut].quality, reverse=True)
        alive = alive[: -(-len(alive) // 2)] if cut != last else alive
    ranked = sorted(chosen, key=lambda arch: (reached[arch.id], rungs[arch.id, reached[arch.id]].quality), reverse=True)
    results = []
    for arch in ranked:
        network = reach(arch, reached[arch.id], silent)  # only read back: it is trained this far
        accuracy, _ = ranks.told(partial(_evaluated, network, data.test, device))
        epochs, validation = recipe.epochs - last + reached[arch.id], rungs[arch.id, reached[arch.id]].accuracy
        results.append(Retrained(arch, network, epochs, validation, accuracy, rungs.seconds(arch.id)))
    return results


def _evaluated(network: Network, split: Split, device: torch.device) -> tuple[float, float]:
    return evaluate(network, split.batches(EVALUATION_BATCH, device=device))


class TrainedAlone(NamedTuple):
    """What is kept of a network that was trained alone."""

    network: Network
    epochs: int


def trained_alone(arch: Architecture, recipe: Recipe, *, store: Store) -> TrainedAlone | None:
    """Return a network with the weights to which it was trained alone, as far as it came; None where it was not.

    Raises:
        TrainingError: what is kept belongs to another network.
    """
    kept = store.load_checkpoint(f"{RETRAIN}/{arch.id}-{len(recipe.stages) - 1}")
    if kept is None:
        return None
    network = build(arch)
    try:
        network.load_state_dict(model_weights(kept))
    except RuntimeError as problem:
        raise TrainingError(f"{RETRAIN}/{arch.id}: the weights that are kept are not those of the network") from problem
    before = recipe.epochs - recipe.stages[-1].epochs
    return TrainedAlone(network.eval(), before + int(kept.state["epoch"]))


class _Rung(NamedTuple):
    """How a network does on the validation images at a halving, and how long it took to get there from the last."""

    accuracy: float
    loss: float
    seconds: float

    @property
    def quality(self) -> tuple[float, float]:
        """What networks are ranked by: accuracy, then the lower loss."""
        return self.accuracy, -self.loss


class _Rungs:
    """What each network reached at each halving, kept so that a second call decides alike."""

    NAME = f"{RETRAIN}/rungs"

    def __init__(self, store: Store) -> None:
        kept = store.load_checkpoint(self.NAME)
        rows: dict[str, list[float]] = kept.state if kept else {}
        self._store, self._rungs = store, {key: _Rung(*row) for key, row in rows.items()}

    def __contains__(self, place: tuple[str, int]) -> bool:
        return f"{place[0]}@{place[1]}" in self._rungs

    def __getitem__(self, place: tuple[str, int]) -> _Rung:
        return self._rungs[f"{place[0]}@{place[1]}"]

    def add(self, name: str, cut: int, rung: _Rung) -> None:
        self._rungs[f"{name}@{cut}"] = rung
        self._store.save_checkpoint(self.NAME, {}, {key: list(rung) for key, rung in self._rungs.items()})

    def seconds(self, name: str) -> float:
        return sum(rung.seconds for key, rung in self._rungs.items() if key.startswith(f"{name}@"))


def _labelled(progress: Progress, label: str) -> Progress:
    def labelled(phase: str, done: int, total: int, note: str = "") -> None:
        progress(f"{label}, stage {int(phase.rpartition('-')[2]) + 1}", done, total, note)

    return labelled
