"""Chosen architectures -> networks trained alone; of each origin the worse half stops at each halving."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from bnas.data import DataSet, Split
from bnas.errors import TrainingError
from bnas.layers.blocks import Network
from bnas.networks.build import build
from bnas.progress import Progress, silent
from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe
from bnas.space.settings import Retraining
from bnas.train import ALONE, BinaryWatch, Ranks, Store, build_for, evaluate, train_staged
from bnas.train.state import model_weights

RETRAIN = "retrain"  # of the checkpoints
ON_ALL = "on-all"  # of those of the winner's last training
_NAMED_BY = 12  # letters, as many as an id has
EVALUATION_BATCH = 500  # images of one evaluation step


@dataclass(frozen=True)
class Final:
    """The winner, trained once more after it was chosen: on all training images, those held out among them."""

    network: Network
    images: int  # that it was trained on
    epochs: int
    test_accuracy: float


@dataclass(frozen=True)
class Retrained:
    """One network trained alone: how far, and how well it does."""

    arch: Architecture
    network: Network
    origins: tuple[str, ...]  # who chose it: the search, its twin
    epochs: int
    validation_accuracy: float
    test_accuracy: float
    seconds: float
    final: Final | None = None  # of the winner, where it was asked for and there was time

    def row(self) -> dict[str, Any]:
        """Return what a line of retrained.csv holds of it."""
        return {
            "id": self.arch.id,
            "origin": "+".join(self.origins),
            "validation_accuracy": self.validation_accuracy,
            "test_accuracy": self.test_accuracy,
            "epochs": self.epochs,
            "seconds": round(self.seconds, 1),
        }


def retrain(
    chosen: Mapping[str, Sequence[Architecture]],
    settings: Retraining,
    data: DataSet,
    *,
    seed: int,
    store: Store,
    device: torch.device,
    inherited: Callable[[Architecture], Network] | None = None,
    teacher: nn.Module | None = None,
    is_time_up: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
) -> list[Retrained]:
    """Train architectures alone by successive halving; return all of them, the best on validation first.

    Those of one origin are halved among themselves, so that the best of each is trained to the end, all alike. Only
    those that are can come first. Where the settings say so, the best is then trained once more, on the validation
    images too. The test split is read here, once, after every choice has been made, by rank 0 where several train
    together.

    Args:
        chosen: architectures by origin; one that several origins chose is trained once.
        is_time_up: asked before each training but the first; then none is trained any more, and those that went on to a
            halving which others did not reach are the best. What was not trained at all is left out, and so is the
            last training of the best.
        inherited: gives the network that training begins with, which stays as it is; None begins with fresh weights.
        teacher: of each network, as in `train_staged`.
    Raises:
        TrainingError: a loss is not finite.
    """
    settings = settings.model_copy(update={"recipe": settings.recipe.on(len(data.train))})
    recipe, cuts = settings.recipe, cuts_of(settings)
    last, rungs = cuts[-1], _Rungs(store)

    def reach(arch: Architecture, cut: int, watch: Progress, *, images: DataSet = data, name: str = "") -> Network:
        return train_staged(
            partial(build_for, arch), recipe, images, name=f"{RETRAIN}/{name or arch.id}", seed=seed, store=store,
            device=device, start=inherited(arch) if inherited else None, teacher=teacher, until=cut,
            measure=BinaryWatch, progress=watch, ranks=ranks,
        )  # fmt: skip

    def once_more(arch: Architecture, images: DataSet) -> Network | None:
        name, label = f"{ON_ALL}/{arch.id}", "retrain the best on all"
        if (name, last) not in rungs:
            if ranks.told(is_time_up):
                return None
            started = time.monotonic()
            reach(arch, last, labelled(progress, label, arch.id), images=images, name=name)
            rungs.add(name, last, _Rung(math.nan, math.nan, time.monotonic() - started))  # nothing is held out of it
        return reach(arch, last, silent, images=images, name=name)

    def tested(network: Network) -> float:
        return ranks.told(partial(_evaluated, network, data.test, device))[0]

    every = {arch.id: arch for archs in chosen.values() for arch in archs}
    alive, reached = {origin: [arch.id for arch in archs] for origin, archs in chosen.items()}, dict.fromkeys(every, 0)
    for cut in cuts:
        going = list(dict.fromkeys(itertools.chain(*alive.values())))
        for place, name in enumerate(going):
            if (name, cut) not in rungs:
                if any(reached.values()) and ranks.told(is_time_up):
                    continue
                started, label = time.monotonic(), f"retrain {place + 1} of {len(going)}"
                network = reach(every[name], cut, labelled(progress, label, name))
                accuracy, loss = ranks.told(partial(_evaluated, network, data.validation, device))
                rungs.add(name, cut, _Rung(accuracy, loss, time.monotonic() - started))
            reached[name] = cut
        alive = {origin: [name for name in names if reached[name] == cut] for origin, names in alive.items()}
        if cut != last:
            alive = {origin: rungs.better_half(names, cut) for origin, names in alive.items()}
    trained = [name for name in every if reached[name]]
    trained.sort(key=lambda name: (reached[name], rungs[name, reached[name]].quality), reverse=True)
    everything = data.with_held_out() if settings.final_on_all else data
    again = once_more(every[trained[0]], everything) if settings.final_on_all else None
    results = []
    for name in trained:
        network = reach(every[name], reached[name], silent)  # only read back: it is trained this far
        origins = tuple(origin for origin, archs in chosen.items() if name in {arch.id for arch in archs})
        epochs, validation = recipe.epochs - last + reached[name], rungs[name, reached[name]].accuracy
        results.append(
            Retrained(every[name], network, origins, epochs, validation, tested(network), rungs.seconds(name))
        )
    if again is not None:
        final = Final(again, len(everything.train), recipe.epochs, tested(again))
        results[0] = replace(results[0], final=final)
    return results


def cuts_of(settings: Retraining) -> list[int]:
    """Return after which epochs of the last stage networks are compared; the last is its end."""
    last = settings.recipe.stages[-1].epochs
    return [*sorted({max(1, round(share * last)) for share in settings.halvings} - {last}), last]


def halved(networks: int) -> int:
    """Return how many of some networks go on after a halving."""
    return -(-networks // 2)


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

    def better_half(self, names: Sequence[str], cut: int) -> list[str]:
        ranked = sorted(names, key=lambda name: self[name, cut].quality, reverse=True)
        return ranked[: halved(len(ranked))]

    def seconds(self, name: str) -> float:
        return sum(rung.seconds for key, rung in self._rungs.items() if key.startswith(f"{name}@"))


def labelled(progress: Progress, label: str, network: str) -> Progress:
    """Return what tells how a network's stages go under a label, with the first letters of the network's name."""

    def told(phase: str, done: int, total: int, note: str = "") -> None:
        progress(f"{label}, stage {int(phase.rpartition('-')[2]) + 1}", done, total, f"{network[:_NAMED_BY]}, {note}")

    return told
