"""Python functions -> machine code for this CPU, kept in the user's cache folder so that it is made once."""

import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba
from numba import config

F = TypeVar("F", bound=Callable[..., Any])

COMPILED = (
    "chain",
    "codes",
    "compiled",
    "fused",
    "machine",
    "sources",
    "tiles",
    "vector",
)  # what machine code is made of
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def inlined(function: F) -> F:
    """Return a function that becomes a part of the one that calls it, which spares LLVM going over all below it."""
    made: F = numba.njit(inline="always", **OPTIONS)(function)
    return made


def inner(function: F, *, name: str = "") -> F:
    """Return a function that compiled code calls.

    Args:
        name: of its own, for a function made inside another: machine code is linked by names, and two of one name would
            be one.
    """
    if name:
        function.__name__ = function.__qualname__ = name
    made: F = numba.njit(**OPTIONS)(function)
    return made


def entry(function: F) -> F:
    """Return a function that Python calls with whole numbers; its machine code is kept, if it can be."""
    folder = cache_folder()
    if folder is None:
        return inner(function)
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)  # numba asks for it now, and no more
    try:
        made: F = numba.njit(cache=True, **OPTIONS)(function)
    finally:
        config.CACHE_DIR = before
    return made


def cache_folder() -> Path | None:
    """Return the folder for the machine code of these very sources, for this CPU; None where none can be written to."""
    folder = _user_folder() / "kernels" / _name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as problem:
        warnings.warn(
            f"{folder}: cannot be written ({problem.strerror}), so that packed networks are compiled anew in each "
            "process, which takes seconds; set BNAS_CACHE to a folder that can be written",
            stacklevel=2,
        )
        return None
    return folder


def cpu() -> str:
    """Return the name of this CPU, and what of its instructions matter here."""
    features = llvm.get_host_cpu_features()
    wanted = ("avx2", "fma", "avx512f", "avx512vpopcntdq", "neon", "sve")
    return " ".join([llvm.get_host_cpu_name(), *(name for name in wanted if features.get(name))])


def _user_folder() -> Path:
    told = os.environ.get("BNAS_CACHE")
    if told:
        return Path(told)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "bnas"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnas"


def _name() -> str:
    """Return a name that changes with everything that the machine code depends on."""
    parts = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in COMPILED]
    parts += [text.encode() for text in (numba.__version__, sys.version, cpu())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
