"""A space -> a table of what each part of its networks takes on this machine; and how well it predicts whole ones."""

import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from torch import nn

from bnas.api.progress_bars import watched
from bnas.api.request import read_space
from bnas.errors import SpecError
from bnas.networks.build import build
from bnas.progress import Progress
from bnas.runs.files import check_own, replacing
from bnas.runtime import Network
from bnas.ship.latency import kernels, machine, measured, measured_ms
from bnas.ship.lowering import lower
from bnas.space.arch import Architecture
from bnas.space.latency import LatencyTable, parts_in, parts_of
from bnas.space.space import SearchSpace
from bnas.spec import dump

PHASE = "latency of parts"
SECONDS_BETWEEN_FILES = 2.0


def latency_table(
    space: str | Path | Mapping[str, Any] | SearchSpace,
    *,
    out: str | Path,
    trust: bool = False,
    progress: Progress | bool = True,
) -> LatencyTable:
    """Measure every part that networks of a space have, packed, on this machine; called again, it goes on.

    A file of another space on the same machine is added to. Nothing else should run meanwhile.

    Args:
        space: as in `search`.
        out: the YAML file; `search` takes it as `latency`.
        trust: run code that the space's file names.
        progress: as in `search`.
    Returns: what the file holds.
    Raises:
        SpecError: the file is that of another machine, or of other machine code; or it holds something else.
        RunError: it cannot be written.
    """
    parts, out = parts_in(read_space(space, trust=trust)), Path(out)
    check_own(out)
    table = _begun(out)
    with watched(progress) as tell:
        written, found = time.monotonic(), dict(table.nanoseconds)
        for done, part in enumerate(parts):
            tell(PHASE, done, len(parts))
            if str(part) in found:
                continue
            found[str(part)] = measured(part)
            if time.monotonic() - written > SECONDS_BETWEEN_FILES:
                _write(table.model_copy(update={"nanoseconds": found}), out)
                written = time.monotonic()
        tell(PHASE, len(parts), len(parts))
    whole = table.model_copy(update={"nanoseconds": found})
    _write(whole, out)
    return whole


def check_latency(
    space: str | Path | Mapping[str, Any] | SearchSpace,
    table: LatencyTable,
    *,
    networks: int = 20,
    seed: int = 0,
    trust: bool = False,
    progress: Progress | bool = True,
) -> pd.DataFrame:
    """Return of some networks, drawn from a space, what a table predicts and what they take here, in milliseconds.

    Raises:
        SpecError: the table is that of another machine, or lacks a part of the space.
    """
    checked, random = read_space(space, trust=trust), Random(seed)
    _check_place(table, "latency")
    rows = []
    with watched(progress) as tell:
        for number in range(networks):
            tell("predicted and measured", number, networks)
            arch = checked.architecture(checked.sample(random))
            network = Network(lower(build(arch).eval(), arch.input), threads=1)
            rows.append((arch.id, table.of(parts_of(arch)) / 1e6, measured_ms(network)))
        tell("predicted and measured", networks, networks)
    return pd.DataFrame(rows, columns=["id", "predicted_ms", "measured_ms"])


def is_of_here(table: LatencyTable) -> bool:
    """Whether a table was measured on this machine, with this machine code."""
    return (table.machine, table.kernels) == (machine(), kernels())


def latency_of(arch: Architecture, network: nn.Module, table: LatencyTable) -> dict[str, Any]:
    """Return what a manifest says of how long a network takes: as predicted, and where that is possible as measured."""
    found: dict[str, Any] = {"predicted_ms": table.of(parts_of(arch)) / 1e6, "machine": table.machine}
    if not is_of_here(table):
        return found | {"measured_ms": None, "why": f"this is another machine: {machine()}"}
    return found | {"measured_ms": measured_ms(Network(lower(network.eval(), arch.input), threads=1))}


def _begun(out: Path) -> LatencyTable:
    if not out.exists():
        return LatencyTable(machine=machine(), kernels=kernels(), nanoseconds={})
    table = LatencyTable.read(out)
    _check_place(table, str(out))
    return table


def _check_place(table: LatencyTable, where: str) -> None:
    if not is_of_here(table):
        raise SpecError(
            f"{where}: was measured on {table.machine} with kernels {table.kernels}, and this is {machine()} with "
            f"kernels {kernels()}; give a new file"
        )


def _write(table: LatencyTable, out: Path) -> None:
    with replacing(out) as temporary:
        temporary.write_text(dump(table), encoding="utf-8")
