"""`bnas search`: a space, a data set and a budget -> the best network, trained alone and explained."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from bnas.amounts import percent, show
from bnas.cli.columns import aligned
from bnas.cli.out import AUGMENT, DATA_HELP, DEVICE, KNOWN_DATA, named_after, one_of, say_loading
from bnas.cost.totals import NOT_COUNTED
from bnas.space.shipped import SPACES, space_file
from bnas.space.space import SearchSpace
from bnas.trust import TRUST, names_code

EXAMPLE = """
Example: bnas search digits --data digits --budget ops=60k --budget bytes=20k --out runs/first

The same command resumes an interrupted run.
"""

# Said here too, as the tables themselves load torch and optuna, which a shell that completes must not wait for.
SAMPLERS_KNOWN = ("evolution", "nsga2", "tpe", "random")
ENGINES_KNOWN = ("in-process", "processes", "ray")


def search_command(
    space: Annotated[
        str | None,
        typer.Argument(
            help=f"YAML file of the space, or one of ours: {', '.join(SPACES)}.",
            show_default=False,
            autocompletion=one_of(SPACES),
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help=DATA_HELP, show_default="digits, or that of --from", autocompletion=one_of(KNOWN_DATA)),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="ops=3M, bytes=20k, bops=..., flops=..., activation_bytes=..., latency_ms=2; repeatable; 1M..3M for "
            "a range. The space's limits of other quantities stay; bytes=none lifts one."
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="A budget, as ops=100k,bytes=20k; repeated, one supernet is searched for each."),
    ] = None,
    supernet_of: Annotated[
        Path | None,
        typer.Option("--from", help="Run folder whose trained supernet is searched again."),
    ] = None,
    deploy: Annotated[
        str | None,
        typer.Option(
            help="c, finn, hls4ml or packed: propose only what this target takes.", show_default="the space's"
        ),
    ] = None,
    start_with: Annotated[
        list[Path] | None,
        typer.Option(help="YAML of an architecture that is scored first and trained alone in the end; repeatable."),
    ] = None,
    latency: Annotated[
        Path | None,
        typer.Option(help="File of `bnas latency-table`, for a budget of latency_ms=..."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Candidates to score; the random twin scores as many. More extend a finished run."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time limit: epochs and trials of the space are scaled to fit, from measured speed."),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(SAMPLERS_KNOWN)}, or pkg.mod:attr, file.py:attr.", autocompletion=one_of(SAMPLERS_KNOWN)
        ),
    ] = None,
    augment: Annotated[str | None, AUGMENT] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="The same seed gives the same result.", show_default="0, or that of --from"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.", show_default="runs/NAME-OF-SPACE")] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="How many of the best to train individually, and as many of the twin's.")
    ] = None,
    final_on_all: Annotated[
        bool,
        typer.Option(
            "--final-on-all", help="Train the winner once more when it is chosen, on the held-out images too."
        ),
    ] = False,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL.", show_default="SQLite in the run folder")
    ] = None,
    device: Annotated[str | None, DEVICE] = None,
    engine: Annotated[
        str,
        typer.Option(
            help=f"Where candidates are scored: {', '.join(ENGINES_KNOWN)}.", autocompletion=one_of(ENGINES_KNOWN)
        ),
    ] = "in-process",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Workers that score at the same time.", show_default="one a GPU, or one a core"),
    ] = None,
    lease: Annotated[
        float, typer.Option(help="Seconds that a worker may take for a candidate before it is replaced.")
    ] = 600.0,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Address of a running Ray cluster.", show_default="one on this machine, for it alone"),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of a space, for editors.")] = False,
) -> None:
    """Find the best binary network of a space under a budget, train it alone, and explain it."""
    if schema:
        print(json.dumps(SearchSpace.model_json_schema(), indent=2))
        return
    if space is None and supernet_of is None:
        raise typer.BadParameter(f"give the YAML file of a space, or one of {', '.join(SPACES)}", param_hint="SPACE")
    if supernet_of and not out:
        raise typer.BadParameter("give the folder of the new run, beside that of --from", param_hint="--out")
    several = bool(target or (space and not supernet_of and SearchSpace.read(space_file(space)).search.targets))
    if several:
        _check_several(budget, minutes, supernet_of)
    say_loading("search")
    from bnas.api import search  # torch is imported only when there is work for it
    from bnas.api.many_budgets import search_targets
    from bnas.api.progress_bars import ProgressBars
    from bnas.cli.ranks import leading
    from bnas.cli.stop import Stop
    from bnas.searcher.executors.engine import Engine

    where = Path(space) if space else Path(str(supernet_of)) / "space.yaml"
    crew = Engine(engine, workers=workers, lease_seconds=lease, ray_address=ray_address)
    asked: dict[str, Any] = {
        "data": _asked(data, supernet_of, "data", "digits"),
        "out": out or named_after(space or where.parent),
        "trials": trials, "sampler": sampler, "top": top, "deploy": deploy, "start_with": start_with or (),
        "augment": augment, "latency": latency, "final_on_all": final_on_all or None,
        "storage": storage, "device": device, "engine": crew, "trust": trust,
        "seed": _asked(seed, supernet_of, "seed", 0),
    }  # fmt: skip
    with leading() as ranks, ProgressBars() as watch, Stop(watch) as progress:
        found: Any
        if several:
            found = search_targets(
                where, [each.split(",") for each in target] if target else None, progress=progress, ranks=ranks, **asked
            )
        else:
            found = search(
                where, budget=budget, minutes=minutes, supernet_of=supernet_of, progress=progress, ranks=ranks, **asked
            )
    _show(found, as_json)


def _check_several(budget: list[str] | None, minutes: float | None, supernet_of: Path | None) -> None:
    """Raise BadParameter for what does not go with several targets."""
    if budget:
        raise typer.BadParameter(
            "targets are budgets of their own; give either these or one budget", param_hint="--budget"
        )
    if minutes is not None:
        raise typer.BadParameter("time is given to a search under one budget", param_hint="--minutes")
    if supernet_of:
        raise typer.BadParameter("a supernet is searched again under one budget; give --budget", param_hint="--target")


def _asked(given: Any, run: Path | None, key: str, usual: Any) -> Any:
    """Return what is given, else what a run that is searched again was asked, as its supernet knows these images."""
    if given is not None or run is None:
        return usual if given is None else given
    from bnas.runs import Run
    from bnas.runs.contents import IN_PYTHON

    value = Run.read(run).config[key]
    if str(value).endswith(IN_PYTHON):
        raise typer.BadParameter(
            f"the images of {run} were given in Python, as {value}; give them again in Python, "
            "bnas.search(..., supernet_of=...), or as files here",
            param_hint="--data",
        )
    return value


def _show(found: Any, as_json: bool) -> None:
    from bnas.api.result import TargetResults

    if isinstance(found, TargetResults):
        show_targets(found, as_json)
    elif as_json:
        print(json.dumps(summary(found)))
    else:
        show_result(found)


def show_targets(found: Any, as_json: bool) -> None:
    """Print the winner of each budget, and where its run lies."""
    from bnas.report.targets_page import targets_table

    if as_json:
        print(json.dumps({"run": str(found.run.path), "targets": {t: summary(result) for t, result in found.items()}}))
        return
    _print_table("The winner of each budget, trained alone", targets_table(found.table))
    next_ = [f"next:   bnas export {shlex.quote(str(path))} --to training -o DIR" for path in found.folders.values()]
    print("\n".join([f"report: {found.run.report}", *next_]))


def summary(result: Any) -> dict[str, Any]:
    """Return what a machine wants to know of a finished search."""
    from bnas.report.final_training import FINAL

    manifest = result.best.manifest
    final = {FINAL: manifest[FINAL]} if FINAL in manifest else {}
    return {
        "run": str(result.run.path),
        "best": {key: manifest[key] for key in ("architecture_id", "accuracy", "cost", "budget")} | final,
        **({"teacher": manifest["teacher"]} if "teacher" in manifest else {}),
        "trials": result.run.config["trials"],
        "ledger": result.ledger,
        "front": json.loads(result.front.to_json(orient="records")),
        "finalists": json.loads(result.retrained.to_json(orient="records")),
    }


def show_result(result: Any) -> None:
    """Print the front, the retrained networks, the twin's best and where everything lies."""
    from bnas.report import front_table, retrained_table

    best, retrained = result.best.architecture.id, result.retrained
    front = front_table(result.front, best=best, retrained=list(retrained["id"]))
    _print_table("Pareto front over proxy loss and ops (shared weights, held-out training images)", front)
    _print_table("Trained alone (accuracy)", retrained_table(retrained, best=best))
    fates = result.ledger["search"]
    trusting = " --trust" if names_code(result.best.architecture) else ""
    print(
        f"{_taught(result.best)}{_beside_its_twin(result)}\n{_answer(result.best)}\n"
        f"proposed {fates['proposed']}: paid {fates['paid']}, over budget {fates['over_budget']} (free), "
        f"repeated {fates['repeated']} (free), failed {fates['failed']}\n{NOT_COUNTED}\n"
        f"report: {result.run.report}\nnext:   bnas export {shlex.quote(str(result.run.path))} --to training -o DIR"
        f"{trusting}"
    )


