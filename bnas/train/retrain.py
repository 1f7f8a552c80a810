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
from bnas.train.binary_watch import BinaryWatch
from bnas.train.evaluate import evaluate
from bnas.train.halving import GIVEN, Rung, Rungs, cuts_of
from bnas.train.ranks import ALONE, Ranks
from bnas.train.staged import build_for, labelled, train_staged
from bnas.train.state import Reached, Store, model_weights

RETRAIN = "retrain"  # of the checkpoints
ON_ALL = "on-all"  # of those of the winner's last training
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

    Those of one origin are halved among themselves, so that the best of each is trained to the end, all alike; what was
    given is trained to the end whatever it is, and what the store has of a network counts, in whatever half it is. Only
    what is trained so far can come first. Where the settings say so, the best is then trained once more, on the
    validation images too. The test split is read here, once, after every choice has been made, by rank 0 where several
    train together.

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
    work = _Work(
        recipe=settings.recipe, cuts=cuts_of(settings), rungs=Rungs(store), data=data, seed=seed, store=store,
        device=device, inherited=inherited, teacher=teacher, is_time_up=is_time_up, progress=progress, ranks=ranks,
    )  # fmt: skip
    every = {arch.id: arch for archs in chosen.values() for arch in archs}
    reached = work.halvings(every, {origin: [arch.id for arch in archs] for origin, archs in chosen.items()})
    stand = {name: work.left_at(every[name], reached[name]) for name in every if reached[name]}
    trained = sorted(stand, key=lambda name: (reached[name], stand[name].rung.quality), reverse=True)
    everything = data.with_held_out() if settings.final_on_all else data
    again = work.once_more(every[trained[0]], everything) if settings.final_on_all else None
    results = []
    for name in trained:
        origins = tuple(origin for origin, archs in chosen.items() if name in {arch.id for arch in archs})
        results.append(work.result(every[name], stand[name], origins))
    if again is not None:
        final = Final(again, len(everything.train), settings.recipe.epochs, work.tested(again))
        results[0] = replace(results[0], final=final)
    return results


class _LeftAt(NamedTuple):
    """How many epochs of the last stage a network was trained for, and how it does after them."""

    epoch: int
    rung: Rung


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What all networks of a retraining are trained alone with; a method that trains reads back what is there."""

    recipe: Recipe
    cuts: list[int]  # epochs of the last stage; the last is its end
    rungs: Rungs
    data: DataSet
    seed: int
    store: Store
    device: torch.device
    inherited: Callable[[Architecture], Network] | None
    teacher: nn.Module | None
    is_time_up: Callable[[], bool]
    progress: Progress
    ranks: Ranks

    def halvings(self, every: Mapping[str, Architecture], alive: Mapping[str, list[str]]) -> dict[str, int]:
        """Train networks from cut to cut, of each origin the better half; return how far each came, 0 for not at all.

        What was trained beyond a cut before goes on too, in whatever half it is, and leaves the others their places.

        Args:
            every: architectures by id.
            alive: the ids of those that are still trained, by origin.
        """
        reached, beyond = dict.fromkeys(every, 0), list[str]()
        for cut in self.cuts:
            going = list(dict.fromkeys(itertools.chain(*alive.values(), beyond)))
            for place, name in enumerate(going):
                if (name, cut) not in self.rungs:
                    if any(reached.values()) and self.ranks.told(self.is_time_up):
                        continue
                    self._reach(every[name], cut, label=f"retrain {place + 1} of {len(going)}")
                reached[name] = cut
            alive = {origin: [name for name in names if reached[name] == cut] for origin, names in alive.items()}
            if cut != self.cuts[-1]:
                beyond = [name for name in going if reached[name] == cut and self._is_beyond(name, cut)]
                alive = {o: names if o == GIVEN else self.rungs.better_half(names, cut) for o, names in alive.items()}
        return reached

    def _is_beyond(self, name: str, cut: int) -> bool:
        """Whether a network was trained further than a cut before."""
        return self._trained_to(name) > (cut, 0)

    def _trained_to(self, name: str) -> tuple[int, int]:
        """Return how far a network was ever trained: epochs of the last stage, and steps of the next."""
        kept = self.store.load_checkpoint(f"{RETRAIN}/{name}-{len(self.recipe.stages) - 1}")
        at = Reached(**kept.state) if kept else Reached()
        return at.epoch, at.step

    def once_more(self, arch: Architecture, images: DataSet) -> Network | None:
        """Return the best, trained again to the end on more images; None where the time is up."""
        name, last = f"{ON_ALL}/{arch.id}", self.cuts[-1]
        if (name, last) not in self.rungs:
            if self.ranks.told(self.is_time_up):
                return None
            started = time.monotonic()
            self._trained(arch, last, labelled(self.progress, "retrain the best on all", arch.id), images, name)
            # Nothing is held out of these images to compare it by.
            self.rungs.add(name, last, Rung(math.nan, math.nan, time.monotonic() - started))
        return self._trained(arch, last, silent, images, name)

    def left_at(self, arch: Architecture, reached: int) -> _LeftAt:
        """Return how far a network came and how it does there: beyond its last halving, where it was stopped later."""
        if not self._is_beyond(arch.id, reached):
            return _LeftAt(reached, self.rungs[arch.id, reached])
        network, (epoch, _) = self._trained(arch, reached, silent, self.data, arch.id), self._trained_to(arch.id)
        return _LeftAt(epoch, Rung(*self._evaluated(network, self.data.validation), math.nan))

    def result(self, arch: Architecture, stands: _LeftAt, origins: tuple[str, ...]) -> Retrained:
        """Return a network that was trained so far, and how well it does."""
        network = self._trained(arch, stands.epoch, silent, self.data, arch.id)
        epochs, accuracy = self.recipe.epochs - self.cuts[-1] + stands.epoch, stands.rung.accuracy
        return Retrained(arch, network, origins, epochs, accuracy, self.tested(network), self.rungs.seconds(arch.id))

    def tested(self, network: Network) -> float:
        """Return the accuracy on the test images."""
        return self._evaluated(network, self.data.test)[0]

    def _reach(self, arch: Architecture, cut: int, *, label: str) -> None:
        started = time.monotonic()
        network = self._trained(arch, cut, labelled(self.progress, label, arch.id), self.data, arch.id)
        accuracy, loss = self._evaluated(network, self.data.validation)
        self.rungs.add(arch.id, cut, Rung(accuracy, loss, time.monotonic() - started))

    def _trained(self, arch: Architecture, cut: int, watch: Progress, images: DataSet, name: str) -> Network:
        return train_staged(
            partial(build_for, arch), self.recipe, images, name=f"{RETRAIN}/{name}", seed=self.seed, store=self.store,
            device=self.device, start=self.inherited(arch) if self.inherited else None, teacher=self.teacher,
            until=cut, measure=BinaryWatch, progress=watch, ranks=self.ranks,
        )  # fmt: skip

    def _evaluated(self, network: Network, split: Split) -> tuple[float, float]:
        return self.ranks.told(lambda: evaluate(network, split.batches(EVALUATION_BATCH, device=self.device)))


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
