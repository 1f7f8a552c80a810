"""What `bnas cost` counted -> JSON, CSV and tables."""

import csv
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from bnas.amounts import percent, show
from bnas.cli.columns import aligned
from bnas.cost.plan import PlannedLayer, Uncounted
from bnas.cost.totals import NOT_COUNTED, Convention, Cost, by_stage, cost

LEGEND = (
    "precision: real input and weights; weight: real input, binary weights; binary: both; s2 behind a kernel: stride 2"
)


class Predicted(NamedTuple):
    """How long a network takes on a machine, by a table of its parts."""

    latency_ms: float
    machine: str


class Counted(NamedTuple):
    """The layers of what the command was given, what is not in them, and what is predicted of it beside."""

    source: str
    inputs: tuple[tuple[int, ...], ...]
    layers: tuple[PlannedLayer, ...]
    uncounted: tuple[Uncounted, ...] = ()
    predicted: Predicted | None = None


def cost_summary(counted: Counted, count: Convention) -> dict[str, Any]:
    """Return everything that was counted, for machines."""
    whole = cost(counted.layers)
    return {
        "source": counted.source,
        "inputs": [list(shape) for shape in counted.inputs],
        "convention": {"name": count.name, "unit": count.unit, "formula": count.formula, "left_out": NOT_COUNTED},
        "total": _figures(whole, count),
        "stages": {name: _figures(part, count) for name, part in by_stage(counted.layers).items()},
        "layers": [_row(layer, count, whole) for layer in counted.layers],
        "not_counted": list(map(str, counted.uncounted)),
    } | ({"predicted": counted.predicted._asdict()} if counted.predicted else {})


def print_csv(counted: Counted, count: Convention) -> None:
    """Print one line for each layer, and one without figures for each operator that was not counted."""
    whole = cost(counted.layers)
    rows = [_row(layer, count, whole) for layer in counted.layers]
    rows += [{"name": item.path, "role": "not counted", "kind": item.operator} for item in counted.uncounted]
    if rows:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def print_tables(counted: Counted, count: Convention) -> None:
    """Print the layers that count, the parts of the network, and the totals."""
    whole, stages = cost(counted.layers), by_stage(counted.layers)
    print(f"{counted.source} on {' and '.join(_shape(s[0], s[1:]) for s in counted.inputs)}\n")
    print("\n".join(aligned(_layer_rows(counted, count, whole), to_the_left=8)))
    print(LEGEND)
    if len(stages) > 1:
        print("\n" + "\n".join(aligned(_stage_rows(stages, count, whole), to_the_left=1)))
    print("\n" + "\n".join(_totals(counted, count, whole)))


def _figures(part: Cost, count: Convention) -> dict[str, Any]:
    """Return every figure of a cost; that of the convention is `counted`, and goes by the name of its unit too."""
    counted = count.figure(part)
    saving = {"counted": count.saving(part), "bytes": _times(part.float32_bytes, part.bytes)}
    return {
        "counted": counted,
        **part.as_dict(),
        "macs": part.macs,
        count.unit: counted,
        "parameters_by_bits": part.parameters_by_bits,
        "float32_bytes": part.float32_bytes,
        "saving": {**saving, "weights": part.weight_saving},
    }


def _row(layer: PlannedLayer, count: Convention, whole: Cost) -> dict[str, Any]:
    """Return one layer as a flat row."""
    part = cost([layer])
    counted = count.figure(part)
    return {
        "name": layer.name, "role": layer.role, "kind": layer.kind, "precision": layer.precision,
        "in": _shape(layer.in_channels, layer.in_size), "out": _shape(layer.out_channels, layer.out_size),
        "kernel": "x".join(map(str, layer.kernel)), "stride": "x".join(map(str, layer.stride)),
        "groups": layer.groups, "experts": layer.experts, "macs": layer.macs, "counted": counted,
        "share": _share(counted, count.figure(whole)), **part.as_dict(), count.unit: counted,
    }  # fmt: skip


