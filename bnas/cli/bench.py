"""`bnas bench`: a packed network, or a run -> its time, size and memory beside those of other runtimes."""

import json
import platform
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from bnas.cli.out import say_loading
from bnas.trust import TRUST

BATCHES = (1, 32)


def bench_command(
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_RUN", help="A packed network, its folder, or a run.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads for each runtime.")] = 1,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds for each table of times.")] = 5,
    compiled: Annotated[bool, typer.Option(help="Let torch compile too, which takes a minute.")] = False,
    trust: Annotated[bool, typer.Option(help=TRUST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a packed network beside torch, onnxruntime and OpenVINO, as far as they are installed.

    All compute the same images in turn, in one run; what is counted and what is measured stand in columns of their own.

    Example: bnas bench packed/network.bnas --threads 2
    """
    say_loading("bench")
    from bnas.runtime.file import encoded
    from bnas.ship.measuring import packed_from

    program, card = packed_from(source, trust=trust)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.bnas"
        file.write_bytes(encoded(program, card))
        found = _measured(program, file, threads=threads, seconds=seconds, compiled=compiled)
    if as_json:
        print(json.dumps(found))
    else:
        _print(found)


def _measured(program: Any, file: Path, *, threads: int, seconds: float, compiled: bool) -> dict[str, Any]:
    import numpy as np

    from bnas.runtime import Network
    from bnas.runtime.cpu import cpu
    from bnas.ship.measuring import layers_of, peak_bytes, seconds_of
    from bnas.ship.rivals import Missing, rivals

    rows: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for batch in BATCHES:
        images = np.random.default_rng(0).standard_normal((batch, *program.input)).astype(np.float32)
        runs = {}
        for rival in rivals(program, images, threads=threads, compiled=compiled):
            if isinstance(rival, Missing):
                missing[rival.name] = rival.why
            else:
                runs[rival.name] = rival.run
        logits = {name: run() for name, run in runs.items()}
        size = np.abs(logits["packed"]).max()
        for name, taken in seconds_of(runs, seconds=seconds).items():
            row = rows.setdefault(name, {})
            row |= {f"milliseconds_{batch}": 1e3 * taken, f"images_a_second_{batch}": batch / taken}
            row["apart"] = max(row.get("apart", 0.0), float(np.abs(logits[name] - logits["packed"]).max() / size))
    for name in ("packed", "torch float32"):
        rows[name]["peak_bytes"] = peak_bytes(name, file)
    layers = layers_of(Network(program, threads=1))
    return {
        "machine": f"{platform.machine()}, {cpu()}", "threads": threads, "file_bytes": file.stat().st_size,
        "runtimes": rows, "missing": missing, "layers": [layer._asdict() for layer in layers],
    }  # fmt: skip


def _print(found: dict[str, Any]) -> None:
    from bnas.cli.columns import aligned

    one, many = BATCHES
    print(f"{found['machine']}; threads {found['threads']}; packed file {found['file_bytes']:,} bytes")
    print("measured, medians of interleaved runs; apart: largest difference of logits from the packed ones'\n")
    heads = (
        "runtime",
        f"ms, batch {one}",
        f"ms, batch {many}",
        f"images/s, {many}",
        "against packed",
        "peak MiB",
        "apart",
    )
    rows: list[tuple[str, ...]] = [heads]
    packed = found["runtimes"]["packed"]
    for name, row in found["runtimes"].items():
        peak = f"{row['peak_bytes'] / 2**20:.0f}" if "peak_bytes" in row else ""
        rows.append((
            name, f"{row[f'milliseconds_{one}']:.3f}", f"{row[f'milliseconds_{many}']:.2f}",
            f"{row[f'images_a_second_{many}']:.0f}",
            f"{row[f'milliseconds_{one}'] / packed[f'milliseconds_{one}']:.2f}x", peak, f"{row['apart']:.1e}",
        ))  # fmt: skip
    print(*aligned(rows, to_the_left=1), sep="\n")
    for name, why in found["missing"].items():
        print(f"{name}: {why}")
    print("\npacked, pass by pass, batch 1, one thread")
    table: list[tuple[str, ...]] = [("pass", "in", "out", "counted BOPs", "counted FLOPs", "measured us")]
    for layer in found["layers"]:
        counted = (f"{layer['bops']:,}" if layer["bops"] else "", f"{layer['flops']:,}" if layer["flops"] else "")
        table.append((layer["what"], layer["input"], layer["output"], *counted, f"{layer['microseconds']:.1f}"))
    print(*aligned(table, to_the_left=3), sep="\n")
