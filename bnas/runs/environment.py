"""The machine and the libraries -> what has to be known to repeat a run."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

_LIBRARIES = ("bnas", "torch", "optuna", "numpy", "pandas", "safetensors")


def environment() -> dict[str, Any]:
    """Return versions, platform, CPU count and threads; nothing that names the user or holds a secret."""
    return {
        "python": platform.python_version(),
        **{library: _version(library) for library in _LIBRARIES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
