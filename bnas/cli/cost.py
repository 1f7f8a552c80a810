"""`bnas cost`: an architecture file or a model -> what each layer costs, the totals, and what was not counted."""

import csv
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from bnas.arch import Architecture
from bnas.cost import BOPS_PER_OP, NOT_COUNTED, Convention, Cost, by_stage, convention, cost, show
from bnas.errors import ShapeError, SpecError
from bnas.plan import PlannedLayer, plan
from bnas.spec import parse, read_yaml

EXAMPLE = """
Examples: bnas cost search_spaces/expert_net.yaml; bnas cost resnet18 --precision binary;
bnas cost my_model.py:build --input 3x224x224 --json
"""


class Counted(NamedTuple):
    """The layers of what the command was given."""

    source: str
    inputs: tuple[tuple[int, ...], ...]
    layers: tuple[PlannedLayer, ...]
    uncounted: tuple[str, ...] = ()


def cost_command(
    source: Annotated[
        str, typer.Argument(metavar="ARCH_OR_MODEL", help="architecture.yaml, a known model, or file.py:attr.")
    ],
    shape: Annotated[
        list[str] | None, typer.Option("--input", help="Shape of one image, as 3x224x224; repeat for several inputs.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="real, weight, binary, hybrid: of a known model.  [default: real]")
    ] = None,
    last: Annotated[str | None, typer.Option(help="real, weight, binary: of its classifier.  [default: real]")] = None,
    counting: Annotated[str, typer.Option("--convention", help="literature, larq or qonnx.")] = "literature",
    divisor: Annotated[int, typer.Option(help="BOPs taken for one op in the literature's convention.")] = BOPS_PER_OP,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one line of CSV for each layer.")] = False,
) -> None:
    """Count what a network costs: layer by layer, in total, and against float32."""
    if as_json and as_csv:
        raise typer.BadParameter("choose --json or --csv, not both", param_hint="--json")
    count = convention(counting, divisor=divisor)
    shapes = tuple(parse_shape(text) for text in shape or ())
    preset = {key: value for key, value in (("precision", precision), ("last", last)) if value is not None}
    planned = source.endswith((".yaml", ".yml"))
    if preset and (planned or ":" in source):
        raise typer.BadParameter(
            "only the known models have presets of precision", param_hint=f"--{next(iter(preset))}"
        )
    counted = _planned(source, shapes) if planned else _traced(source, shapes, preset)
    for line in counted.uncounted:
        print(f"not counted: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps(summary(counted, count)))
    elif as_csv:
        _print_csv(counted, count)
    else:
        _print_tables(counted, count)


cost_command.__doc__ = f"{cost_command.__doc__}\n{EXAMPLE}"


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the sides that `3x224x224` writes.

    Raises:
        ShapeError: not positive whole numbers with an x between them.
    """
    sides = text.lower().split("x")
    if not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise ShapeError(f"--input: {text!r} is not a shape; write channels x height x width, as in 3x224x224")
    return tuple(map(int, sides))


def _planned(source: str, shapes: tuple[tuple[int, ...], ...]) -> Counted:
    data = read_yaml(source)
    if isinstance(data, dict) and "search" in data:
        raise SpecError(f"{source}: holds a space; give one architecture, as best/architecture.yaml in a run folder")
    arch = parse(Architecture, data, source=source)
    if len(shapes) > 1:
        raise ShapeError(f"--input: an architecture takes one image, but {len(shapes)} shapes were given")
    if shapes and len(shapes[0]) != len(arch.input):
        raise ShapeError(f"--input: channels, height and width are needed, as in 3x224x224, but got {shapes[0]}")
    if shapes:
        arch = parse(Architecture, arch.model_dump(mode="json") | {"input": list(shapes[0])}, source="--input")
    return Counted(source, (arch.input,), plan(arch))


def _traced(source: str, shapes: tuple[tuple[int, ...], ...], preset: dict[str, Any]) -> Counted:
    from bnas.models import MODELS, build_model, load_model  # torch is imported only for a model
    from bnas.trace import trace

    if ":" not in source:
        model = build_model(source, **preset)
        shapes = shapes or (MODELS[source].input,)
    else:
        model = load_model(source)
    if not shapes:
        raise ShapeError(f"{source}: a model's cost depends on its input; add --input, as in --input 3x224x224")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the trace warns of is printed line by line
        traced = trace(model, shapes)
    return Counted(source, shapes, traced.layers, tuple(map(str, traced.uncounted)))


def summary(counted: Counted, count: Convention) -> dict[str, Any]:
    """Return everything that was counted, for machines."""
    whole = cost(counted.layers)
    return {
        "source": counted.source,
        "inputs": [list(shape) for shape in counted.inputs],
        "convention": {"name": count.name, "unit": count.unit, "formula": count.formula, "left_out": NOT_COUNTED},
        "total": _figures(whole, count),
        "stages": {name: _figures(part, count) for name, part in by_stage(counted.layers).items()},
        "layers": [_row(layer, count, whole) for layer in counted.layers],
        "not_counted": list(counted.uncounted),
    }


def _figures(part: Cost, count: Convention) -> dict[str, Any]:
    """Return every figure of a cost; `counted` is that of the convention."""
    return {
        "counted": count.figure(part),
        **part.as_dict(),
        "macs": part.macs,
        "parameters_by_bits": part.parameters_by_bits,
        "float32_bytes": part.float32_bytes,
        "saving": {"ops": _ratio(part.macs, part.ops), "bytes": _ratio(part.float32_bytes, part.bytes),
                   "weights": part.weight_saving},
    }  # fmt: skip


def _row(layer: PlannedLayer, count: Convention, whole: Cost) -> dict[str, Any]:
    """Return one layer as a flat row."""
    part = cost([layer])
    return {
        "name": layer.name, "role": layer.role, "kind": layer.kind, "precision": layer.precision,
        "in": _shape(layer.in_channels, layer.in_size), "out": _shape(layer.out_channels, layer.out_size),
        "kernel": "x".join(map(str, layer.kernel)), "stride": "x".join(map(str, layer.stride)),
        "groups": layer.groups, "experts": layer.experts, "macs": layer.macs, "counted": count.figure(part),
        "share": _ratio(count.figure(part), count.figure(whole)), **part.as_dict(),
    }  # fmt: skip


def _shape(channels: int, size: Sequence[int]) -> str:
    return "x".join(map(str, (channels, *size)))


def _ratio(value: float, to: float) -> float:
    return value / to if to else 0.0


def _print_csv(counted: Counted, count: Convention) -> None:
    whole = cost(counted.layers)
    rows = [_row(layer, count, whole) for layer in counted.layers]
    writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)


def _print_tables(counted: Counted, count: Convention) -> None:
    """Print the layers that count, the parts of the network, and the totals."""
    whole, stages = cost(counted.layers), by_stage(counted.layers)
    print(f"{counted.source} on {' and '.join(_shape(s[0], s[1:]) for s in counted.inputs)}\n")
    print("\n".join(_aligned(_layer_rows(counted, count, whole), to_the_left=8)))
    if len(stages) > 1:
        print("\n" + "\n".join(_aligned(_stage_rows(stages, count, whole), to_the_left=1)))
    print("\n" + "\n".join(_totals(counted, count, whole)))


def _totals(counted: Counted, count: Convention, whole: Cost) -> list[str]:
    bits = ", ".join(f"{show(n)} of {b} bit{'s' * (b > 1)}" for b, n in whole.parameters_by_bits.items() if n)
    beside = [layer for layer in counted.layers if not layer.macs]
    return [
        f"{count.unit} {_exact(count.figure(whole))}: {count.formula}; BOPs {_exact(whole.bops)}, "
        f"FLOPs {_exact(whole.flops)}",
        f"against float32: {show(whole.macs)} MACs, so {_ratio(whole.macs, whole.ops):.2f}x fewer ops",
        f"parameters {_exact(whole.parameters)}: {bits}",
        f"bytes {_exact(whole.bytes)}, of these {show(cost(beside).bytes)} in {len(beside)} layers without MACs; "
        f"as float32 {_exact(whole.float32_bytes)}, {_ratio(whole.float32_bytes, whole.bytes):.2f}x; "
        f"weights alone {whole.weight_saving:.2f}x",
        f"peak of activations {_exact(whole.activation_bytes)} bytes for one image, with what shortcuts hold",
        f"convention {count.name}: {NOT_COUNTED}",
    ]


def _layer_rows(counted: Counted, count: Convention, whole: Cost) -> list[Sequence[str]]:
    heads = ("layer", "role", "in", "out", "kernel", "groups", "experts", "precision")
    rows: list[Sequence[str]] = [(*heads, "MACs", f"share of {count.unit}", "bytes")]
    for layer in counted.layers:
        if layer.macs:
            row = _row(layer, count, whole)
            kernel = row["kernel"] + (f" s{layer.stride[0]}" if max(layer.stride) > 1 else "")
            rows.append((
                layer.name or "(itself)", layer.role if layer.role != "other" else layer.kind, row["in"], row["out"],
                kernel, _unless_one(layer.groups), _unless_one(layer.experts), layer.precision,
                show(layer.macs), f"{row['share']:.1%}", show(layer.bytes),
            ))  # fmt: skip
    return rows


def _stage_rows(stages: dict[str, Cost], count: Convention, whole: Cost) -> list[Sequence[str]]:
    figures = ("MACs", "BOPs", "FLOPs", count.unit, "parameters", "bytes", "peak activation bytes")
    rows: list[Sequence[str]] = [("part", f"share of {count.unit}", *figures)]
    for name, part in stages.items():
        counted = count.figure(part)
        numbers = (part.macs, part.bops, part.flops, counted, part.parameters, part.bytes, part.activation_bytes)
        rows.append((name or "(itself)", f"{_ratio(counted, count.figure(whole)):.1%}", *map(show, numbers)))
    return rows


def _aligned(rows: Sequence[Sequence[str]], *, to_the_left: int) -> Iterator[str]:
    """Return lines of even columns, a rule under the first; plain text, as a table of rich takes 0.2 s to draw."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = zip(row, widths, strict=True)
        yield "  ".join(c.ljust(w) if i < to_the_left else c.rjust(w) for i, (c, w) in enumerate(cells)).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)


def _unless_one(number: int) -> str:
    return str(number) if number > 1 else ""


def _exact(value: float) -> str:
    """Return an amount to the digit, and as people read it where that is shorter."""
    exact = f"{value:,.10g}" if value % 1 else f"{int(value):,}"
    return f"{exact} ({show(value)})" if value >= 1000 else exact
