"""`bnas cost`: a model, or a file that describes one -> what each layer costs, the totals, and what was not counted."""

import json
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bnas.cli.apart import apart
from bnas.cli.cost_output import Counted, Predicted, cost_summary, print_csv, print_tables
from bnas.cost.plan import plan
from bnas.cost.totals import BOPS_PER_OP, NANOSECONDS_PER_MS, Convention, convention
from bnas.errors import LookupFailed, ShapeError, SpecError
from bnas.space.arch import Architecture
from bnas.space.latency import LatencyTable, parts_of
from bnas.space.shipped import ARCHITECTURES
from bnas.space.space import SearchSpace
from bnas.spec import parse, read_yaml, shown
from bnas.trust import TRUST, check_code

EXAMPLE = """
Examples: bnas cost expert_net; bnas cost runs/digits; bnas cost resnet18 --precision binary;
bnas cost my_model.py:build --input 3x224x224 --json; bnas cost my_model.py:reads_words --input 128:int
"""

Shapes = tuple[tuple[int, ...], ...]

_SHAPE = re.compile(r"\d{1,9}(x\d{1,9})*", re.ASCII | re.IGNORECASE)
_WHOLE = ":int"  # behind the shape of an input of whole numbers


def cost_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ARCH_OR_MODEL",
            help="YAML of an architecture, the folder of a run, export or selection, a known model, file.py:attr.",
        ),
    ],
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="Shape of one image, as 3x224x224, or of whole numbers such as words, as 128:int; "
            "repeat for several inputs.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Preset of a known model: real, weight, binary; of some hybrid, hybrid-last.", show_default="real"
        ),
    ] = None,
    first: Annotated[
        str | None,
        typer.Option(
            help="Of its first layer: real, weight; of tfc, sfc and lfc binary too.", show_default="its paper's"
        ),
    ] = None,
    last: Annotated[
        str | None, typer.Option(help="Of its classifier: real, weight, binary.", show_default="its paper's")
    ] = None,
    counting: Annotated[str, typer.Option("--convention", help="literature, larq or qonnx.")] = "literature",
    divisor: Annotated[int, typer.Option(help="BOPs taken for one op in the literature's convention.")] = BOPS_PER_OP,
    candidate: Annotated[
        str | None, typer.Option("--id", help="A candidate of a search, in place of its best.")
    ] = None,
    latency: Annotated[
        Path | None,
        typer.Option(help="File of `bnas latency-table`, from which an architecture's latency is predicted."),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one line of CSV for each layer.")] = False,
) -> None:
    """Count what a network costs: layer by layer, in total, and against float32."""
    if as_json and as_csv:
        raise typer.BadParameter("choose --json or --csv, not both", param_hint="--json")
    count = convention(counting, divisor=divisor)
    texts = shape or []
    shapes = tuple(parse_shape(text.removesuffix(_WHOLE)) for text in texts)
    whole = tuple(text.endswith(_WHOLE) for text in texts)
    found = _in_folder(source, candidate)
    if isinstance(found, Architecture):
        found, source = _on_input(found, shapes), f"{source} {found.id}"
        return _show(_of_architecture(source, found, latency), count, as_json=as_json, as_csv=as_csv)
    source = found
    asked = {"precision": precision, "first": first, "last": last}
    preset = {key: value for key, value in asked.items() if value is not None}
    planned = source.endswith((".yaml", ".yml"))
    if preset and (planned or ":" in source):
        raise typer.BadParameter(
            "only the known models have presets of precision", param_hint=f"--{next(iter(preset))}"
        )
    if latency and not planned:
        raise typer.BadParameter("a table has parts of architectures, not of models", param_hint="--latency")
    counted = _of_file(source, shapes, trust, latency) if planned else _of_model(source, shapes, preset, whole)
    _show(counted, count, as_json=as_json, as_csv=as_csv)


cost_command.__doc__ = f"{cost_command.__doc__}\n{EXAMPLE}"


