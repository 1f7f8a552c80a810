"""What a run has found -> tables of short texts, as the page and the command line print them."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from bnas.amounts import NONE, duration, percent, show
from bnas.cost.plan import PlannedLayer
from bnas.cost.totals import Cost, cost
from bnas.searcher.candidate import ledger
from bnas.space.arch import Architecture, StageSpec
from bnas.space.values import sides

BEFORE = "test_accuracy_before"  # a column: of winners that were then trained on all training images
TIMES = "\u00d7"
SAID = {"ops": "ops", "bytes": "bytes", "bops": "BOPs", "flops": "FLOPs", "parameters": "parameters"}
LIMITED = SAID | {"latency_ms": "milliseconds", "activation_bytes": "activation bytes"}
_COSTS = tuple(SAID)
_WITHOUT_MACS = ("norm", "activation")


class TextTable(NamedTuple):
    """Column names and rows of text; columns from `numbers_from` on hold numbers, up to `numbers_to` if it is given."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers_from: int = 1
    numbers_to: int | None = None

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers, which stand flush right."""
        return self.numbers_from <= column < (len(self.header) if self.numbers_to is None else self.numbers_to)


def by(size: Iterable[int]) -> str:
    """Return a size as people read it, with the sign for times between its sides."""
    return TIMES.join(map(str, size))


def front_table(pareto: pd.DataFrame, *, best: str | None = None, retrained: Collection[str] = ()) -> TextTable:
    """Return the Pareto front, cheapest first.

    Args:
        pareto: the columns of pareto.csv.
        best: id of the best network, which is marked.
        retrained: ids of the networks that were trained alone, which are marked.
    """
    marks = {**dict.fromkeys(retrained, "trained alone"), **({best: "best"} if best else {})}
    rows = [
        (
            str(row["id"]), marks.get(str(row["id"]), ""), f"{row['proxy_loss']:.4f}", percent(row["proxy_accuracy"]),
            *_amounts(row, _COSTS),
        )
        for _, row in pareto.iterrows()
    ]  # fmt: skip
    return TextTable(("id", "", "proxy loss", "proxy accuracy", *SAID.values()), tuple(rows), 2)


def retrained_table(retrained: pd.DataFrame, *, best: str | None = None) -> TextTable:
    """Return the networks that were trained alone, the best first."""
    on_all = {"final_test_accuracy": "trained on all"} if "final_test_accuracy" in retrained else {}
    rows = [
        (
            str(row["id"]), "best" if row["id"] == best else "", str(row.get("origin", "search")).replace("+", ", "),
            *(percent(row[key]) for key in ("validation_accuracy", "test_accuracy", *on_all)),
            f"{row['proxy_loss']:.4f}", percent(row["proxy_accuracy"]),
            f"{row['epochs']:.0f}", duration(row["seconds"]), *_amounts(row, ("ops", "bytes")),
        )
        for _, row in retrained.iterrows()
    ]  # fmt: skip
    header = (
        "id", "", "from", "validation accuracy", "test accuracy", *on_all.values(), "proxy loss", "proxy accuracy",
        "epochs", "time", "ops", "bytes",
    )  # fmt: skip
    return TextTable(header, tuple(rows), 3)


def best_of_each(retrained: pd.DataFrame) -> dict[str, float]:
    """Return the test accuracy of the best on validation of each origin, among those that were trained to the end."""
    ended = retrained[retrained["epochs"] == retrained["epochs"].max()].sort_values(
        "validation_accuracy", ascending=False, kind="stable"
    )
    origins = ended["origin"] if "origin" in ended else pd.Series("search", index=ended.index)
    parts = [(origin, accuracy) for text, accuracy in zip(origins, ended["test_accuracy"], strict=True)
             for origin in str(text).split("+")]  # fmt: skip
    return dict(reversed(parts))


def ledger_table(candidates: pd.DataFrame, twin: pd.DataFrame) -> TextTable:
    """Return what became of the proposals of the search and of its twin."""
    fates = {name: ledger(table["status"]) for name, table in (("search", candidates), ("random twin", twin))}
    rows = tuple((name, *map(str, counts.values())) for name, counts in fates.items())
    return TextTable(("", "proposed", "paid", "over budget (free)", "repeated (free)", "failed"), rows)


def ranking_table(ranking: Mapping[str, Any]) -> TextTable:
    """Return how well each score ranks networks trained alone, as ranking.json has it."""
    measured = ranking["measured"]
    tops = tuple(measured[0]["regrets"])
    rows = tuple(
        (
            row["score"], _tau(row["tau"]), f"{_tau(row['low'])} to {_tau(row['high'])}", _tau(row["within"]),
            *(f"{100 * row['regrets'][top]:.1f}" for top in tops),
        )
        for row in measured
    )  # fmt: skip
    lost = (f"points lost, top {top}" for top in tops)
    return TextTable(("score", "tau", "95 % interval", "tau among like ops", *lost), rows)


def stage_table(arch: Architecture) -> TextTable:
    """Return a network stage by stage."""
    stem = arch.stem
    kernel = NONE if stem.kind == "branched" else by(sides(stem.kernel))
    bits = "" if stem.levels is None else f", {stem.levels} levels"
    first = (
        f"stem ({stem.kind}{bits})",
        "binary" if bits else "real",
        "1",
        str(stem.width),
        NONE,
        NONE,
        kernel,
        str(stem.stride),
    )
    rows = [(f"stage {index}", *_stage(stage)) for index, stage in enumerate(arch.stages, start=1)]
    header = ("part", "precision of its blocks", "blocks", "width", "groups", "experts", "kernel", "stride")
    return TextTable(header, (first, *rows), 2)


def layer_table(layers: Iterable[PlannedLayer]) -> TextTable:
    """Return the layers that have MACs, then the others as one row, then the sum."""
    planned = list(layers)
    main = [layer for layer in planned if layer.role not in _WITHOUT_MACS]
    rest = [layer for layer in planned if layer.role in _WITHOUT_MACS]
    blank = ("", "", "", "", "", "")
    rows = [_layer(layer) for layer in main]
    # Their MACs are zero by convention, not by nature: say so instead of printing a zero.
    rows.append((f"{len(rest)} norms and activations", "real", *blank, "not counted", "not counted",
                 _exact(sum(layer.bytes for layer in rest))))  # fmt: skip
    total = cost(planned)
    rows.append(("together", "", *blank, _exact(total.bops + total.flops), _exact(total.ops), _exact(total.bytes)))
    header = (
        "layer", "precision", "channels", "kernel", "stride", "groups", "experts", "output", "MACs", "ops", "bytes"
    )  # fmt: skip
    return TextTable(header, tuple(rows), 2)


def cost_table(price: Cost, real: Cost) -> TextTable:
    """Return each quantity of a network beside that of the same network with real weights and inputs."""
    pairs = [(name, getattr(price, name), getattr(real, name)) for name in _COSTS]
    rows = tuple((SAID[name], _exact(ours), _exact(theirs), _times(theirs, ours)) for name, ours, theirs in pairs)
    return TextTable(("quantity", "this network", "all real", "ratio"), rows)


def facts_table(facts: Mapping[str, Any]) -> TextTable:
    """Return names and values, one a row."""
    return TextTable(("", ""), tuple((name.replace("_", " "), _said(value)) for name, value in facts.items()), 2)


def settings_table(config: Mapping[str, Any]) -> TextTable:
    """Return what a run was asked, one setting a row, its images in the line that was said of them first."""
    images = config.get("images")
    said = images.get("summary") if isinstance(images, Mapping) else None
    return facts_table(config if said is None else {**config, "images": said})


def _tau(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _amounts(row: "pd.Series[Any]", names: Iterable[str]) -> tuple[str, ...]:
    return tuple(show(float(row[name])) for name in names)


def _stage(stage: StageSpec) -> tuple[str, ...]:
    if not stage.depth:
        return ("not there", "0", *[NONE] * 5)
    kinds = stage.precision if len(set(stage.precision)) > 1 else stage.precision[:1]
    own = [said for said in (stage.activation, "squeeze-excite" if stage.squeeze_excite else None) if said]
    return (
        ", ".join((*kinds, *own)), str(stage.depth), str(stage.width), str(stage.groups), str(stage.experts),
        by(sides(stage.kernel)),
        f"{stage.stride}{', max pool' * (stage.downsample == 'max_pool')}",
    )  # fmt: skip


def _layer(layer: PlannedLayer) -> tuple[str, ...]:
    return (
        layer.name, layer.precision, f"{layer.in_channels} → {layer.out_channels}", by(layer.kernel),
        by(layer.stride), str(layer.groups), str(layer.experts), by(layer.out_size), _exact(layer.macs),
        _exact(cost([layer]).ops), _exact(layer.bytes),
    )  # fmt: skip


def _exact(value: float) -> str:
    """Return a count with its thousands apart; ops may end in a fraction."""
    return (f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}").replace(",", "\u202f")


def _times(more: float, less: float) -> str:
    return f"{more / less:.1f}{TIMES}" if less and more else NONE


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = [(key.replace("_", " "), inner) for key, inner in value.items()]
        return ", ".join(f"{key} ({_said(v)})" if isinstance(v, Mapping) else f"{key}: {_said(v)}" for key, v in pairs)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    return str(value)
