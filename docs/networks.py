"""The reference networks, counted -> the table of `reference_networks.md`, made anew by `python docs/networks.py`.

What stands between `<!-- networks -->` and `<!-- end -->` is written. A test says whether it is what is counted.
"""

import re
from pathlib import Path

import torch

from bnas.amounts import show
from bnas.cost.totals import cost
from bnas.cost.trace.trace_model import trace
from bnas.networks.models import MODELS, build_model

PAGE = Path(__file__).parent / "reference_networks.md"
TABLE = re.compile(r"(<!-- networks -->\n).*?(<!-- end -->)", flags=re.DOTALL)
HEAD = (
    "| name | input | classes | presets | ops, bytes: `real` | `weight` | `binary` |\n|---|---|---|---|---|---|---|\n"
)


def counted(name: str, preset: str) -> str:
    """Return ops and bytes of a network in one of its presets; empty where it has no such one."""
    if preset not in MODELS[name].presets:
        return ""
    with torch.device("meta"):  # shapes alone: nothing is computed
        model = build_model(name, precision=preset)
    made = cost(trace(model, MODELS[name].input).layers)
    return f"{show(made.ops)}, {show(made.bytes)}"


def written(page: str) -> str:
    """Return a page with its table made anew."""
    rows = [
        (
            f"`{name}`", "x".join(map(str, known.input)), str(known.classes),
            ", ".join(f"`{preset}`" for preset in known.presets),
            *(counted(name, preset) for preset in ("real", "weight", "binary")),
        )
        for name, known in MODELS.items()
    ]  # fmt: skip
    lines = "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in rows)
    return TABLE.sub(lambda found: f"{found[1]}{HEAD}{lines}{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