def _taught(best: Any) -> str:
    """Say on a line what taught the networks, where something did."""
    from bnas.report.final_training import teacher_accuracy

    teacher = best.manifest.get("teacher")
    return f"teacher: {teacher['model']}, {teacher_accuracy(teacher)}\n" if teacher else ""


def _answer(best: Any) -> str:
    """Say what was found, and where it is no better than guessing."""
    from bnas.data.facts import Guessing
    from bnas.report.final_training import final_sentence

    guessing = Guessing.known(best.manifest)
    remark = guessing.remark(best.accuracy) if guessing else ""
    price, final = best.cost, final_sentence(best.manifest)
    said = f"best: test accuracy {percent(best.accuracy)}{remark}, {show(price.ops)} ops, {show(price.bytes)} bytes"
    return f"{said}\n{final}" if final else said


def _beside_its_twin(result: Any) -> str:
    """Say how the search did beside random search at as many paid evaluations, and whether it ended early."""
    own, twin = (frame["proxy_loss"].dropna() for frame in (result.candidates, result.twin))
    number, trials = min(len(own), len(twin)), result.run.config["trials"]
    from bnas.report.tables import best_of_each

    fates = result.ledger["search"]
    tried = fates["paid"] + fates["failed"]
    early = f"\nended after {tried} of {trials} trials: nothing new inside the budget was left to propose"
    trained = best_of_each(result.retrained)
    alike = (
        f"\ntrained alike: best of the search {percent(trained['search'])}, "
        f"of the random twin {percent(trained['twin'])}"
        if {"search", "twin"} <= trained.keys() else ""
    )  # fmt: skip
    return (
        f"candidates are chosen by proxy loss; lowest after {number} paid evaluations {own[:number].min():.4f}; "
        f"random twin after as many {twin[:number].min():.4f}{early if tried < trials else ''}"
        f"{alike}"
    )


def _print_table(title: str, table: Any) -> None:
    print(f"{title}\n\n" + "\n".join(aligned([table.header, *table.rows], to_the_left=table.numbers_from)) + "\n")


search_command.__doc__ = f"{search_command.__doc__}\n{EXAMPLE}"
