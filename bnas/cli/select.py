"""`bnas select`: a float model, data and a limit -> which layers may go to one bit, and what that saves."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bnas.amounts import percent, show
from bnas.cli.apart import apart, warnings_at_once
from bnas.cli.columns import aligned
from bnas.cli.out import DATA, DEVICE, NORMALISE, image_shape, say_loading
from bnas.cost.totals import NOT_COUNTED
from bnas.errors import LookupFailed
from bnas.select import GAMMA, METHODS, METRICS, Decisions, Rules
from bnas.select.decide import check_asked
from bnas.select.metrics import ERROR_MEANT, PRECISION_MEANT, metric_meant
from bnas.space.arch import Binarizers
from bnas.spec import parse
from bnas.trust import TRUST, check_code, names_code

EXAMPLE = """
Examples: bnas select my_model.py:build --weights trained.safetensors --data cifar10 --budget ops=25% -o picked;
edit picked/selection.yaml; bnas select my_model.py:build --data cifar10 --selection picked/selection.yaml -o mine

Weights get one bit; the metric decides which layers keep real inputs. Four rules come first: frozen layers and the
first one stay real, the last keeps a real input, and so do 1x1 convolutions that downsample.

Given back, a selection brings the weights and the input that it was made with; --weights and --input say otherwise.

The order of the paper, which measures errors on the trained binary network: bnas select MODEL --data D --ratio 0
--finetune 30 -o first; bnas select MODEL --data D --ratio 0.3 --measured-on first/finetuned/all-binary -o picked
"""

_DECIDES = ("metric", "method", "gamma", "measured_on")
_DESCRIBES = ("frozen", "first", "last", "downsample", "include", "exclude", "binarizer", "pad_value")
BLIND = "; BLIND: its binary input is the same for every image"
NOT_WITH = {  # an option -> those that would change nothing beside it
    "selection": ("keep", "preset", "budget", "ratio", *_DECIDES, *_DESCRIBES),
    "preset": ("keep", "method"),
    "keep": ("method",),
}


def select_command(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a reference network, file.py:attr or pkg.mod:attr.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    data: Annotated[str, DATA] = "digits",
    budget: Annotated[
        list[str] | None, typer.Option(help="ops=25% of the real network, ops=3M, bytes=20k; repeatable.")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Share of the layers, after the first, that may keep real inputs.")
    ] = None,
    metric: Annotated[str, typer.Option(help=f"{', '.join(METRICS)}, or pkg.mod:attr.")] = "product",
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}, or pkg.mod:attr.")] = "knapsack",
    gamma: Annotated[float, typer.Option(help="Weight of low cost against error, for metric hybrid.")] = GAMMA,
    measured_on: Annotated[
        Path | None,
        typer.Option(
            help="Run folder of the trained binary network to measure errors on.", show_default="the float model"
        ),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Layers that keep real inputs, in place of a method; repeatable.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Published choice of a reference network: hybrid, hybrid-last, binary.")
    ] = None,
    selection: Annotated[Path | None, typer.Option(help="An edited selection.yaml, taken as it is.")] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Layers that the rules do not hold for: a path or a pattern.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Layers that stay real: a path or a pattern.")] = None,
    frozen: Annotated[
        str, typer.Option(help="Layers with requires_grad=False: real, weight, binary, or free.")
    ] = "real",
    first: Annotated[str, typer.Option(help="First layer: real, weight, binary, or free.")] = "real",
    last: Annotated[str, typer.Option(help="Last layer: real, weight, binary, or free.")] = "weight",
    downsample: Annotated[str, typer.Option(help="1x1 downsampling: real, weight, binary, or free.")] = "weight",
    weights: Annotated[Path | None, typer.Option(help="Trained weights: safetensors, or a torch state dict.")] = None,
    binarizer: Annotated[str, typer.Option(help="Weight binarizer: xnor, alpha_beta, ...")] = "xnor",
    pad_value: Annotated[int, typer.Option(help="Padding value around binary inputs: -1, 0 or 1.")] = 0,
    shape: Annotated[
        str | None, typer.Option("--input", help="Resize images, as 3x224x224.", show_default="as the data has them")
    ] = None,
    normalise: Annotated[str | None, NORMALISE] = None,
    images: Annotated[int, typer.Option(help="Training images to measure errors on.")] = 256,
    finetune: Annotated[
        int | None, typer.Option(min=0, help="Epochs to train for, to compare accuracies; 0: before training only.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")] = 0,
    device: Annotated[str | None, DEVICE] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Choose which layers of a float model go to one bit, and say why; the result can be edited and given back."""
    _refuse(ctx)
    if not (keep or preset or selection or budget or ratio is not None):
        raise typer.BadParameter("give a limit, as ops=25%, a --ratio, or what to --keep", param_hint="--budget")
    places = {"frozen": frozen, "first": first, "last": last, "downsample": downsample}
    rules = parse(Rules, places | {"include": include or [], "exclude": exclude or []}, source="select")
    binarizers = parse(Binarizers, {"weight": binarizer, "pad_value": pad_value}, source="select")
    resized = image_shape(shape)
    say_loading("select")
    from bnas.api.progress_bars import ProgressBars
    from bnas.api.selecting import review, select_layers  # torch is imported only when there is work for it
    from bnas.api.selecting_by_name import load_trained, select_model
    from bnas.cli.stop import Stop

    kept = _published(model, preset) if preset else keep
    with apart(), warnings_at_once(), ProgressBars() as watch, Stop(watch) as progress:
        if selection:
            decisions = Decisions.read(selection)
            check_code(decisions.binarizers, source=str(selection), trust=trust)
            choose = partial(review, decisions=decisions, progress=progress)
        else:
            check_asked(budget=budget, ratio=ratio, metric=metric, method=method)
            choose = partial(
                select_layers, budget=budget, ratio=ratio, keep=kept, metric=metric, method=method, gamma=gamma,
                rules=rules, binarizers=binarizers, progress=progress,
                measured_on=load_trained(measured_on, device=device, trust=trust) if measured_on else None,
            )  # fmt: skip
        result = select_model(
            model, choose, data=data, out=out, weights=str(weights) if weights else None,
            given=selection, input_shape=resized, normalise=normalise, images=images, finetune=finetune, seed=seed,
            device=device, progress=progress,
        )  # fmt: skip
    print(json.dumps(_summary(result)) if as_json else _said(result))