def _show(counted: Counted, count: Convention, *, as_json: bool, as_csv: bool) -> None:
    for line in counted.uncounted:
        print(f"not counted: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps(cost_summary(counted, count)))
    elif as_csv:
        print_csv(counted, count)
    else:
        print_tables(counted, count)


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the sides that `3x224x224` writes.

    Raises:
        ShapeError: not positive whole numbers with an x between them.
    """
    sides = tuple(map(int, text.lower().split("x"))) if _SHAPE.fullmatch(text) else (0,)
    if not all(sides):
        raise ShapeError(f"--input: {shown(text)} is not a shape; write channels x height x width, as in 3x224x224")
    return sides


def _in_folder(source: str, candidate: str | None) -> str | Architecture:
    """Return the file that describes the network of a folder or one of ours, or the candidate; others as they are."""
    if source in ARCHITECTURES and not candidate:
        return str(ARCHITECTURES[source])
    if not Path(source).is_dir():
        if candidate:
            raise typer.BadParameter(f"{source} is no run folder, which has candidates", param_hint="--id")
        return source
    if candidate:
        from bnas.api import candidate_of

        return candidate_of(source, candidate)
    from bnas.networks.models import MODELS
    from bnas.runs.saved_network import description_in

    return source if source in MODELS else str(description_in(source))  # a folder that happens to be called so


def _of_file(source: str, shapes: Shapes, trust: bool, latency: Path | None) -> Counted:
    """Count what a YAML file describes: an architecture without torch, a model by name or a converted one with it."""
    data = read_yaml(source)
    if isinstance(data, Mapping) and {"model", "layers", "held"} & data.keys():
        if latency:
            raise typer.BadParameter("a table has parts of architectures, not of models", param_hint="--latency")
        return _described(source, data, shapes, trust)
    return _of_architecture(source, _on_input(_architecture(source, data), shapes), latency)


def _of_architecture(source: str, arch: Architecture, latency: Path | None) -> Counted:
    """Count an architecture, and predict its latency where there is a table."""
    times = None if latency is None else LatencyTable.read(latency)
    predicted = None if times is None else Predicted(times.of(parts_of(arch)) / NANOSECONDS_PER_MS, times.machine)
    return Counted(source, (arch.input,), plan(arch), predicted=predicted)


def _on_input(arch: Architecture, shapes: Shapes) -> Architecture:
    """Return an architecture for images of another shape, where one is given."""
    if len(shapes) > 1:
        raise ShapeError(f"--input: an architecture takes one image, but {len(shapes)} shapes were given")
    if shapes and len(shapes[0]) != len(arch.input):
        raise ShapeError(f"--input: channels, height and width are needed, as in 3x224x224, but got {shapes[0]}")
    if shapes:
        return parse(Architecture, arch.model_dump(mode="json") | {"input": list(shapes[0])}, source="--input")
    return arch


def _architecture(source: str, data: object) -> Architecture:
    try:
        return parse(Architecture, data, source=source)
    except SpecError:
        if not _is_space(data):
            raise
    raise SpecError(f"{source}: holds a space; give one architecture, as best/architecture.yaml in a run folder")


def _is_space(data: object) -> bool:
    try:
        return (isinstance(data, Mapping) and "search" in data) or bool(parse(SearchSpace, data, source=""))
    except SpecError:
        return False


def _described(source: str, data: object, shapes: Shapes, trust: bool) -> Counted:
    from bnas.ship import parse_description, rebuild  # torch is imported only for a model

    described = parse_description(data, source=source)
    check_code(described, source=source, trust=trust)
    with warnings.catch_warnings(action="ignore"), apart():  # what the trace warns of is printed line by line
        return _traced(source, rebuild(described), shapes or (described.input,))


def _of_model(source: str, shapes: Shapes, preset: dict[str, Any], whole: tuple[bool, ...]) -> Counted:
    """Count a known model, or one of the user's own."""
    from bnas.networks.models import MODELS, build_model, unknown_model
    from bnas.networks.user_model import load_model  # torch is imported only for a model

    if source not in MODELS and ":" not in source:
        raise LookupFailed(unknown_model(source))
    with warnings.catch_warnings(action="ignore"), apart():
        if ":" in source:
            model = load_model(source)
        else:
            model = build_model(source, **preset)
            shapes = shapes or (MODELS[source].input,)
        if not shapes:
            raise ShapeError(f"{source}: a model's cost depends on its input; add --input, as in --input 3x224x224")
        return _traced(source, model, shapes, whole)


def _traced(source: str, model: Any, shapes: Shapes, whole: tuple[bool, ...] = ()) -> Counted:
    from bnas.cost.trace.trace_model import trace, whole_numbers

    like = [whole_numbers(shape) if is_whole else None for shape, is_whole in zip(shapes, whole, strict=False)]
    traced = trace(model, shapes, like=like)
    return Counted(source, shapes, traced.layers, traced.uncounted)
