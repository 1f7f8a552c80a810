"""The machine code that runs networks on this CPU: made once by numba, kept in the user's cache folder, and loaded.

Loading takes hundredths of a second; numba itself is imported only to make it.
"""

import ctypes
import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from bnas.runtime.cpu import cpu

MADE_OF = ("chain", "codes", "cpu", "fused", "jit", "machine", "sources", "tiles", "vector")
ARGUMENTS = 5  # of `machine.execute`
CODE, MARK = "kernels.o", "checked"

Execute = Callable[[int, int, int, int, int], int]


@cache
def execute() -> Execute:
    """Return `machine.execute` as machine code."""
    folder = cache_folder()
    content = None if folder is None else _kept(folder / CODE)
    if content is None:
        from bnas.runtime import machine
        from bnas.runtime.jit import machine_code

        name, code = machine_code(machine.execute, ARGUMENTS)
        content = name.encode() + b"\0" + code
        if folder is not None:
            _keep(folder / CODE, content)
    return _loaded(content)


@cache
def cache_folder() -> Path | None:
    """Return the folder for machine code of these very sources, for this CPU; None where none can be written to."""
    folder = _user_folder() / "kernels" / kernels_name()
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


def _keep(file: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, with its checksum."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # no other thread or machine has it
    with os.fdopen(handle, "wb") as written:
        written.write(hashlib.sha256(content).digest() + content)
    os.replace(temporary, file)


def _kept(file: Path) -> bytes | None:
    """Return what was kept; None if nothing was, or it is damaged."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def _loaded(content: bytes) -> Execute:
    """Return the function of a name and its object code."""
    name, _, code = content.partition(b"\0")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * ARGUMENTS)
    function = kind(engine.get_function_address(name.decode()))

    def run(head: int, images: int, logits: int, count: int, only: int) -> int:
        result, problem = ctypes.c_int64(), ctypes.c_void_p()
        function(ctypes.addressof(result), ctypes.addressof(problem), head, images, logits, count, only)
        return result.value

    run.engine = engine  # type: ignore[attr-defined]  # it holds the code, and must live as long
    return run


def _user_folder() -> Path:
    told = os.environ.get("BNAS_CACHE")
    if told:
        return Path(told)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "bnas"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnas"


def kernels_name() -> str:
    """Return a name that changes with everything that the machine code depends on."""
    parts = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in MADE_OF]
    parts += [text.encode() for text in (version("numba"), llvmlite.__version__, sys.platform, cpu())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
