"""`bnas export`: a finished run -> a folder to train, or to ship, from."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bnas.cli.out import say_loading
from bnas.trust import TRUST


def export_command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished search or training, or of a fine-tuned selection.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    to: Annotated[
        str,
        typer.Option(
            help="training: plain torch files, weights, recipe, proof. packed: one file in bits, to run. "
            "onnx, qonnx: for runtimes of others. c: one C99 file."
        ),
    ] = "training",
    for_: Annotated[
        str | None,
        typer.Option("--for", help="A variant of the target: size of onnx; finn, hls4ml of qonnx; words32 of c."),
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option("--id", help="A candidate of a search, by the first digits of its id.  [default: the best]"),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the folder as JSON.")] = False,
) -> None:
    """Hand the network of a run over, reloaded and compared before it is called done.

    Example: bnas export runs/digits --to training -o handover
    """
    say_loading("export")
    from bnas.api import export
    from bnas.cli.stop import ending_at_once
    from bnas.runs.saved_network import MANIFEST

    with ending_at_once():
        folder = export(run, to=to, for_=for_, out=out, candidate=candidate, trust=trust)
    needs = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("needs", [])
    if as_json:
        print(json.dumps({"export": str(folder), "needs": needs}))
    else:
        print(folder, *[f"needs {package}" for package in needs], sep="\n")