def _totals(counted: Counted, count: Convention, whole: Cost) -> list[str]:
    bits = ", ".join(f"{show(n)} of {b} bit{'s' * (b > 1)}" for b, n in whole.parameters_by_bits.items() if n)
    beside = [layer for layer in counted.layers if not layer.macs]
    return [
        f"{count.unit} {_exact(count.figure(whole))}: {count.formula}; BOPs {_exact(whole.bops)}, "
        f"FLOPs {_exact(whole.flops)}",
        f"against float32: {show(whole.macs)} MACs, so {count.saving(whole):.2f}x fewer {count.unit}",
        f"parameters {_exact(whole.parameters)}{bits and f': {bits}'}",
        f"bytes {_exact(whole.bytes)}, of these {show(cost(beside).bytes)} in {len(beside)} layers without MACs; "
        f"as float32 {_exact(whole.float32_bytes)}, {_times(whole.float32_bytes, whole.bytes):.2f}x; "
        f"weights alone {whole.weight_saving:.2f}x",
        f"peak of activations {_exact(whole.activation_bytes)} bytes for one image, with what shortcuts hold",
        *([_predicted(counted.predicted)] if counted.predicted else []),
        f"convention {count.name}: {NOT_COUNTED}",
        *([_left_out(counted)] if counted.uncounted else []),
    ]


def _predicted(found: Predicted) -> str:
    return f"predicted latency {show(found.latency_ms)} ms for one image, packed, on one thread of {found.machine}"


def _left_out(counted: Counted) -> str:
    operators = ", ".join(dict.fromkeys(item.operator for item in counted.uncounted))
    return f"left out of all figures: what is marked `not counted` in the table ({operators})"


def _layer_rows(counted: Counted, count: Convention, whole: Cost) -> list[Sequence[str]]:
    heads = ("layer", "role", "in", "out", "kernel", "groups", "experts", "precision")
    rows: list[Sequence[str]] = [(*heads, "MACs", f"share of {count.unit}", "bytes")]
    for layer in counted.layers:
        if layer.macs:
            row = _row(layer, count, whole)
            rows.append((
                layer.name or "(itself)", layer.role if layer.role != "other" else layer.kind, row["in"], row["out"],
                row["kernel"] + _stride(layer), _unless_one(layer.groups), _unless_one(layer.experts), layer.precision,
                show(layer.macs), percent(row["share"]), show(layer.bytes),
            ))  # fmt: skip
    marked = ("", "", "", "", "", "not counted", "?", "?", "?")
    return rows + [(item.path or "(itself)", item.operator, *marked) for item in counted.uncounted]


def _stage_rows(stages: dict[str, Cost], count: Convention, whole: Cost) -> list[Sequence[str]]:
    figures = ("MACs", "BOPs", "FLOPs", count.unit, "parameters", "bytes", "peak activation bytes")
    rows: list[Sequence[str]] = [("part", f"share of {count.unit}", *figures)]
    for name, part in stages.items():
        counted = count.figure(part)
        numbers = (part.macs, part.bops, part.flops, counted, part.parameters, part.bytes, part.activation_bytes)
        rows.append((name or "(itself)", percent(_share(counted, count.figure(whole))), *map(show, numbers)))
    return rows


def _shape(channels: int, size: Sequence[int]) -> str:
    return "x".join(map(str, (channels, *size)))


def _stride(layer: PlannedLayer) -> str:
    if len(set(layer.stride)) > 1:
        return f" s{'x'.join(map(str, layer.stride))}"
    return f" s{layer.stride[0]}" if layer.stride[0] > 1 else ""


def _unless_one(number: int) -> str:
    return str(number) if number > 1 else ""


def _exact(value: float) -> str:
    """Return an amount to the digit, and as people read it where that is shorter."""
    exact = f"{value:,.10g}" if value % 1 else f"{int(value):,}"
    return f"{exact} ({show(value)})" if value >= 1000 else exact


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _times(before: float, after: float) -> float:
    return before / after if after else 1.0
