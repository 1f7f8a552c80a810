"""What a run has found -> sentences and numbers that a person reads first, and the commands that follow."""

import math
import shlex
from typing import Any, NamedTuple

import pandas as pd

from bnas.amounts import duration, percent, show
from bnas.cost.totals import NOT_COUNTED, Cost
from bnas.report.final_training import is_final
from bnas.report.findings import Findings, paid_rows
from bnas.report.tables import LIMITED, best_of_each
from bnas.runs.contents import IN_PYTHON, SPACE
from bnas.trust import names_code

COUNTED = (
    "All costs on this page are counted from the description of the network for one image, none is measured but a "
    "latency where it says so: "
    f"OPs = FLOPs + BOPs / 64; {NOT_COUNTED}. Bytes are those of packed weights, scales and folded batch norm. "
    "A network of fewer ops is not always faster on a given machine."
)


_RANKS = "with the same weights on the same images; what ranks candidates, lower is better"


class Tile(NamedTuple):
    """One number of the answer; `used` is its share of a budget, in percent."""

    label: str
    value: str
    note: str
    used: float | None = None


def missing(found: Findings) -> list[str]:
    """Say what an unfinished run does not hold yet, and what to do."""
    go_on = "Run the same search command on this folder again and it goes on."
    scored = len(paid_rows(found.candidates))
    if not found.searched and not scored:
        return [f"No candidate has been scored yet; the supernet is trained first. {go_on}"]
    if not found.searched:
        trials = found.config.get("trials", "?")
        return [
            f"The search has not ended: {scored} of {trials} evaluations are in its table, and "
            f"{len(paid_rows(found.twin))} in that of its random twin. The front is that of the candidates so far. "
            f"{go_on}",
            "It had ended with fewer trials: the network shown, and its accuracy, are those of then."
            if found.manifest
            else "No network has been trained alone, so no accuracy is known; the network shown leads by proxy loss.",
        ]
    if not found.manifest:
        return [
            "The search has ended, but retraining has not: no accuracy is known yet, and the network shown only leads "
            f"by proxy loss. {go_on}"
        ]
    return []


def tiles(found: Findings, price: Cost) -> list[Tile]:
    """Return the numbers of the answer: accuracies by their right names, then costs against the budget."""
    return [*_accuracies(found), *_costs(found, price)]


def twin_sentence(candidates: pd.DataFrame, twin: pd.DataFrame) -> str:
    """Say how the search did beside random search at the same number of paid evaluations."""
    ours, others = (paid_rows(table)["proxy_loss"].astype(float) for table in (candidates, twin))
    evaluations = min(len(ours), len(others))
    if not evaluations:
        return "There is no random search to compare with yet."
    best, rival = ours[:evaluations].min(), others[:evaluations].min()
    lead = (
        f"After {evaluations} paid evaluations each, the lowest proxy loss of the search is {best:.4f}, "
        f"that of random search {rival:.4f}"
    )
    if math.isclose(best, rival):
        return f"{lead}: the search did as well as chance. This is one run of each."
    if best > rival:
        return f"{lead}: random search did better by {best - rival:.4f}. This is one run of each."
    passed = 1 + int((ours < rival).to_numpy().argmax())
    return (
        f"{lead}: the search is ahead by {rival - best:.4f}, and was ahead of all of random search's candidates "
        f"from its evaluation {passed} on. This is one run of each, so a small difference may be chance."
    )


def trained_sentence(retrained: pd.DataFrame) -> str:
    """Say what the best of the search and of its random twin reach, trained alike; "" where one is missing."""
    best = best_of_each(retrained) if len(retrained) else {}
    if not {"search", "twin"} <= best.keys():
        return ""
    return (
        f"Trained alike and chosen by validation images, the best of the search reaches {percent(best['search'])} "
        f"on test images, the best of its random twin {percent(best['twin'])}. This is one training of each."
    )


def reused_sentence(found: Findings) -> str:
    """Say which networks another search trained alone, as far as it came; "" where it is none of those shown."""
    shown = set(found.retrained["id"]) if len(found.retrained) else set()
    places: dict[str, list[str]] = {}
    for name, place in found.reused.items():
        if name in shown:
            places.setdefault(place, []).append(name)
    if not places:
        return ""
    said = "; ".join(f"{', '.join(names)} in {place}" for place, names in places.items())
    return f"Trained before, in another search of the same supernet, and here only as far as was missing: {said}."


def work_sentence(found: Findings) -> str:
    """Say when the run was worked on and how long, by its log."""
    work = found.work
    if work is None:
        return "The run has no log."
    starts = "one go" if work.starts == 1 else f"{work.starts} goes"
    return (
        f"By its log the run was worked on for {duration(work.seconds)} in {starts}, between {work.first} and "
        f"{work.last} UTC."
    )


