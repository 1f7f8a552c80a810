"""What the tests of the run folder share: a run to open, things to save, processes to kill."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bnas.runs import Run

CONFIG: dict[str, Any] = {"seed": 0, "train": {"epochs": 3, "workers": 2}, "budgets": [["ops", 3e6]]}
SPACE = "classes: 10\nstages: [{width: [16, 32]}]  # two widths\n"
FORK = multiprocessing.get_context("fork")


def opened(path: Path, **changes: Any) -> Run:
    return Run.open(path, config=CONFIG | changes, space_yaml=SPACE, mutable=("train.workers", "device"))


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"conv.weight": torch.full((4, 3), float(value)), "optimizer.step": torch.tensor(float(value))}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def starts(target: Callable[..., None], *args: Any) -> Any:
    """Run a function in a process of its own, once it has said it is ready."""
    ready = FORK.Event()
    process = FORK.Process(target=target, args=(*args, ready), daemon=True)
    process.start()
    assert ready.wait(20)
    return process


def kill(process: Any) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()
