"""Successive halving: after which epochs networks are compared, what each reached there, and which of them go on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bnas.space.settings import Retraining
from bnas.train.state import Store

GIVEN = "given"  # the origin of networks that are not halved: they are trained to the end
RUNGS = "retrain/rungs"  # the checkpoint, beside those of the networks


def cuts_of(settings: Retraining) -> list[int]:
    """Return after which epochs of the last stage networks are compared; the last is its end."""
    last = settings.recipe.stages[-1].epochs
    return [*sorted({max(1, round(share * last)) for share in settings.halvings} - {last}), last]


def halved(networks: int) -> int:
    """Return how many of some networks go on after a halving."""
    return -(-networks // 2)


class Rung(NamedTuple):
    """How a network does on the validation images at a halving, and how long it took to get there from the last."""

    accuracy: float
    loss: float
    seconds: float

    @property
    def quality(self) -> tuple[float, float]:
        """What networks are ranked by: accuracy, then the lower loss."""
        return self.accuracy, -self.loss


class Rungs:
    """What each network reached at each halving, kept so that a second call decides alike."""

    def __init__(self, store: Store) -> None:
        kept = store.load_checkpoint(RUNGS)
        rows: dict[str, list[float]] = kept.state if kept else {}
        self._store, self._rungs = store, {key: Rung(*row) for key, row in rows.items()}

    def __contains__(self, place: tuple[str, int]) -> bool:
        return f"{place[0]}@{place[1]}" in self._rungs

    def __getitem__(self, place: tuple[str, int]) -> Rung:
        return self._rungs[f"{place[0]}@{place[1]}"]

    def add(self, name: str, cut: int, rung: Rung) -> None:
        """Keep what a network reached."""
        self._rungs[f"{name}@{cut}"] = rung
        self._save()

    def of(self, name: str) -> dict[str, Rung]:
        """Return what a network reached, from the first halving on."""
        return {key: rung for key, rung in self._rungs.items() if key.startswith(f"{name}@")}

    def take(self, rungs: Mapping[str, Rung]) -> None:
        """Keep what another store has of a network."""
        self._rungs |= rungs
        self._save()

    def better_half(self, names: Sequence[str], cut: int) -> list[str]:
        """Return those of some networks that go on after a halving, the best first."""
        ranked = sorted(names, key=lambda name: self[name, cut].quality, reverse=True)
        return ranked[: halved(len(ranked))]

    def seconds(self, name: str) -> float:
        """Return how long a network was trained in all."""
        return sum(rung.seconds for rung in self.of(name).values())

    def _save(self) -> None:
        self._store.save_checkpoint(RUNGS, {}, {key: list(rung) for key, rung in self._rungs.items()})
