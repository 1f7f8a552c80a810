"""`bnas train`: a model or an architecture, data and a recipe -> the trained network, proved and kept."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bnas.amounts import percent, show
from bnas.cli.out import AUGMENT, DATA, DEVICE, NORMALISE, image_shape, named_after, one_of, say_loading
from bnas.cost.totals import NOT_COUNTED
from bnas.space.shipped import RECIPES
from bnas.trust import TRUST

EXAMPLE = """
Example: bnas train lenet5 --weights group --data mnist --out runs/lenet

The same command resumes an interrupted run.
"""


def train_command(
    model: Annotated[
        str,
        typer.Argument(
            help="Reference network, file.py:attr or pkg.mod:attr, YAML of an architecture or selection, a run folder."
        ),
    ],
    data: Annotated[str, DATA] = "digits",
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(RECIPES)}, or a YAML file.", show_default="what suits", autocompletion=one_of(RECIPES)
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weight binarizer; without --precision every layer's weights are binary.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Preset of a reference network: real, weight, binary; of some hybrid, hybrid-last."),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="RUN/best, RUN/teacher or an export: teaches the first stage with distill.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of all stages together.", show_default="the recipe's")
    ] = None,
    validation: Annotated[
        float, typer.Option(help="Share of the training images held out, where there is no such split.")
    ] = 0.1,
    shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Resize images, as 3x32x32.",
            show_default="as MODEL's description says, else as the data has them",
        ),
    ] = None,
    normalise: Annotated[str | None, NORMALISE] = None,
    augment: Annotated[str | None, AUGMENT] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Run folder.", show_default="runs/MODEL")] = None,
    device: Annotated[str | None, DEVICE] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile with torch.compile; needs a C++ compiler.")
    ] = False,
    candidate: Annotated[
        str | None,
        typer.Option("--id", help="A candidate of a search, MODEL being its run folder, in place of its best."),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Train one network by a recipe, stage by stage, and keep it with a proof that it reloads."""
    say_loading("train")
    from bnas.api import candidate_of, train_model  # torch is imported only when there is work for it
    from bnas.api.progress_bars import ProgressBars
    from bnas.cli.ranks import leading
    from bnas.cli.stop import Stop

    folder = out or named_after(model)
    if Path(model).is_dir() and not out:
        raise typer.BadParameter("give a new run folder, beside the one that holds the network", param_hint="--out")
    with leading() as ranks, ProgressBars() as watch, Stop(watch) as progress:
        result = train_model(
            candidate_of(model, candidate) if candidate else model,
            data=data, recipe=recipe, weights=weights, precision=precision, teacher=teacher,
            epochs=epochs, validation=validation, input_shape=image_shape(shape), normalise=normalise, augment=augment,
            seed=seed, out=folder, device=device, compiled=compiled, trust=trust, progress=progress, ranks=ranks,
        )  # fmt: skip
    print(json.dumps(_summary(result)) if as_json else _said(result))


def _summary(result: Any) -> dict[str, Any]:
    manifest = result.manifest
    return {"run": str(result.run.path)} | {key: manifest[key] for key in ("accuracy", "cost", "epochs", "seed")}


def _said(result: Any) -> str:
    """Return the result as lines a person reads."""
    from bnas.data.facts import Guessing
    from bnas.report import load_line

    manifest = result.manifest
    accuracy, price = manifest["accuracy"], manifest["cost"]
    guessing = Guessing.known(manifest)
    remark = guessing.remark(accuracy["test"]) if guessing else ""
    gap = 100 * (accuracy["validation_soft"] - accuracy["validation"])
    return (
        f"test accuracy {percent(accuracy['test'])}{remark}, validation accuracy {percent(accuracy['validation'])} "
        f"(soft weights, before they are made binary: {gap:+.2f} points)\n"
        f"{show(price['ops'])} ops, {show(price['bytes'])} bytes of weights when packed; {NOT_COUNTED}\n"
        f"report: {result.run.report}\nload:   {load_line(result.run)}"
    )


train_command.__doc__ = f"{train_command.__doc__}\n{EXAMPLE}"
