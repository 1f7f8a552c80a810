"""The best network of a run -> C code, compiled where it can be and proved to give the same logits on real images."""

from pathlib import Path
from typing import Any

from bnas.errors import ExportError
from bnas.ship.c_code.compiler import FLAGS, find_compiler, run_code
from bnas.ship.c_code.header import SOURCE
from bnas.ship.c_code.text import code
from bnas.ship.packed import Ready, ready
from bnas.ship.training import TrainedNetwork


def export_c(best: TrainedNetwork, folder: Path, *, word_bits: int = 64) -> dict[str, Any]:
    """Write a C file and its header; return what the manifest is to say of them.

    Args:
        word_bits: 32 or 64, those of a word of bits.
    Raises:
        ExportError: a part of the network has no steps or cannot be had in C, or the code does not give the same
            logits; where there is no compiler, it is not run, and the manifest says so.
        SpecError: the manifest does not say what has to be known.
    """
    shipped = ready(best)
    made = code(shipped.program, shipped.card, word_bits=word_bits)
    for name, text in made.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    size = {"word_bits": word_bits, "flash_bytes": made.flash_bytes, "ram_bytes": made.ram_bytes}
    return {"c": {"files": sorted(made.files)} | size, "reload": _proof(shipped, folder)}


def _proof(shipped: Ready, folder: Path) -> dict[str, Any]:
    """Return how the code agrees with the network on pixels, or that it was not run, and why."""
    compiler, why = find_compiler()
    if not compiler:
        return {"run": False, "why": why, "batch_norm": shipped.norms}
    seen, pixels = shipped.on_pixels()
    ran = run_code(folder, pixels, command=(compiler, *FLAGS))
    if (ran.classes != ran.logits.argmax(1)).any():
        raise ExportError(f"{SOURCE}: returns another class than that of the largest logit; please report this")
    return {"run": True, "compiler": compiler} | seen.proof(ran.logits, where=SOURCE)
