"""The folder of a selection -> the names in it, and the run in which its network was fine-tuned."""

import os
from pathlib import Path
from typing import Any

from bnas.errors import RunError
from bnas.runs.documents import settings_of
from bnas.runs.saved_network import ARCHITECTURE

DECISIONS, LAYERS, NETWORKS, CURVE = "selection.yaml", "layers.csv", "networks.csv", "curve.csv"
FIGURES, PAGE = "figures", "report.html"
FINETUNED, SELECTED = "finetuned", "selected"  # the runs; the one of the network that was selected
_BEST_DESCRIPTION = Path("best", ARCHITECTURE)


def run_in(folder: Path) -> Path:
    """Return the run folder that a person means: the folder itself, or in that of a selection its fine-tuned network's.

    Raises:
        RunError: the network of the selection was not fine-tuned, or the selection was edited after that.
    """
    if not os.path.isfile(folder / DECISIONS):  # false of a name that is too long, too
        return folder
    run = folder / FINETUNED / SELECTED
    if not run.is_dir():
        raise RunError(
            f"{folder}: holds a selection whose network was not trained; run bnas train {folder / DECISIONS} --data D "
            "--out RUN, then give RUN, or select again with --finetune EPOCHS"
        )
    if edited := _edited(folder / DECISIONS, run / _BEST_DESCRIPTION):
        raise RunError(
            f"{folder}: {DECISIONS} was edited after its network was trained ({edited}); select again with "
            f"--selection {folder / DECISIONS} --finetune EPOCHS -o DIR, or give {run} for the network of before"
        )
    return run


def _edited(selection: Path, trained: Path) -> str:
    """Return what a selection says otherwise than the network that was trained for it: a layer, or the binarizers."""
    if not trained.is_file():
        return ""
    now, then = (
        settings_of(path.read_bytes(), path, hint="put it back, or select again") for path in (selection, trained)
    )
    if now.get("binarizers") != then.get("binarizers"):
        return "binarizers"
    layers, before = (settings.get("layers") or {} for settings in (now, then))
    return next((name for name in layers | before if _said(layers.get(name)) != _said(before.get(name))), "")


def _said(decision: dict[str, Any] | None) -> tuple[Any, Any]:
    """Return a precision, and whether a norm stands before the sign of a binary input."""
    precision = (decision or {}).get("precision", "real")
    return precision, precision == "binary" and (decision or {}).get("norm", True)