def teacher_sentence(found: Findings) -> str:
    """Say what teaches the networks; "" where nothing does."""
    settings = found.space.search
    if settings.teacher is None:
        return ""
    known = f", which gets {found.teacher}," if found.teacher else ""
    return f"A real network, {settings.teacher.model}{known} teaches {' and '.join(settings.taught)}."


def proof(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what the manifest says to prove that the best network is the one that was counted and trained."""
    again = manifest.get("counted_again")  # of an architecture; other networks have no plan to compare with
    said = "on the built network: the same" if again == manifest["cost"] else again
    counted = {"cost counted again": said} if again else {}
    shown = ("reload", "weights_sha256", "data", "seed", "epochs")
    return counted | {key: manifest[key] for key in shown if key in manifest}


def export_line(found: Findings) -> str:
    """Return the command that hands the best network over."""
    trust = ["--trust"] if found.subject and names_code(found.subject) else []
    out = ["-o", f"{found.folder.name}-export"]
    return shlex.join(["bnas", "export", str(found.path), "--to", "training", *out, *trust])


def search_line(found: Findings) -> str:
    """Return the command that searches again with the same settings and seed, in a new folder.

    "" where there is none: images that were given in Python, or networks to start with, it would not name.
    """
    config: dict[str, Any] = found.config
    if str(config.get("data", "")).endswith(IN_PYTHON) or config.get("start_with"):
        return ""
    words = ["bnas", "search", str(found.path / SPACE)]
    for option, key in (("--data", "data"), ("--trials", "trials"), ("--sampler", "sampler"), ("--seed", "seed")):
        words += [option, str(config[key])] if key in config else []
    for name, limit in found.budget.as_dict().items():
        words += ["--budget", f"{name}={limit}"]
    words += ["--top", str(config["retrain"])] if "retrain" in config else []
    words += ["--from", str(config["supernet_of"])] if "supernet_of" in config else []
    words += ["--trust"] if names_code(found.space) else []
    return shlex.join([*words, "--out", str(found.folder.with_name(f"{found.folder.name}-again"))])


def _accuracies(found: Findings) -> list[Tile]:
    known = (found.manifest or {}).get("accuracy", {})
    scored = pd.concat([paid_rows(found.candidates), paid_rows(found.twin)])
    rows = scored[scored["id"] == (found.subject.id if found.subject else "")]
    loss = [Tile("proxy loss", f"{float(value):.4f}", _RANKS) for value in rows["proxy_loss"].iloc[:1]]
    proxy = known.get("proxy", float(rows["proxy_accuracy"].iloc[0]) if len(rows) else math.nan)
    final = is_final(found.manifest or {})
    on_all, before = (", at last on all training images", ", in the training before") if final else ("", "")
    said = [
        (
            "test accuracy",
            known.get("test"),
            f"trained alone{on_all}; the test split was read once, after every choice",
        ),
        ("validation accuracy", known.get("validation"), f"trained alone{before}; what the best was chosen by"),
        ("proxy accuracy", proxy, "with the supernet's shared weights, on held-out training images"),
    ]
    return [*(Tile(label, percent(value), note) for label, value, note in said if value is not None), *loss]


def _costs(found: Findings, price: Cost) -> list[Tile]:
    limits = dict(found.budget.limits)
    result = []
    for name in dict.fromkeys(("ops", "bytes", *limits, *(("latency_ms",) if price.nanoseconds else ()))):
        value, limit, how = getattr(price, name), limits.get(name), _how(found, name)
        if limit is None:
            result.append(Tile(LIMITED[name], show(value), f"{how}; no budget was set"))
            continue
        kept = "inside" if limit.excess(value) == 0 else "OUTSIDE"
        used = 100 * value / limit.at_most if math.isfinite(limit.at_most) else None
        share = f", {percent(used / 100)} of it used" if used is not None else ""
        result.append(Tile(LIMITED[name], show(value), f"{how}; {kept} the budget {limit}{share}", used))
    return result


def _how(found: Findings, name: str) -> str:
    """Say how a quantity is known: counted; or predicted, and for the best network what was measured of it."""
    if name != "latency_ms":
        return "counted"
    known = (found.manifest or {}).get("latency", {})
    measured = known.get("measured_ms")
    said = f"measured {show(measured)}" if measured else f"not measured: {known['why']}" if "why" in known else ""
    table = found.space.latency.machine if found.space.latency else "another machine"
    return f"predicted for {table}, one image, one thread{said and f'; {said}'}"