select_command.__doc__ = f"{select_command.__doc__}\n{EXAMPLE}"


def _refuse(ctx: typer.Context) -> None:
    """Raise where an option was given that another one leaves without an effect.

    Raises:
        BadParameter: says both.
    """
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    given = {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}
    for name, others in NOT_WITH.items():
        if name in given and (idle := given.intersection(others)):
            names = ", ".join(sorted(f"--{other.replace('_', '-')}" for other in idle))
            raise typer.BadParameter(
                f"says what to decide, so that it does not go with {names}", param_hint=f"--{name}"
            )


def _published(model: str, preset: str) -> tuple[str, ...]:
    """Return the layers that keep real inputs in a published choice."""
    from bnas.networks.models import MODELS

    known = (
        {name: kept for name, kept in MODELS[model].presets.items() if name not in ("real", "weight")}
        if model in MODELS
        else {}
    )
    if preset not in known:
        has = f"choose from {', '.join(known)}" if known else "it has none; name the layers with --keep"
        raise LookupFailed(f"preset {preset!r}: {model} has no such choice; {has}")
    return tuple(known[preset])


def _summary(result: Any) -> dict[str, Any]:
    """Return the selection for machines."""
    chosen = result.selection
    return {
        "folder": str(result.folder), "metric": chosen.metric, "kept": list(chosen.kept), "cost": chosen.cost.as_dict(),
        "layers": chosen.rows(), "networks": result.networks, "float_model": result.standing.as_dict(),
    }  # fmt: skip


def _said(result: Any) -> str:
    """Return the layers, the networks to compare with, and where all lies."""
    chosen, folder = result.selection, result.folder
    file = folder / "selection.yaml"
    trusting = " --trust" if names_code(Decisions.read(file)) else ""
    in_python = f"{str(file)!r}, trust=True" if names_code(chosen.decisions.binarizers) else repr(str(file))
    is_tuned = any("finetuned" in row for row in result.networks)
    held_out = f"{percent(result.standing.accuracy)} of {result.standing.guessing.images} held-out images"
    note = "real is the model as it was given: it is not trained further, and has the same accuracy before and after"
    return "\n".join([
        *aligned(_layer_rows(chosen.rows(), chosen.metric), to_the_left=(0, 4, 5)),
        *_legend(chosen),
        "",
        *aligned(_network_rows(result.networks), to_the_left=1),
        *([note] if is_tuned else []),
        "",
        f"{len(chosen.kept)} of {len(chosen.free)} layers with a choice keep real inputs; {NOT_COUNTED}",
        f"the float model gets {held_out} right; if it should be more, it knows them normalised otherwise",
        f"to edit:    {file}, then give it back with --selection",
        f"to look at: {folder / 'report.html'}, {folder / 'layers.csv'}, {folder / 'networks.csv'}",
        f"to train:   bnas train {file} --data D{trusting}, or in Python: bnas.convert(model, {in_python})",
        *([f"to ship:    bnas export {folder} --to training -o DIR{trusting}"] if is_tuned else []),
    ])  # fmt: skip


def _legend(chosen: Any) -> list[str]:
    """Return what the columns of the layers are, and what is put into the model."""
    lines = [f"error: {ERROR_MEANT}"]
    if metric := chosen.metric:
        lines.append(f"{metric}: {metric_meant(metric)}")
    if normed := sum(row["precision"] == "binary" and row["norm"] for row in chosen.rows()):
        lines.append(f"{normed} binary inputs get a batch norm before their sign; `norm: false` leaves it out")
    return lines


def _layer_rows(rows: list[dict[str, Any]], metric: str) -> list[Sequence[str]]:
    heads: Sequence[str] = ("layer", "share of MACs", "error", metric or "metric", "decision", "why")
    return [heads] + [
        (
            row["layer"] or "(itself)", percent(row["share"]), _number(row.get("error")), _number(row["metric"]),
            PRECISION_MEANT[row["precision"]], row["why"] + (BLIND if _is_blind(row) else ""),
        )
        for row in rows
    ]  # fmt: skip


def _is_blind(row: dict[str, Any]) -> bool:
    return row["precision"] == "binary" and row.get("constant_signs") == 1


def _network_rows(networks: list[dict[str, Any]]) -> list[Sequence[str]]:
    """Return the networks with their costs, and with their accuracies where they were measured."""
    heads = ["network", "ops", "of real", "BOPs", "FLOPs", "bytes", "of real", "weights"]
    measured = {"accuracy": "validation", "finetuned": "fine-tuned", "finetuned_test": "test, fine-tuned"}
    shown = [name for name in measured if any(name in row for row in networks)]
    rows: list[Sequence[str]] = [[*heads, *(measured[name] for name in shown)]]
    for row in networks:
        rows.append([
            row["network"], show(row["ops"]), percent(row["ops_share"]), show(row["bops"]), show(row["flops"]),
            show(row["bytes"]), percent(row["bytes_share"]), f"{row['weight_saving']:.1f}x smaller",
            *(percent(row[name]) if name in row else "" for name in shown),
        ])  # fmt: skip
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
