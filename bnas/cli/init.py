"""`bnas init`: a data set, a budget and a time -> a commented space to begin with."""

import json
import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from bnas.cli.out import DATA_HELP, DEVICE, KNOWN_DATA, one_of
from bnas.errors import ShapeError
from bnas.spec import shown

_SIZE = re.compile(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?")

EXAMPLE = """
Example: bnas init --data photos --budget ops=400k --minutes 10 -o space.yaml, then
bnas search space.yaml --data photos
"""


def init_command(
    data: Annotated[str, typer.Option(help=DATA_HELP, autocompletion=one_of(KNOWN_DATA))],
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="ops=3M, bytes=20k, ...; repeatable, as `bnas search` takes it.", show_default="by the images"
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time limit of the search on this machine.", show_default="suited to the number of images"),
    ] = None,
    deploy: Annotated[
        str | None, typer.Option(help="c, finn, hls4ml or packed: write only what this target takes.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Height and width to bring images to, as 64x64.", show_default="a sensible one")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="YAML file to write.")] = Path("space.yaml"),
    device: Annotated[str | None, DEVICE] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a space for your images, with a remark on each choice."""
    from bnas.api.first_space import first_space

    made = first_space(
        data, budget=budget, minutes=minutes, deploy=deploy, size=_sides(size), out=out, device=device, progress=False
    )
    if as_json:
        limits = made.space.search.budget
        print(json.dumps({"space": str(out), "networks": made.space.size, "budget": limits, "minutes": made.minutes}))
        return
    print(f"{out}: {made.space.size:,} networks")
    print(f"next: bnas search {shlex.quote(str(out))} --data {shlex.quote(data)}")


def _sides(text: str | None) -> tuple[int, int] | None:
    """Return height and width of what `--size` says, one number standing for both."""
    if text is None:
        return None
    sides = _SIZE.fullmatch(text)
    if not sides:
        raise ShapeError(f"--size: {shown(text)} is no height and width of images; write them as in 64x64")
    return int(sides[1]), int(sides[2] or sides[1])


init_command.__doc__ = f"{init_command.__doc__}\n{EXAMPLE}"
