"""`bnas latency-table`: a space -> a file that says how long each part of its networks takes on this machine."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from bnas.amounts import percent
from bnas.cli.out import say_loading
from bnas.trust import TRUST

EXAMPLE = """
Example: bnas latency-table search_spaces/digits.yaml -o latency.yaml, then
bnas search search_spaces/digits.yaml --latency latency.yaml --budget latency_ms=0.03

The same command resumes an interrupted run.
"""


def latency_table_command(
    space: Annotated[Path, typer.Argument(help="YAML file of the space, or one of ours by name.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="YAML file to write, or to go on with.")],
    check: Annotated[
        int,
        typer.Option(
            min=0, help="Number of whole networks to measure and compare with their prediction: 0, or at least 2."
        ),
    ] = 20,
    trust: Annotated[bool, typer.Option("--trust", help=TRUST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure every part that networks of a space are made of, packed, one image at a time, on one thread."""
    if check == 1:
        raise typer.BadParameter("one network alone is in no order; give 0, or 2 and more", param_hint="--check")
    say_loading("latency-table")
    from bnas.api.latency import check_latency, latency_table
    from bnas.api.progress_bars import ProgressBars
    from bnas.cli.stop import Stop

    with ProgressBars() as watch, Stop(watch) as progress:
        table = latency_table(space, out=out, trust=trust, progress=progress)
        rows = check_latency(space, table, networks=check, trust=trust, progress=progress) if check else None
    known = {} if rows is None else _agreement(rows)
    if as_json:
        found = {"table": str(out), "machine": table.machine, "parts": len(table.nanoseconds)}
        print(json.dumps(found | known))
        return
    print(f"{out}: {len(table.nanoseconds)} parts, measured on {table.machine}")
    if known:
        rank = "none, for all are alike" if known["spearman"] is None else f"{known['spearman']:.3f}"
        print(
            f"{known['networks']} whole networks: half of them predicted within {percent(known['median_error'])} of "
            f"measured; rank correlation {rank}"
        )


def _agreement(rows: Any) -> dict[str, Any]:
    """Return how well whole networks are predicted."""
    apart = (rows["predicted_ms"] / rows["measured_ms"] - 1).abs()
    told_apart = rows["predicted_ms"].nunique() > 1 and rows["measured_ms"].nunique() > 1
    order = rows["predicted_ms"].corr(rows["measured_ms"], method="spearman") if told_apart else math.nan
    rank = None if math.isnan(order) else float(order)
    return {"networks": len(rows), "median_error": float(apart.median()), "spearman": rank}


latency_table_command.__doc__ = f"{latency_table_command.__doc__}\n{EXAMPLE}"
