"""Several scores of the same networks -> how each ranks them, what stands beside it, and a plain sentence of trust."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from bnas.searcher.ranking.measure import (
    BANDS,
    Array,
    bands,
    ceiling,
    interval,
    noise,
    regret,
    regret_of_chance,
    resampled,
    spread_of_chance,
    tau,
    tau_by_band,
    tau_of_samples,
    tau_within,
)

TOP = (1, 5, 10)
IN_A_BAND = 3  # networks at least; where there are fewer, so are the bands
CHOOSES, HALVES = 0.4, 0.2  # tau among networks of like cost from which a score picks, or drops the worse half
OPS, CHANCE = "ops", "random"


class Measured(NamedTuple):
    """How one score ranks the networks; taus are tau-b with a 95 % interval, regrets are shares of accuracy."""

    score: str
    tau: float
    low: float
    high: float
    within: float  # tau over pairs of the same op band
    by_band: tuple[float, ...]  # cheapest band first
    regrets: dict[int, float]  # by how many of the highest scores are taken

    @classmethod
    def known(cls, row: Mapping[str, Any]) -> Self:
        """Return one that JSON gave back, with None for a number that does not exist."""
        tau, low, high, within = (_number(row[name]) for name in ("tau", "low", "high", "within"))
        return cls(
            str(row["score"]), tau, low, high, within,
            by_band=tuple(map(_number, row["by_band"])),
            regrets={int(k): float(lost) for k, lost in row["regrets"].items()},
        )  # fmt: skip


class Seeds(NamedTuple):
    """What repeated trainings say of the accuracy itself."""

    networks: int  # trained more than once
    tau: float  # between two trainings
    ceiling: float  # tau that a score without error would have
    deviation: float  # of one training's accuracy

    @classmethod
    def known(cls, row: Mapping[str, Any]) -> Self:
        """Return what JSON gave back, with None for a number that does not exist."""
        return cls(int(row["networks"]), *(_number(row[name]) for name in cls._fields[1:]))


@dataclass(frozen=True)
class Ranking:
    """What is known of the scores of some networks, each trained alone."""

    networks: int
    proxy: str  # the score that is judged
    measured: tuple[Measured, ...]
    seeds: Seeds | None
    lead: tuple[float, float, float]  # tau of the proxy less that of ops, with its interval
    epochs: int | None = None  # of each training, where those are not what the recipe says

    def __getitem__(self, score: str) -> Measured:
        return next(row for row in self.measured if row.score == score)

    @property
    def beats_ops(self) -> bool:
        """Whether the proxy ranks better than counting ops does."""
        return self.lead[0] > 0

    @property
    def sentence(self) -> str:
        """Can the proxy be trusted, and for what?"""
        if self.epochs is None:
            return sentence(self)
        lasted = f"Each was trained for {self.epochs} of the recipe's epochs: by all of them the order may differ."
        return f"{sentence(self)} {lasted}"

    @classmethod
    def known(cls, found: Mapping[str, Any]) -> Self:
        """Return what `as_dict` gave, as JSON gives it back.

        Raises:
            KeyError, TypeError, ValueError: it is no such thing.
        """
        measured = tuple(map(Measured.known, found["measured"]))
        lead, low, high = map(_number, found["lead"])
        seeds = Seeds.known(found["seeds"]) if found["seeds"] else None
        epochs = found.get("epochs")  # None where they are the recipe's, and in files of older builds
        return cls(int(found["networks"]), str(found["proxy"]), measured, seeds, (lead, low, high), epochs)

    def as_dict(self) -> dict[str, Any]:
        """Return everything for machines; numbers that do not exist are None."""
        found = asdict(self) | {
            "measured": [row._asdict() for row in self.measured],
            "seeds": self.seeds._asdict() if self.seeds else None,
            "beats_ops": self.beats_ops,
            "sentence": self.sentence,
        }
        return _without_nan(found)


def judge(
    scores: Mapping[str, ArrayLike],
    truth: ArrayLike,
    ops: ArrayLike,
    *,
    proxy: str,
    repeated: tuple[ArrayLike, ArrayLike] | None = None,
    epochs: int | None = None,
    seed: int = 0,
) -> Ranking:
    """Return how well each score ranks networks by their accuracy.

    Args:
        scores: by name, [networks]; higher is better. Ops and chance stand beside them.
        truth: accuracy of each network, trained alone.
        ops: of each network; its quartiles are the bands, of few networks fewer parts.
        proxy: the name of the score that is judged.
        repeated: accuracies of two trainings of the same few networks.
        epochs: of each training, where those are not what the recipe says.
        seed: draws the bootstrap's samples.
    """
    truth, ops = np.asarray(truth, dtype=float), np.asarray(ops, dtype=float)
    columns = {name: np.asarray(values, dtype=float) for name, values in (dict(scores) | {OPS: ops}).items()}
    band = bands(ops, max(1, min(BANDS, len(truth) // IN_A_BAND)))
    samples = resampled(len(truth), seed=seed)
    taus = {name: tau_of_samples(values, truth, samples) for name, values in columns.items()}
    rows = [_measured(name, values, truth, band, interval(taus[name])) for name, values in columns.items()]
    costs_differ = bool(np.ptp(ops) > 0)  # else they rank nothing, and the proxy leads by all that it has
    lead = tau(columns[proxy], truth) - (tau(ops, truth) if costs_differ else 0.0)
    leads = taus[proxy] - (taus[OPS] if costs_differ else 0.0)
    return Ranking(
        networks=len(truth),
        proxy=proxy,
        measured=(*rows, _chance(truth, int(band.max()) + 1)),
        seeds=_seeds(*repeated) if repeated is not None else None,
        lead=(lead, *interval(leads)),
        epochs=epochs,
    )


def _measured(name: str, score: Array, truth: Array, band: np.ndarray, ends: tuple[float, float]) -> Measured:
    regrets = {k: regret(score, truth, k) for k in _tops(len(truth))}
    return Measured(
        name, tau(score, truth), *ends, tau_within(score, truth, band), tau_by_band(score, truth, band), regrets
    )


def _chance(truth: Array, count: int) -> Measured:
    reach = min(1.0, 1.96 * spread_of_chance(len(truth)))
    regrets = {k: regret_of_chance(truth, k) for k in _tops(len(truth))}
    return Measured(CHANCE, 0.0, -reach, reach, 0.0, (0.0,) * count, regrets)


def _seeds(first: ArrayLike, second: ArrayLike) -> Seeds:
    between = tau(first, second)
    return Seeds(len(np.asarray(first)), between, ceiling(between), noise(first, second))


def _tops(networks: int) -> Sequence[int]:
    return [k for k in TOP if k < networks]


def sentence(found: Ranking) -> str:
    """Return whether the proxy can be trusted, and for what, in plain words."""
    proxy, ops = found[found.proxy], found[OPS]
    ranks = f"tau {proxy.tau:.2f} ({proxy.low:.2f} to {proxy.high:.2f})"
    rivals = "0, as all cost the same" if math.isnan(ops.tau) else f"{ops.tau:.2f}"
    if not math.isnan(proxy.tau) and found.lead[0] <= 0 < found.lead[2]:
        return (
            f"Too few networks to tell: {found.networks} are ranked no better by the proxy than by counting their ops, "
            f"{ranks} against {rivals}, but the difference lies between {found.lead[1]:.2f} and "
            f"{found.lead[2]:.2f}; check more networks."
        )
    if found.beats_ops and proxy.low <= 0:
        return (
            f"Too few networks to tell: {found.networks} are ranked by the proxy with {ranks}, which may be chance; "
            "check more networks."
        )
    if math.isnan(proxy.tau) and math.isnan(ops.tau):
        return (
            f"Nothing can be ranked: all {found.networks} networks reached the same accuracy; check more of them, or "
            "train them for more epochs."
        )
    if math.isnan(proxy.tau):
        return (
            f"RED FLAG: do not trust this proxy: it gives all {found.networks} networks the same score; choose by ops, "
            "or train the supernet longer and check again."
        )
    if not found.beats_ops:
        return (
            f"RED FLAG: do not trust this proxy: it ranks {found.networks} networks no better than counting their ops "
            f"does, {ranks} against {rivals}; choose by ops, or train the supernet longer and check again."
        )
    doubt = " (not beyond doubt: check more networks)" if found.lead[1] <= 0 else ""
    k = max(proxy.regrets, default=0)
    lost = f" The best of its {k} highest is {100 * proxy.regrets[k]:.1f} points below the best of all." if k else ""
    return (
        f"Trust this proxy {_use(proxy.within)}: it ranks {found.networks} networks with {ranks}, better than counting "
        f"ops ({rivals}){doubt}, and those of like ops with {proxy.within:.2f}.{lost}"
    )


def _use(within: float) -> str:
    if within >= CHOOSES:
        return "to choose among networks of any cost"
    if within >= HALVES:
        return "to drop the worse half, not to pick the best"
    return "only to tell networks of unlike cost apart"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
