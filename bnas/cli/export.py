"""`bnas export`: a finished run -> a folder to train, or to ship, from."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bnas.cli.out import say_loading
from bnas.trust import TRUST


def export_command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished search or training, or of a fine-tuned selection.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    to: Annotated[
        str,
        typer.Option(
            help="training: plain torch files, weights, recipe, proof. packed: one bit-packed file, to "
            "run. onnx, qonnx: for third-party runtimes. c: one C99 file."
        ),
    ] = "training",
    for_: Annotated[
        str | None,
        typer.Option("--for", help="A variant of the target: size of onnx; finn, hls4ml of qonnx; words32 of c."),
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option("--id", help="A candidate of a search, by the first digits of its id.", show_default="the best"),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the folder, and its proof, as JSON.")] = False,
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
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if as_json:
        kept = {key: manifest[key] for key in ("reload", "packed", "onnx", "c") if key in manifest}
        print(json.dumps({"export": str(folder), "needs": manifest.get("needs", [])} | kept))
    else:
        print("\n".join(_said(folder, manifest)))


def _said(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the folder, what lies in it, what that takes on a device, and how it was proved."""
    yield str(folder)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield f"  {file.relative_to(folder)}, {file.stat().st_size:,} bytes"
    if found := manifest.get("c"):
        yield f"takes {found['flash_bytes']:,} bytes of flash for constants, and {found['ram_bytes']:,} of static RAM"
    proof = manifest.get("reload")  # an exporter of a user's may say something else there
    if isinstance(proof, dict) and "why" in proof:
        yield f"NOT run: {proof['why']}"
    if isinstance(proof, dict) and "max_difference" in proof:
        yield f"proved: {_proof(proof)}"
    for package in manifest.get("needs", []):
        yield f"needs {package}"


def _proof(found: Mapping[str, Any]) -> str:
    """Say what was compared, and how far apart it was."""
    apart = f"logits at most {found['max_difference']:.1e}"
    if "same_class" in found:
        same = f"{found['same_class']} of {found['images']} {found['images_from']} get the same class"
        return f"{same}, {apart} of the largest apart"
    return f"reloaded, it answers {found['images']} drawn images alike, {apart} apart"
